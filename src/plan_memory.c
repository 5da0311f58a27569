/* The memory of every stage, seen in a rehearsal: each phase takes what it would take, nothing of
 * it is written to. */
#include "plan.h"

#include "base/memory.h"

#include <string.h>

static const char *const NAMES[NUM_MEMORY_KINDS] = {
    [MEMORY_PROGRAM] = "program and libraries",
    [MEMORY_DATA] = "data",
    [MEMORY_FROZEN] = "frozen weights, not mapped",
    [MEMORY_FACTORS] = "factors and optimizer",
    [MEMORY_ACTIVATIONS] = "activations",
    [MEMORY_KEPT] = "activations kept for tangents",
    [MEMORY_WORKSPACE] = "workspace",
    [MEMORY_MESSAGES] = "transfer buffers",
    [MEMORY_CACHES] = "caches of generation",
    [MEMORY_OTHER] = "other",
};

const char *plan_memory_name(enum plan_memory kind) {
    return NAMES[kind];
}

/* What the blocks of a phase are called where they are taken. */
static enum plan_memory kind_of(const char *what) {
    static const struct {
        const char *what;
        enum plan_memory kind;
    } labels[] = {
        {"activations", MEMORY_ACTIVATIONS},
        {"kept activations", MEMORY_KEPT},
        {"the workspace", MEMORY_WORKSPACE},
        {"transfer buffers", MEMORY_MESSAGES},
        {"a reduction", MEMORY_MESSAGES},
        {"the decoder", MEMORY_CACHES},
        {"logits", MEMORY_CACHES},
        {"hidden states", MEMORY_CACHES},
        {"factors", MEMORY_FACTORS},
        {"optimizer state", MEMORY_FACTORS},
        {"a gradient", MEMORY_FACTORS},
        {"the hypergradient", MEMORY_FACTORS},
        {"selection variables", MEMORY_FACTORS},
        {"selection logits", MEMORY_FACTORS},
        {"a batch", MEMORY_DATA},
        {"a sampler", MEMORY_DATA},
        {"the split", MEMORY_DATA},
        {"the training set", MEMORY_DATA},
    };
    for (size_t i = 0; i < sizeof labels / sizeof *labels; ++i)
        if (strcmp(labels[i].what, what) == 0)
            return labels[i].kind;
    return MEMORY_OTHER;
}

/* One phase of one stage on its way. */
struct rehearsal {
    struct plan *plan;
    struct plan_stage *stage;
    size_t bytes[NUM_MEMORY_KINDS];
};

static void count(void *context, const char *what, size_t bytes, bool is_freed) {
    struct rehearsal *rehearsal = context;
    size_t *sum = &rehearsal->bytes[kind_of(what)];
    *sum = is_freed ? *sum - bytes : *sum + bytes;
}

/* Keeps the phase that takes most. */
static void look(void *context, enum phase phase, const struct stage *stage, size_t num_steps) {
    struct rehearsal *rehearsal = context;
    const bool is_search = phase == PHASE_SEARCH;
    (is_search ? &rehearsal->plan->search : &rehearsal->plan->training)->num_steps = num_steps;
    rehearsal->stage->factors[is_search ? 0 : 1] = stage->factors.size + stage->selection_size;
    size_t now = 0, most = 0;
    for (size_t i = 0; i < NUM_MEMORY_KINDS; ++i) {
        now += rehearsal->bytes[i];
        most += rehearsal->stage->bytes[i];
    }
    if (now > most)
        memcpy(rehearsal->stage->bytes, rehearsal->bytes, sizeof rehearsal->bytes);
}

static bool rehearse_search(struct planner *planner, struct rehearsal *rehearsal,
                            struct problem *problem) {
    const struct stage_request request =
        method_autolora_request(&planner->input, planner->search_ranks);
    struct stage *stage = planner->input.create_stage(planner, &request, problem);
    const bool is_good =
        search_rehearse(&planner->trainer, planner->input.search, stage, look, rehearsal, problem);
    stage_destroy(&stage);
    return is_good;
}

/* Reads a row for every word that comes up, and returns what has become resident: the kernel maps
 * its neighbourhood too. */
static size_t read_words(const struct dataset *dataset, const unsigned char *rows,
                         size_t row_bytes) {
    const size_t before = memory_resident_now();
    volatile unsigned char seen = 0;
    const size_t tokens = dataset->num_examples == 0 ? 0 : dataset->offsets[dataset->num_examples];
    for (size_t i = 0; i < tokens; ++i)
        seen = rows[(size_t)dataset->token_ids[i] * row_bytes];
    (void)seen;
    const size_t after = memory_resident_now();
    return after > before ? after - before : 0;
}

/* Of the word embedding a run reads what its data need. */
static size_t words_bytes(struct planner *planner, const struct tensor *words, size_t row_bytes) {
    const struct job *job = planner->job;
    const struct dataset *sets[] = {&job->train, &job->dev, &job->other_dev, &job->test};
    for (size_t i = 0; i < sizeof sets / sizeof *sets && !planner->has_words; ++i)
        planner->words_bytes += read_words(sets[i], words->data, row_bytes);
    planner->has_words = true;
    return planner->words_bytes;
}

/* Adds a frozen tensor; the parts of a fused projection are one. */
static bool add_frozen(struct planner *planner, const struct stage_weight *weight, bool is_words,
                       struct plan_stage *stage, struct problem *problem) {
    const size_t row_bytes = weight->columns * sizeof(float), bytes = weight->rows * row_bytes;
    const struct weights *checkpoint = planner->job->weights;
    const struct tensor *tensor = NULL;
    if (checkpoint != NULL) {
        tensor = weights_check(checkpoint, weight->name, weight->rows, weight->columns, problem);
        if (tensor == NULL)
            return false;
    }
    const bool is_mapped = tensor == NULL || tensor_is_mapped(tensor);
    stage->mapped_bytes += tensor == NULL          ? bytes
                           : is_mapped && is_words ? words_bytes(planner, tensor, row_bytes)
                                                   : tensor->bytes;
    stage->bytes[MEMORY_FROZEN] += is_mapped ? 0 : bytes;
    return true;
}

static bool has_name_before(const struct stage_weight *weights, size_t i) {
    for (size_t j = 0; j < i; ++j)
        if (strcmp(weights[j].name, weights[i].name) == 0)
            return true;
    return false;
}

/* Is the word embedding of this stage its task head too? */
static bool has_tied(const struct stage_weight *weights, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (weights[i].is_tied)
            return true;
    return false;
}

/* Pretrained tensors that are trained are read from the map too. */
static bool count_frozen(struct planner *planner, struct stage *stage, struct plan_stage *planned,
                         struct problem *problem) {
    size_t num_weights;
    struct stage_weight *weights = stage_weights(stage, &num_weights);
    bool is_good = true;
    for (size_t i = 0; i < num_weights && is_good; ++i)
        is_good =
            has_name_before(weights, i) || add_frozen(planner, &weights[i],
                                                      weights[i].place == &stage->embedding.words &&
                                                          !has_tied(weights, num_weights),
                                                      planned, problem);
    stage_weights_free(weights, num_weights);
    for (size_t i = 0; i < stage->factors.count && is_good && planner->job->weights != NULL; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        const struct stage_weight weight = {
            .name = entry->name, .rows = entry->rows, .columns = entry->columns};
        is_good = !entry->is_pretrained || add_frozen(planner, &weight, false, planned, problem);
    }
    const double rest = 1 - (double)planned->mapped_bytes / (double)planner->checkpoint_bytes;
    if (planner->checkpoint_bytes > 0 && rest > 0)
        planned->mapped_bytes += (size_t)(rest * (double)planner->checksum_bytes);
    return is_good;
}

static bool rehearse_training(struct planner *planner, struct rehearsal *rehearsal,
                              struct problem *problem) {
    const struct stage_request request =
        planner->method->training_request(&planner->input, planner->ranks);
    struct stage *stage = planner->input.create_stage(planner, &request, problem);
    method_rehearse_training(&planner->input, stage, look, rehearsal);
    memory_rehearse(NULL, NULL);
    const bool is_good = count_frozen(planner, stage, rehearsal->stage, problem);
    stage_destroy(&stage);
    return is_good;
}

static bool rehearse_stage(struct planner *planner, struct plan *plan, size_t s,
                           struct problem *problem) {
    struct plan_stage *stage = &plan->stages[s];
    struct rehearsal rehearsal = {.plan = plan, .stage = stage};
    job_pretend_stage(planner->job, s);
    planner->trainer = job_trainer(planner->job);
    stage->part = job_stage_part(planner->job);
    const size_t data = memory_bytes_now();
    memory_rehearse(count, &rehearsal);
    const bool is_good = (!planner->searches || rehearse_search(planner, &rehearsal, problem)) &&
                         rehearse_training(planner, &rehearsal, problem);
    memory_rehearse(NULL, NULL);
    stage->bytes[MEMORY_DATA] += data;
    stage->bytes[MEMORY_PROGRAM] = planner->program_bytes;
    return is_good;
}

bool plan_rehearse(struct planner *planner, struct plan *plan, struct problem *problem) {
    const size_t stages = plan->layout.stages;
    plan->stages = memory_allocate(stages, sizeof *plan->stages, "a plan");
    for (size_t s = 0; s < stages; ++s) {
        if (!rehearse_stage(planner, plan, s, problem))
            return false;
        if (plan_stage_resident(&plan->stages[s]) >
            plan_stage_resident(&plan->stages[plan->heaviest]))
            plan->heaviest = s;
    }
    return true;
}
