/* A safetensors file: all its tensors are read. */
#include "fuzz.h"

#include "io/weights.h"

void fuzz_prepare(void) {
}

static void read_all(struct weights *weights) {
    volatile float sum = 0;
    for (size_t i = 0; i < weights_count(weights); ++i) {
        const struct tensor *tensor = weights_at(weights, i);
        FAULT_UNLESS(weights_find(weights, tensor->name) == tensor, "%s", tensor->name);
        struct problem problem = {0};
        const float *values = weights_floats(weights, tensor, &problem);
        fuzz_check(values != NULL, &problem);
        for (size_t j = 0; values != NULL && j < tensor->count; ++j)
            sum = sum + values[j];
        problem = (struct problem){0};
        values = weights_pretrained(weights, tensor->name, tensor->shape[0],
                                    tensor->num_dimensions > 1 ? tensor->shape[1] : 1, &problem);
        fuzz_check(values != NULL, &problem);
    }
}

void fuzz_one(const char *bytes, size_t size) {
    const char *path = fuzz_put("model.safetensors", (struct part){bytes, size});
    struct problem problem = {0};
    struct weights *weights = weights_open(path, &problem);
    fuzz_check(weights != NULL, &problem);
    if (weights == NULL)
        return;
    read_all(weights);
    problem = (struct problem){0};
    fuzz_check(weights_pretrained(weights, "bert.embeddings.LayerNorm.weight", 2, 1, &problem) !=
                   NULL,
               &problem);
    weights_close(&weights);
}
