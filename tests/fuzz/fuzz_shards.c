/* model.safetensors.index.json and the shards that it names. */
#include "fuzz.h"

#include "io/weights.h"

enum { NUM_SHARDS = 2 };

void fuzz_prepare(void) {
}

void fuzz_one(const char *bytes, size_t size) {
    struct part parts[1 + NUM_SHARDS];
    fuzz_cut(bytes, size, parts, 1 + NUM_SHARDS);
    fuzz_put("model.safetensors.index.json", parts[0]);
    fuzz_put("model-1.safetensors", parts[1]);
    fuzz_put("model-2.safetensors", parts[2]);
    struct problem problem = {0};
    struct weights *weights = weights_open_model(fuzz_folder(), &problem);
    fuzz_check(weights != NULL, &problem);
    for (size_t i = 0; weights != NULL && i < weights_count(weights); ++i) {
        problem = (struct problem){0};
        fuzz_check(weights_floats(weights, weights_at(weights, i), &problem) != NULL, &problem);
    }
    weights_close(&weights);
}
