/* AdaLoRA against the peft package's (tests/fixtures/adalora): 16 updates on one batch, with
 * losses, gradients, importance scores and masks; ties, the schedule and the penalty by themselves.
 */
#include "train/allocator.h"

#include "fixture.h"
#include "reference.h"
#include "train/optimizer.h"
#include "train/pipeline.h"

#include <mpi.h>

enum { MODULES = 6, COMPONENTS = 6 };

static double number(const struct json *object, const char *name) {
    return json_number(json_get(object, name));
}

/* The model of one folder with the trajectory of the other. */
struct setup {
    struct fixture fixture; /* its reference: the trajectory */
    struct json *description;
    struct stage *stage;
    struct fixture_batch packed;
    struct batch *batch;
    struct pipeline *pipeline;
    struct allocator *allocator;
    struct gradient gradient;
    float *factors;
};

static struct stage *stage_of(const struct fixture *fixture, double lora_alpha) {
    size_t ranks[MODULES];
    float scales[MODULES];
    for (size_t m = 0; m < MODULES; ++m) {
        ranks[m] = COMPONENTS;
        scales[m] = (float)(lora_alpha / COMPONENTS);
    }
    const struct stage_options options = {
        .architecture = fixture->architecture,
        .adapters =
            {
                .is_target = {[PROJECTION_QUERY] = true, [PROJECTION_VALUE] = true},
                .ranks = ranks,
                .scales = scales,
                .has_singular_values = true,
            },
        .head_kind = HEAD_SEQUENCE_CLASSIFICATION,
        .num_labels = fixture->num_labels,
        .num_blocks = fixture->architecture.num_blocks,
        .has_embedding = true,
        .has_task_head = true,
    };
    struct stage *stage = stage_create(&options);
    fixture_load_stage(fixture, stage);
    return stage;
}

static struct batch *batch_of(const struct fixture_batch *packed) {
    const struct microbatch *all = &packed->microbatch;
    const struct dataset dataset = {
        .kind = TASK_SEQUENCE_CLASSIFICATION,
        .num_examples = all->num_sequences,
        .offsets = packed->offsets,
        .token_ids = packed->token_ids,
        .type_ids = packed->type_ids,
        .labels = packed->labels,
        .longest = all->longest,
    };
    struct batch *batch = batch_create(all->num_sequences, all->longest, all->num_tokens);
    batch_fill(batch, &dataset, packed->samples, all->num_sequences, 0, true);
    return batch;
}

static struct pipeline *pipeline_of(const struct setup *setup) {
    const struct comms comms = fixture_comms(MPI_COMM_WORLD);
    const struct microbatch *all = &setup->packed.microbatch;
    const struct pipeline_options options = {
        .capacity = batch_capacity(all->num_sequences, all->longest, all->num_tokens),
        .largest_count = batch_largest_count(all->num_sequences, all->longest, all->num_tokens),
        .num_threads = 1,
    };
    return pipeline_create(&comms, setup->stage, &options);
}

static struct allocation_schedule schedule_of(const struct json *description) {
    const size_t steps = fixture_size(description, "steps");
    return (struct allocation_schedule){
        .initial = MODULES * fixture_size(description, "initial_rank"),
        .target = MODULES * fixture_size(description, "target_rank"),
        .first = fixture_size(description, "warmup"),
        .last = steps - fixture_size(description, "final"),
        .every = fixture_size(description, "every"),
    };
}

static struct setup setup_open(void) {
    struct setup setup = {.fixture = fixture_open("bert-sequence")};
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    setup.packed = fixture_batch(&setup.fixture, "train");
    weights_close(&setup.fixture.reference);
    setup.fixture.reference = fixture_weights("adalora", "reference.safetensors");
    setup.description = fixture_json("adalora", "reference.json");
    setup.stage = stage_of(&setup.fixture, number(setup.description, "lora_alpha"));
    setup.batch = batch_of(&setup.packed);
    setup.pipeline = pipeline_of(&setup);
    const struct allocator_options options = {
        .schedule = schedule_of(setup.description),
        .beta1 = number(setup.description, "beta1"),
        .beta2 = number(setup.description, "beta2"),
    };
    setup.allocator = allocator_create(&comm, setup.stage, &options);
    setup.gradient.factors = reference_filled(setup.stage->factors.size, NAN);
    setup.factors = fixture_factors(&setup.fixture, &setup.stage->factors, "parameters.");
    return setup;
}

static void setup_close(struct setup *setup) {
    allocator_destroy(&setup->allocator);
    pipeline_destroy(&setup->pipeline);
    batch_destroy(&setup->batch);
    fixture_batch_free(&setup->packed);
    stage_destroy(&setup->stage);
    memory_free(setup->gradient.factors);
    memory_free(setup->factors);
    json_destroy(&setup->description);
    fixture_close(&setup->fixture);
}

/* ---- against peft ---- */

static void check_number(const struct setup *setup, double value, const char *name, size_t step) {
    char what[64];
    snprintf(what, sizeof what, "%s, step %zu", name, step);
    const float rounded = (float)value;
    assert_close(&rounded, fixture_tensor(&setup->fixture, NULL, "%s", name) + step, 1, 3e-4, what);
}

/* Entry by entry, so that small gradients count as well as large ones. */
static void check_factors(const struct setup *setup, const float *values, const char *prefix,
                          double tolerance) {
    const struct parameter_table *table = &setup->stage->factors;
    float *expected = fixture_factors(&setup->fixture, table, prefix);
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        char what[256];
        snprintf(what, sizeof what, "%s%s", prefix, entry->name);
        assert_close(values + entry->offset, expected + entry->offset, entry->rows * entry->columns,
                     tolerance, what);
    }
    memory_free(expected);
}

static bool has_gradients(const struct setup *setup, size_t step) {
    const struct json *steps = json_get(setup->description, "gradients_at");
    for (const struct json *at = json_first(steps); at != NULL; at = json_next(at))
        if ((size_t)json_number(at) == step)
            return true;
    return false;
}

static void check_gradient(const struct setup *setup, size_t step) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "step%zu.grad.", step);
    if (has_gradients(setup, step))
        check_factors(setup, setup->gradient.factors, prefix, 1e-3);
}

static void check_scores(const struct setup *setup, size_t step) {
    const float *expected = fixture_tensor(&setup->fixture, NULL, "importance");
    for (size_t i = 0; i < MODULES * COMPONENTS; ++i) {
        const double score = allocator_scores(setup->allocator)[i];
        const double wanted = expected[step * MODULES * COMPONENTS + i];
        if (!(fabs(score - wanted) <= 1e-3 * wanted))
            fail_msg("score %zu at step %zu: %g, not %g", i, step, score, wanted);
    }
}

/* Zeros where peft has zeros and nowhere else. */
static void check_singular_values(const struct setup *setup, size_t step) {
    const float *expected =
        fixture_tensor(&setup->fixture, NULL, "lora_E") + step * MODULES * COMPONENTS;
    size_t module = 0;
    for (size_t i = 0; i < setup->stage->factors.count; ++i) {
        const struct parameter *entry = &setup->stage->factors.entries[i];
        if (strstr(entry->name, ".lora_E") == NULL)
            continue;
        const float *values = setup->factors + entry->offset, *wanted = expected;
        for (size_t j = 0; j < COMPONENTS; ++j)
            if ((values[j] == 0) != (wanted[j] == 0))
                fail_msg("step %zu, module %zu, component %zu: %g, not %g", step, module, j,
                         (double)values[j], (double)wanted[j]);
        assert_close(values, wanted, COMPONENTS, 1e-3, "singular values");
        expected += COMPONENTS;
        ++module;
    }
    assert_int_equal(module, MODULES);
}

static void update(struct setup *setup, struct adam *adam, size_t step) {
    const struct json *options = json_get(setup->description, "adamw");
    const struct json *beta1 = json_first(json_get(options, "betas"));
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    const struct point point = {setup->factors, NULL};
    double loss = pipeline_gradient(setup->pipeline, &point, setup->batch, false, &setup->gradient);
    loss += orthogonality_penalty(&comm, setup->stage, number(setup->description, "orthogonality"),
                                  setup->factors, setup->gradient.factors);
    const double norm = pipeline_norm(setup->pipeline, setup->gradient.factors);
    check_number(setup, loss, "loss", step);
    check_number(setup, norm, "gradient_norm", step);
    check_gradient(setup, step);
    const double limit = number(options, "clip_norm");
    const struct adam_step how = {
        .rate = number(options, "lr"),
        .beta1 = json_number(beta1),
        .beta2 = json_number(json_next(beta1)),
        .epsilon = number(options, "eps"),
        .decay = number(options, "weight_decay"),
        .is_decoupled = true,
        .gradient_scale = norm > limit ? limit / (norm + 1e-6) : 1,
    };
    /* peft's trainer decays all of them, the bias too. */
    adam_update(adam, &how, NULL, setup->gradient.factors, setup->factors);
    allocator_update(setup->allocator, step, setup->gradient.factors, how.gradient_scale,
                     setup->factors);
}

static void test_trajectory(void **state) {
    (void)state;
    struct setup setup = setup_open();
    struct adam adam = adam_create(setup.stage->factors.size);
    const struct allocation_schedule schedule = schedule_of(setup.description);
    const size_t steps = fixture_size(setup.description, "steps");
    for (size_t step = 0; step < steps; ++step) {
        update(&setup, &adam, step);
        if (step < schedule.last)
            check_scores(&setup, step);
        check_singular_values(&setup, step);
    }
    check_factors(&setup, setup.factors, "trained.", 1e-3);
    size_t ranks[MODULES], sum = 0;
    allocator_ranks(setup.allocator, ranks);
    for (size_t m = 0; m < MODULES; ++m)
        sum += ranks[m];
    assert_int_equal(sum, schedule.target);
    adam_free(&adam);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_schedule(void **state) {
    (void)state;
    struct setup setup = setup_open();
    const struct allocation_schedule schedule = schedule_of(setup.description);
    size_t count;
    const struct tensor *budgets = weights_find(setup.fixture.reference, "budget");
    assert_non_null(budgets);
    count = budgets->count;
    assert_int_equal(count, fixture_size(setup.description, "steps"));
    for (size_t step = 0; step < count; ++step)
        assert_int_equal(allocation_budget(&schedule, step),
                         ((const int64_t *)(const void *)budgets->data)[step]);
    setup_close(&setup);
}

/* No time between the start and the end. */
static void test_abrupt_schedule(void **state) {
    (void)state;
    const struct allocation_schedule schedule = {10, 4, 3, 3, 1};
    assert_int_equal(allocation_budget(&schedule, 2), 10);
    assert_int_equal(allocation_budget(&schedule, 3), 4);
    assert_int_equal(allocation_budget(&schedule, 9), 4);
}

/* ---- by themselves ---- */

/* Without any gradient all scores are 0: the first components of the first modules stay. */
static void test_ties(void **state) {
    (void)state;
    struct setup setup = setup_open();
    memset(setup.gradient.factors, 0, setup.stage->factors.size * sizeof(float));
    allocator_update(setup.allocator, schedule_of(setup.description).last, setup.gradient.factors,
                     1, setup.factors);
    size_t ranks[MODULES];
    allocator_ranks(setup.allocator, ranks);
    const size_t expected[MODULES] = {6, 6, 0, 0, 0, 0};
    assert_memory_equal(ranks, expected, sizeof ranks);
    setup_close(&setup);
}

static double penalty_at(const struct setup *setup, size_t element, float change) {
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    float *gradient = reference_filled(setup->stage->factors.size, 0);
    const float value = setup->factors[element];
    setup->factors[element] = value + change;
    const double penalty = orthogonality_penalty(&comm, setup->stage, 2, setup->factors, gradient);
    setup->factors[element] = value;
    memory_free(gradient);
    return penalty;
}

static void test_penalty_gradient_by_differences(void **state) {
    (void)state;
    struct setup setup = setup_open();
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    float *gradient = reference_filled(setup.stage->factors.size, 0);
    orthogonality_penalty(&comm, setup.stage, 2, setup.factors, gradient);
    const float step = 1e-2f;
    for (size_t i = 0; i < setup.stage->factors.size; i += 37) {
        const double slope =
            (penalty_at(&setup, i, step) - penalty_at(&setup, i, -step)) / (2 * (double)step);
        if (!(fabs(slope - (double)gradient[i]) < 1e-4))
            fail_msg("element %zu: %g, by differences %g", i, (double)gradient[i], slope);
    }
    memory_free(gradient);
    setup_close(&setup);
}

/* Orthonormal rows cost nothing and are not moved. */
static void test_orthonormal_factors(void **state) {
    (void)state;
    struct setup setup = setup_open();
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    for (size_t i = 0; i < setup.stage->factors.count; ++i) {
        const struct parameter *entry = &setup.stage->factors.entries[i];
        for (size_t r = 0; r < entry->rows; ++r)
            for (size_t c = 0; c < entry->columns; ++c)
                setup.factors[entry->offset + r * entry->columns + c] = r == c ? 1 : 0;
    }
    float *gradient = reference_filled(setup.stage->factors.size, 0);
    assert_true(orthogonality_penalty(&comm, setup.stage, 2, setup.factors, gradient) == 0);
    for (size_t i = 0; i < setup.stage->factors.size; ++i)
        assert_true(gradient[i] == 0);
    memory_free(gradient);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trajectory),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_abrupt_schedule),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_penalty_gradient_by_differences),
        cmocka_unit_test(test_orthonormal_factors),
    };
    MPI_Init(&argc, &argv);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
