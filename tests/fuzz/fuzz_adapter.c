/* A PEFT adapter directory, for a small model of each kind of projection: adapter_config.json, then
 * adapter_model.safetensors. The first byte says for which model and task. */
#include "fuzz.h"

#include "peft_adapter.h"

enum { HIDDEN = 2, INNER = 3, BLOCKS = 2, RANK = 2, NUM_LABELS = 2, MOST_MODULES = 12 };

/* A job and its stage. */
struct model {
    struct job job;
    struct stage *stage;
    size_t ranks[MOST_MODULES];
    float scales[MOST_MODULES];
};
static struct model models[NUM_FAMILIES];

static void make_model(struct model *model, enum model_family family) {
    model->job.architecture = (struct architecture){
        .family = family,
        .vocabulary_size = 4,
        .hidden_size = HIDDEN,
        .num_blocks = BLOCKS,
        .num_attention_heads = 1,
        .intermediate_size = INNER,
        .max_positions = 4,
        .num_token_types = family == FAMILY_GPT2 ? 0 : 1,
    };
    model->job.config.adapter.alpha = 16;
    bool *is_target = model->job.config.adapter.is_target;
    is_target[PROJECTION_QUERY] = is_target[PROJECTION_VALUE] = true;
    is_target[PROJECTION_OUTPUT] = family == FAMILY_ROBERTA;
    model->job.num_modules = BLOCKS * (2 + (family == FAMILY_ROBERTA));
    for (size_t m = 0; m < MOST_MODULES; ++m) {
        model->ranks[m] = RANK;
        model->scales[m] = 1;
    }
    struct stage_options options = {
        .architecture = model->job.architecture,
        .adapters = {.ranks = model->ranks, .scales = model->scales},
        .head_kind = family == FAMILY_GPT2      ? HEAD_LANGUAGE_MODELING
                     : family == FAMILY_ROBERTA ? HEAD_TOKEN_CLASSIFICATION
                                                : HEAD_SEQUENCE_CLASSIFICATION,
        .num_labels = NUM_LABELS,
        .num_blocks = BLOCKS,
        .has_embedding = true,
        .has_task_head = true,
    };
    memcpy(options.adapters.is_target, is_target, sizeof options.adapters.is_target);
    model->stage = stage_create(&options);
}

void fuzz_prepare(void) {
    for (int family = 0; family < NUM_FAMILIES; ++family)
        make_model(&models[family], (enum model_family)family);
}

static void start(const struct peft_adapter *adapter, const struct model *model) {
    size_t ranks[MOST_MODULES];
    float scales[MOST_MODULES];
    peft_adapter_ranks(adapter, ranks);
    peft_adapter_scales(adapter, ranks, scales);
    struct problem problem = {0};
    float *factors = memory_allocate(model->stage->factors.size, sizeof *factors, "factors");
    fuzz_check(peft_adapter_start(adapter, model->stage, factors, &problem), &problem);
    memory_free(factors);
}

void fuzz_one(const char *bytes, size_t size) {
    struct part parts[2];
    fuzz_cut(bytes, size, parts, 2);
    const struct model *model = &models[fuzz_take_byte(&parts[0]) % NUM_FAMILIES];
    fuzz_put("adapter_config.json", parts[0]);
    fuzz_put("adapter_model.safetensors", parts[1]);
    struct problem problem = {0};
    struct peft_adapter *adapter = peft_adapter_open(&model->job, fuzz_folder(), &problem);
    fuzz_check(adapter != NULL, &problem);
    if (adapter != NULL)
        start(adapter, model);
    peft_adapter_close(&adapter);
}
