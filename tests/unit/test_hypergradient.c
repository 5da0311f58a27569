/* The pipeline in one process and the hypergradient against PyTorch's double backward: all
 * constraints, recipes and second-order terms, the batches cut into 1, 2 and 3 microbatches; and,
 * with dropout, the passes against differences of the loss. */
#include "train/hypergradient.h"

#include "base/random.h"
#include "fixture.h"
#include "model/selection.h"
#include "reference.h"
#include "train/importance.h"
#include "train/pipeline.h"

#include <mpi.h>

enum { LARGEST_COUNT = 3, NUM_KINDS = 3 };
static const char *const CONSTRAINTS[] = {"softmax", "sigmoid", "none"};
static const char *const RECIPES[] = {"paper", "reference"};
static const char *const KINDS[] = {
    [HYPERGRADIENT_EXACT] = "exact",
    [HYPERGRADIENT_FINITE_DIFFERENCE] = "finite_difference",
    [HYPERGRADIENT_FIRST_ORDER] = "first_order",
};
static const double TOLERANCES[] = {
    [HYPERGRADIENT_EXACT] = 1e-3,
    [HYPERGRADIENT_FINITE_DIFFERENCE] = 2e-2,
    [HYPERGRADIENT_FIRST_ORDER] = 1e-3,
};

/* ---- a model of one stage, and the fixture's batches ---- */

struct setup {
    struct fixture fixture;
    size_t num_modules, size; /* size: of the selection */
    size_t *ranks;
    float *scales;
    struct stage *stage;
    float *factors, *logits, *selection;
    struct dataset train, validation;
};

static struct dataset dataset_of(const struct fixture *fixture, const char *name) {
    struct fixture_batch batch = fixture_batch(fixture, name);
    const struct microbatch *all = &batch.microbatch;
    struct dataset dataset = {
        .kind = fixture->head_kind == HEAD_SEQUENCE_CLASSIFICATION ? TASK_SEQUENCE_CLASSIFICATION
                                                                   : TASK_TOKEN_CLASSIFICATION,
        .num_examples = all->num_sequences,
        .offsets = batch.offsets,
        .token_ids = batch.token_ids,
        .type_ids = batch.type_ids,
        .labels = batch.labels,
        .longest = all->longest,
    };
    memory_free(batch.pair_offsets);
    memory_free(batch.sequence_numbers);
    memory_free(batch.samples);
    return dataset;
}

static struct stage_options stage_options_of(const struct setup *setup, float dropout) {
    const struct fixture *fixture = &setup->fixture;
    const size_t modules = json_count(json_get(fixture->description, "modules"));
    const bool all = modules > 2 * fixture->architecture.num_blocks;
    struct stage_options options = {
        .architecture = fixture->architecture,
        .adapters =
            {
                .is_target = {true, all, true, all, all, all},
                .ranks = setup->ranks,
                .scales = setup->scales,
                .dropout = dropout,
                .num_components = fixture->k,
            },
        .head_kind = fixture->head_kind,
        .num_labels = fixture->num_labels,
        .num_blocks = fixture->architecture.num_blocks,
        .has_embedding = true,
        .has_task_head = true,
        .seed = 7,
    };
    fixture_set_dropout(&options.architecture, dropout, dropout);
    return options;
}

static void load_factors(struct setup *setup) {
    const struct parameter_table *table = &setup->stage->factors;
    setup->factors = memory_allocate(table->size, sizeof(float), "factors");
    for (size_t i = 0; i < table->count; ++i)
        fixture_factor(&setup->fixture, &table->entries[i], "parameters.", setup->factors);
}

static struct setup setup_open(const char *folder, float dropout) {
    struct setup setup = {.fixture = fixture_open(folder)};
    const struct fixture *fixture = &setup.fixture;
    setup.num_modules = json_count(json_get(fixture->description, "modules"));
    setup.size = setup.num_modules * fixture->k;
    setup.ranks = memory_allocate(setup.num_modules, sizeof *setup.ranks, "ranks");
    setup.scales = memory_allocate(setup.num_modules, sizeof *setup.scales, "scales");
    for (size_t m = 0; m < setup.num_modules; ++m) {
        setup.ranks[m] = fixture->k;
        setup.scales[m] = (float)fixture->lora_alpha / (float)fixture->k;
    }
    const struct stage_options options = stage_options_of(&setup, dropout);
    setup.stage = stage_create(&options);
    fixture_load_stage(fixture, setup.stage);
    load_factors(&setup);
    setup.logits = fixture_modules(fixture, "parameters.selection_logits.");
    setup.selection = memory_allocate(setup.size, sizeof(float), "selection");
    setup.train = dataset_of(fixture, "train");
    setup.validation = dataset_of(fixture, "validation");
    return setup;
}

static void setup_close(struct setup *setup) {
    stage_destroy(&setup->stage);
    dataset_free(&setup->train);
    dataset_free(&setup->validation);
    memory_free(setup->ranks);
    memory_free(setup->scales);
    memory_free(setup->factors);
    memory_free(setup->logits);
    memory_free(setup->selection);
    fixture_close(&setup->fixture);
}

/* The whole dataset as one batch of `count` microbatches. */
static struct batch *batch_of(const struct dataset *dataset, size_t count, bool has_dropout) {
    const size_t tokens = dataset->offsets[dataset->num_examples];
    const size_t microbatch_tokens = (tokens + count - 1) / count;
    struct batch *batch = batch_create(dataset->num_examples, dataset->longest, microbatch_tokens);
    uint32_t examples[16];
    for (uint32_t i = 0; i < dataset->num_examples; ++i)
        examples[i] = i;
    batch_fill(batch, dataset, examples, dataset->num_examples, 5, has_dropout);
    assert_int_equal(batch->num_microbatches, count);
    return batch;
}

static struct pipeline *pipeline_of(const struct setup *setup) {
    const struct comms comms = fixture_comms(MPI_COMM_WORLD);
    const size_t examples = setup->train.num_examples, longest = setup->train.longest;
    const struct pipeline_options options = {
        .capacity = batch_capacity(
            examples, longest > setup->validation.longest ? longest : setup->validation.longest,
            setup->train.offsets[examples]),
        .largest_count = LARGEST_COUNT,
        .keeps_tangents = true,
        .num_threads = 8,
    };
    return pipeline_create(&comms, setup->stage, &options);
}

static struct gradient gradient_make(const struct setup *setup) {
    return (struct gradient){
        reference_filled(setup->stage->factors.size, NAN),
        reference_filled(setup->size, NAN),
    };
}

static void gradient_free(struct gradient *gradient) {
    memory_free(gradient->factors);
    memory_free(gradient->selection);
}

/* ---- against PyTorch ---- */

struct problem_at { /* one constraint, one way to cut the batches */
    struct setup *setup;
    enum selection_constraint constraint;
    struct pipeline *pipeline;
    struct batch *train, *validation;
    float *lookahead;
};

/* W' = W - eta grad W; checks loss and gradients on the way. */
static void take_lookahead(const struct problem_at *at) {
    const struct setup *setup = at->setup;
    const char *name = CONSTRAINTS[at->constraint];
    struct gradient gradient = gradient_make(setup);
    const struct point point = {setup->factors, setup->selection};
    const float loss = (float)pipeline_gradient(at->pipeline, &point, at->train, true, &gradient);
    assert_close(&loss, fixture_tensor(&setup->fixture, NULL, "%s.train.loss", name), 1, 1e-5,
                 "loss");
    char *prefix = memory_format("%s.train.grad.", name);
    float *expected = fixture_factors(&setup->fixture, &setup->stage->factors, prefix);
    assert_close(gradient.factors, expected, setup->stage->factors.size, 1e-4, prefix);
    for (size_t i = 0; i < setup->stage->factors.size; ++i)
        at->lookahead[i] = setup->factors[i] - (float)setup->fixture.eta * gradient.factors[i];
    memory_free(expected);
    memory_free(prefix);
    gradient_free(&gradient);
}

static struct hypergradient_request request_of(const struct problem_at *at,
                                               enum search_recipe recipe) {
    const bool is_paper = recipe == RECIPE_PAPER;
    return (struct hypergradient_request){
        .lookahead = at->lookahead,
        .point = is_paper ? at->setup->factors : at->lookahead,
        .selection = at->setup->selection,
        .coefficient = is_paper ? at->setup->fixture.eta : 1,
        .train = at->train,
        .validation = at->validation,
    };
}

static void check_kind(const struct problem_at *at, enum search_recipe recipe,
                       enum hypergradient_kind kind) {
    const struct setup *setup = at->setup;
    struct hypergradient *h = hypergradient_create(at->pipeline, kind, (int)at->constraint, 0);
    struct hypergradient_request request = request_of(at, recipe);
    char *prefix = memory_format("hypergradient.%s.%s.%s.", CONSTRAINTS[at->constraint],
                                 RECIPES[recipe], KINDS[kind]);
    float *expected = fixture_modules(&setup->fixture, prefix);
    float *d_logits = reference_filled(setup->size, NAN);
    const double loss = hypergradient_compute(h, &request, d_logits);
    assert_close(d_logits, expected, setup->size, TOLERANCES[kind], prefix);
    const struct point lookahead = {at->lookahead, setup->selection};
    assert_true(loss == pipeline_evaluate(at->pipeline, &lookahead, at->validation, NULL, NULL));
    memory_free(d_logits);
    memory_free(expected);
    memory_free(prefix);
    hypergradient_destroy(&h);
}

static struct problem_at problem_open(struct setup *setup, enum selection_constraint constraint,
                                      size_t count, bool has_dropout) {
    selection_forward(constraint, setup->logits, setup->num_modules, setup->fixture.k,
                      setup->selection);
    return (struct problem_at){
        .setup = setup,
        .constraint = constraint,
        .pipeline = pipeline_of(setup),
        .train = batch_of(&setup->train, count, has_dropout),
        .validation = batch_of(&setup->validation, count, has_dropout),
        .lookahead = reference_filled(setup->stage->factors.size, NAN),
    };
}

static void problem_close(struct problem_at *at) {
    pipeline_destroy(&at->pipeline);
    batch_destroy(&at->train);
    batch_destroy(&at->validation);
    memory_free(at->lookahead);
}

static void check_fixture(const char *folder) {
    struct setup setup = setup_open(folder, 0);
    for (int constraint = 0; constraint < 3; ++constraint)
        for (size_t count = 1; count <= LARGEST_COUNT; ++count) {
            struct problem_at at =
                problem_open(&setup, (enum selection_constraint)constraint, count, false);
            take_lookahead(&at);
            for (int recipe = 0; recipe < 2; ++recipe)
                for (int kind = 0; kind < NUM_KINDS; ++kind)
                    check_kind(&at, (enum search_recipe)recipe, (enum hypergradient_kind)kind);
            problem_close(&at);
        }
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_sequence_classification(void **state) {
    (void)state;
    check_fixture("bert-sequence");
}

static void test_token_classification(void **state) {
    (void)state;
    check_fixture("bert-token");
}

static void test_other_families(void **state) {
    (void)state;
    check_fixture("roberta-sequence");
    check_fixture("roberta-token");
    check_fixture("gpt2-language");
}

/* What was kept by the look-ahead's own pass need not be computed again. */
static void test_kept_pass(void **state) {
    (void)state;
    struct setup setup = setup_open("bert-sequence", 0);
    struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, 2, false);
    struct hypergradient *h = hypergradient_create(at.pipeline, HYPERGRADIENT_EXACT, 0, 0);
    float *fresh = reference_filled(setup.size, NAN), *kept = reference_filled(setup.size, NAN);
    take_lookahead(&at);
    struct hypergradient_request request = request_of(&at, RECIPE_PAPER);
    request.is_kept = true;
    hypergradient_compute(h, &request, kept);
    request.is_kept = false;
    hypergradient_compute(h, &request, fresh);
    assert_same_bits(kept, fresh, setup.size, "hypergradient", "kept");
    memory_free(fresh);
    memory_free(kept);
    hypergradient_destroy(&h);
    problem_close(&at);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

/* The entropy's part, by differences of the entropy at other logits. */
static void check_entropy(struct setup *setup, enum selection_constraint constraint) {
    const double weight = 0.3, step = 1e-3;
    const size_t k = setup->fixture.k;
    struct problem_at at = problem_open(setup, constraint, 2, false);
    take_lookahead(&at);
    const struct hypergradient_request request = request_of(&at, RECIPE_PAPER);
    float *plain = reference_filled(setup->size, NAN), *with = reference_filled(setup->size, NAN);
    for (int i = 0; i < 2; ++i) {
        struct hypergradient *h = hypergradient_create(at.pipeline, HYPERGRADIENT_EXACT,
                                                       (int)constraint, i == 0 ? 0 : weight);
        hypergradient_compute(h, &request, i == 0 ? plain : with);
        hypergradient_destroy(&h);
    }
    float *logits = reference_filled(k, NAN), *q = reference_filled(k, NAN);
    for (size_t i = 0; i < setup->size; ++i) {
        double entropy[2];
        for (int side = 0; side < 2; ++side) {
            memcpy(logits, setup->logits + i / k * k, k * sizeof *logits);
            logits[i % k] += (float)(side == 0 ? step : -step);
            selection_forward(constraint, logits, 1, k, q);
            entropy[side] = selection_entropy(q, k);
        }
        const double slope = weight * (entropy[0] - entropy[1]) / (2 * step);
        const double found = (double)with[i] - (double)plain[i];
        if (!(fabs(found - slope) < 1e-3 * fabs(slope) + 2e-4))
            fail_msg("%s, logit %zu: %g, not %g", CONSTRAINTS[constraint], i, found, slope);
    }
    memory_free(logits);
    memory_free(q);
    memory_free(plain);
    memory_free(with);
    problem_close(&at);
}

static void test_entropy_in_the_loss(void **state) {
    (void)state;
    struct setup setup = setup_open("bert-token", 0);
    for (int constraint = 0; constraint < 3; ++constraint)
        check_entropy(&setup, (enum selection_constraint)constraint);
    setup_close(&setup);
}

/* ---- importance ---- */

static void check_module_importance(const struct setup *setup, size_t module,
                                    const struct gradient *gradient, const float *moments) {
    const size_t k = setup->fixture.k;
    const float *left = moments + k, *right = left + k * k;
    double sum = 0, left_trace = 0, right_trace = 0;
    for (size_t j = 0; j < k; ++j) {
        const size_t i = module * k + j;
        const double value = (double)setup->selection[i] * (double)gradient->selection[i];
        if (!(fabs((double)moments[j] - 0.01 * fabs(value)) < 1e-5 * fabs(value) + 1e-9))
            fail_msg("module %zu, component %zu: %g, not %g", module, j, (double)moments[j],
                     0.01 * fabs(value));
        sum += 0.01 * value * value;
        left_trace += (double)left[j * k + j];
        right_trace += (double)right[j * k + j];
    }
    assert_true(fabs(left_trace / right_trace - 1) < 1e-5); /* both |G|^2 */
    assert_true(left_trace > sum * (1 - 1e-5));
}

/* The diagonal of the gradient between z and B is q_j dL/dq_j: from B's gradient and from q's. */
static void test_importance_is_gradient_times_value(void **state) {
    (void)state;
    struct setup setup = setup_open("bert-token", 0);
    struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, 2, false);
    const size_t size = importance_moments_size(setup.fixture.k);
    struct gradient gradient = gradient_make(&setup);
    const struct point point = {setup.factors, setup.selection};
    pipeline_gradient(at.pipeline, &point, at.train, false, &gradient);
    float *moments = reference_filled(setup.num_modules * size, 0);
    importance_observe(setup.stage, setup.factors, gradient.factors, moments);
    for (size_t m = 0; m < setup.num_modules; ++m)
        check_module_importance(&setup, m, &gradient, moments + m * size);
    memory_free(moments);
    gradient_free(&gradient);
    problem_close(&at);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

/* ---- the pipeline ---- */

static double norm_of(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

static void test_norm(void **state) {
    (void)state;
    struct setup setup = setup_open("bert-token", 0);
    struct pipeline *pipeline = pipeline_of(&setup);
    const size_t size = setup.stage->factors.size;
    const double expected = norm_of(setup.factors, size);
    assert_true(fabs(pipeline_norm(pipeline, setup.factors) / expected - 1) < 1e-12);
    pipeline_destroy(&pipeline);
    setup_close(&setup);
}

struct seen {
    size_t calls, rows, num_labels;
    double sum;
};

static void see_logits(void *context, const struct batch *batch, size_t microbatch,
                       const float *logits) {
    struct seen *seen = context;
    assert_int_equal(microbatch, seen->calls++);
    const size_t rows = batch->microbatches[microbatch].num_sequences;
    seen->rows += rows;
    for (size_t i = 0; i < rows * seen->num_labels; ++i)
        seen->sum += (double)logits[i];
}

static void test_evaluation_shows_all_logits(void **state) {
    (void)state;
    struct setup setup = setup_open("bert-sequence", 0);
    struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, 3, false);
    const struct point point = {setup.factors, setup.selection};
    struct seen seen = {.num_labels = setup.fixture.num_labels};
    const float loss =
        (float)pipeline_evaluate(at.pipeline, &point, at.validation, see_logits, &seen);
    assert_close(&loss, fixture_tensor(&setup.fixture, NULL, "softmax.validation.loss"), 1, 1e-5,
                 "validation loss");
    size_t count;
    const float *logits = fixture_tensor(&setup.fixture, &count, "softmax.validation.logits");
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += (double)logits[i];
    assert_int_equal(seen.calls, 3);
    assert_int_equal(seen.rows, setup.validation.num_examples);
    assert_true(fabs(seen.sum - sum) < 1e-4);
    problem_close(&at);
    setup_close(&setup);
}

/* ---- with dropout ---- */

/* The loss at factors + step * direction, q + step * d_q. */
static double loss_at(const struct problem_at *at, const float *direction, const float *d_q,
                      float step) {
    const struct setup *setup = at->setup;
    const size_t size = setup->stage->factors.size;
    float *factors = reference_filled(size, 0), *q = reference_filled(setup->size, 0);
    for (size_t i = 0; i < size; ++i)
        factors[i] = setup->factors[i] + step * direction[i];
    for (size_t i = 0; i < setup->size; ++i)
        q[i] = setup->selection[i] + step * d_q[i];
    const struct point point = {factors, q};
    const double loss = pipeline_evaluate(at->pipeline, &point, at->train, NULL, NULL);
    memory_free(factors);
    memory_free(q);
    return loss;
}

/* The gradient moves the loss as it says: along itself, entry of the table by entry. */
static void check_gradient_by_differences(const struct problem_at *at) {
    const struct setup *setup = at->setup;
    const struct parameter_table *table = &setup->stage->factors;
    struct gradient gradient = gradient_make(setup);
    float *direction = reference_filled(table->size, 0), *d_q = reference_filled(setup->size, 0);
    const struct point point = {setup->factors, setup->selection};
    pipeline_gradient(at->pipeline, &point, at->train, false, &gradient);
    for (size_t e = 0; e <= table->count; ++e) {
        const bool is_factor = e < table->count;
        const size_t begin = is_factor ? table->entries[e].offset : 0;
        const size_t count =
            is_factor ? table->entries[e].rows * table->entries[e].columns : setup->size;
        const float *part = is_factor ? gradient.factors + begin : gradient.selection;
        float *moved = is_factor ? direction + begin : d_q;
        const double norm = norm_of(part, count);
        for (size_t i = 0; i < count; ++i)
            moved[i] = (float)((double)part[i] / norm);
        const float step = 1e-2f;
        const double slope =
            (loss_at(at, direction, d_q, step) - loss_at(at, direction, d_q, -step)) /
            (2 * (double)step);
        if (!(fabs(slope - norm) < 1e-2 * norm + 2e-5))
            fail_msg("%s: slope %g, gradient %g", is_factor ? table->entries[e].name : "q", slope,
                     norm);
        memset(moved, 0, count * sizeof *moved);
    }
    memory_free(direction);
    memory_free(d_q);
    gradient_free(&gradient);
}

/* d (d loss / d q) along `direction` by a difference of the gradient. */
static void selection_gradient_at(const struct problem_at *at, const float *direction, float step,
                                  float *d_selection) {
    const size_t size = at->setup->stage->factors.size;
    struct gradient gradient = gradient_make(at->setup);
    float *factors = reference_filled(size, 0);
    for (size_t i = 0; i < size; ++i)
        factors[i] = at->setup->factors[i] + step * direction[i];
    const struct point point = {factors, at->setup->selection};
    pipeline_gradient(at->pipeline, &point, at->train, false, &gradient);
    memcpy(d_selection, gradient.selection, at->setup->size * sizeof *d_selection);
    memory_free(factors);
    gradient_free(&gradient);
}

static void check_tangent_by_differences(const struct problem_at *at) {
    const struct setup *setup = at->setup;
    const float step = 5e-3f;
    float *direction = reference_values(setup->stage->factors.size, 0.3f, 8);
    float *above = reference_filled(setup->size, 0), *below = reference_filled(setup->size, 0);
    float *tangent = reference_filled(setup->size, NAN);
    double *expected = memory_allocate(setup->size, sizeof *expected, "expected");
    selection_gradient_at(at, direction, step, above);
    selection_gradient_at(at, direction, -step, below);
    for (size_t i = 0; i < setup->size; ++i)
        expected[i] = ((double)above[i] - (double)below[i]) / (2 * (double)step);
    struct gradient gradient = gradient_make(setup);
    const struct point point = {setup->factors, setup->selection};
    pipeline_gradient(at->pipeline, &point, at->train, true, &gradient);
    pipeline_tangent(at->pipeline, &point, direction, at->train, tangent);
    assert_near(tangent, expected, setup->size, 1, 1e-2, "dropout", "tangent");
    gradient_free(&gradient);
    memory_free(direction);
    memory_free(above);
    memory_free(below);
    memory_free(tangent);
    memory_free(expected);
}

static void check_dropout(const char *folder) {
    struct setup setup = setup_open(folder, 0.2f);
    double losses[LARGEST_COUNT];
    for (size_t count = 1; count <= LARGEST_COUNT; ++count) {
        struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, count, true);
        const struct point point = {setup.factors, setup.selection};
        losses[count - 1] = pipeline_evaluate(at.pipeline, &point, at.train, NULL, NULL);
        check_gradient_by_differences(&at);
        check_tangent_by_differences(&at);
        problem_close(&at);
    }
    /* the same masks, however the batch is cut; and there are masks */
    const double plain = (double)*fixture_tensor(&setup.fixture, NULL, "softmax.train.loss");
    assert_true(fabs(losses[0] - plain) > 1e-3);
    for (size_t i = 1; i < LARGEST_COUNT; ++i)
        assert_true(fabs(losses[i] / losses[0] - 1) < 1e-5);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_dropout_sequence_classification(void **state) {
    (void)state;
    check_dropout("bert-sequence");
}

static void test_dropout_token_classification(void **state) {
    (void)state;
    check_dropout("bert-token");
}

static void test_dropout_other_families(void **state) {
    (void)state;
    check_dropout("roberta-sequence");
    check_dropout("gpt2-language");
}

static void test_dropout_is_for_training_only(void **state) {
    (void)state;
    static const char *const FOLDERS[] = {"bert-sequence", "bert-token"};
    for (int i = 0; i < 2; ++i) {
        struct setup setup = setup_open(FOLDERS[i], 0.2f);
        struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, 2, false);
        take_lookahead(&at);
        problem_close(&at);
        setup_close(&setup);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

/* A part of the model as a stage of its own, with one kind of dropout. */
enum part {
    PART_EMBEDDING,
    PART_BLOCK_HIDDEN,
    PART_BLOCK_ATTENTION,
    PART_BLOCK_ADAPTER,
    PART_HEAD
};
enum { NUM_PARTS = PART_HEAD + 1 };

/* What the random numbers of a part depend on. */
struct draw {
    uint64_t seed;
    size_t block;
    struct microbatch microbatch;
};

static struct stage_options part_options(const struct setup *setup, enum part part,
                                         const struct draw *draw) {
    struct stage_options options = stage_options_of(setup, 0);
    const bool is_hidden = part == PART_EMBEDDING || part == PART_BLOCK_HIDDEN || part == PART_HEAD;
    fixture_set_dropout(&options.architecture, is_hidden ? 0.2f : 0,
                        part == PART_BLOCK_ATTENTION ? 0.2f : 0);
    options.adapters.dropout = part == PART_BLOCK_ADAPTER ? 0.2f : 0;
    options.has_embedding = part == PART_EMBEDDING;
    options.has_task_head = part == PART_HEAD;
    options.first_block = draw->block;
    options.num_blocks = part != PART_EMBEDDING && part != PART_HEAD;
    options.seed = draw->seed;
    return options;
}

/* The stage with the weights of `like`, so that two blocks differ in their random numbers alone. */
static struct stage *stage_with_weights_of(const struct setup *setup,
                                           const struct stage_options *options,
                                           struct stage *like) {
    struct stage *stage = stage_create(options);
    size_t count;
    struct stage_weight *places = stage_weights(stage, &count);
    struct stage_weight *names = stage_weights(like, &count);
    for (size_t i = 0; i < count; ++i) {
        struct problem problem = {0};
        const float *values = weights_pretrained(setup->fixture.checkpoint, names[i].name,
                                                 names[i].rows, names[i].columns, &problem);
        assert_non_null(values);
        stage_weight_set(&places[i], values);
    }
    stage_weights_free(places, count);
    stage_weights_free(names, count);
    return stage;
}

/* The part's result for a fixed input; free with memory_free. */
static float *run_part(const struct setup *setup, const struct stage *stage,
                       const struct microbatch *microbatch, const float *factors, size_t *count) {
    const struct stage_options *options = &stage->options;
    const struct capacity capacity =
        batch_capacity(microbatch->num_sequences, microbatch->longest, microbatch->num_tokens);
    struct slot *slot = slot_create(stage, &capacity, false);
    struct workspace *workspace = workspace_create(stage, &capacity, 8);
    const size_t hidden = options->architecture.hidden_size;
    const size_t inputs = stage_input_rows(stage, microbatch) * hidden;
    float *input = reference_values(inputs, 1, 9);
    memcpy(slot_input(slot), input, inputs * sizeof *input);
    const struct point point = {factors, setup->selection};
    stage_forward(stage, &point, microbatch, false, slot, workspace);
    const bool is_head = options->has_task_head;
    *count = is_head ? head_rows(&stage->task_head, microbatch) * options->num_labels
                     : stage_output_rows(stage, microbatch) * hidden;
    float *output = reference_filled(*count, 0);
    memcpy(output, is_head ? slot_logits(slot) : slot_output(slot), *count * sizeof *output);
    memory_free(input);
    workspace_destroy(&workspace);
    slot_destroy(&slot);
    return output;
}

static float *part_output(const struct setup *setup, enum part part, const struct draw *draw,
                          size_t *count) {
    const struct draw first = {.seed = draw->seed};
    const struct stage_options options = part_options(setup, part, draw);
    const struct stage_options first_options = part_options(setup, part, &first);
    struct stage *like = stage_create(&first_options);
    struct stage *stage = stage_with_weights_of(setup, &options, like);
    float *factors = fixture_factors(&setup->fixture, &like->factors, "parameters.");
    float *output = run_part(setup, stage, &draw->microbatch, factors, count);
    memory_free(factors);
    stage_destroy(&stage);
    stage_destroy(&like);
    return output;
}

static void check_part_draws_anew(const struct setup *setup, enum part part,
                                  const struct microbatch *microbatch) {
    enum { NUM_DRAWS = 5 };
    const uint32_t samples[] = {100, 101, 102, 103, 104, 105};
    const bool is_block = part != PART_EMBEDDING && part != PART_HEAD;
    struct draw draws[NUM_DRAWS];
    for (int i = 0; i < NUM_DRAWS; ++i)
        draws[i] = (struct draw){.seed = 7, .microbatch = *microbatch};
    draws[1].microbatch.step++;
    draws[2].microbatch.samples = samples;
    draws[3].seed++;
    draws[4].block += is_block;
    size_t count;
    float *expected = part_output(setup, part, &draws[0], &count);
    for (int i = 0; i < NUM_DRAWS; ++i) {
        float *output = part_output(setup, part, &draws[i], &count);
        const bool is_same = memcmp(output, expected, count * sizeof *output) == 0;
        if (is_same != (i == 0 || (i == 4 && !is_block)))
            fail_msg("part %d, draw %d: %s", part, i, is_same ? "the same masks" : "other masks");
        memory_free(output);
    }
    memory_free(expected);
}

static void test_masks_change_with_step_sample_seed_and_block(void **state) {
    (void)state;
    static const char *const FOLDERS[] = {"bert-sequence", "bert-token"};
    for (int i = 0; i < 2; ++i) {
        struct setup setup = setup_open(FOLDERS[i], 0);
        struct problem_at at = problem_open(&setup, CONSTRAINT_SOFTMAX, 1, true);
        for (int part = 0; part < NUM_PARTS; ++part)
            check_part_draws_anew(&setup, (enum part)part, &at.train->microbatches[0]);
        problem_close(&at);
        setup_close(&setup);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_classification),
        cmocka_unit_test(test_token_classification),
        cmocka_unit_test(test_other_families),
        cmocka_unit_test(test_kept_pass),
        cmocka_unit_test(test_entropy_in_the_loss),
        cmocka_unit_test(test_importance_is_gradient_times_value),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_evaluation_shows_all_logits),
        cmocka_unit_test(test_dropout_sequence_classification),
        cmocka_unit_test(test_dropout_token_classification),
        cmocka_unit_test(test_dropout_other_families),
        cmocka_unit_test(test_dropout_is_for_training_only),
        cmocka_unit_test(test_masks_change_with_step_sample_seed_and_block),
    };
    MPI_Init(&argc, &argv);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
