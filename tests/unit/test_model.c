/* Every layer against PyTorch: logits, loss, all gradients, and the tangent of the selection
 * gradient, on tiny models of every family in one stage and split over two. */
#include "fixture.h"
#include "model/selection.h"

static const char *const CONSTRAINTS[] = {"softmax", "sigmoid", "none"};
static const double GRADIENT_TOLERANCE = 1e-4, TANGENT_TOLERANCE = 1e-3;

/* Two stages passed through by hand, or one. */
struct setup {
    struct fixture fixture;
    size_t num_stages, *ranks;
    float *scales;
    struct stage *stages[2];
};

static struct setup setup_open(const char *folder, size_t num_stages, bool has_selection) {
    struct setup setup = {.fixture = fixture_open(folder), .num_stages = num_stages};
    const struct fixture *fixture = &setup.fixture;
    const struct json *names = json_get(fixture->description, "modules");
    const size_t modules = json_count(names);
    setup.ranks = memory_allocate(modules, sizeof *setup.ranks, "ranks");
    setup.scales = memory_allocate(modules, sizeof *setup.scales, "scales");
    const int64_t *plain = has_selection ? NULL : fixture_integers(fixture, NULL, "plain", "ranks");
    for (size_t m = 0; m < modules; ++m) {
        setup.ranks[m] = has_selection ? fixture->k : (size_t)plain[m];
        setup.scales[m] = (float)fixture->lora_alpha / (float)(setup.ranks[m] + !setup.ranks[m]);
    }
    const bool all = modules > 2 * fixture->architecture.num_blocks;
    const size_t blocks = fixture->architecture.num_blocks;
    for (size_t s = 0; s < num_stages; ++s) {
        struct stage_options options = {
            .architecture = fixture->architecture,
            .adapters =
                {
                    .is_target = {true, all, true, all, all, all},
                    .ranks = setup.ranks,
                    .scales = setup.scales,
                    .num_components = has_selection ? fixture->k : 0,
                },
            .head_kind = fixture->head_kind,
            .is_regression = fixture->is_regression,
            .num_labels = fixture->num_labels,
            .first_block = s == 0 ? 0 : 1,
            .num_blocks = num_stages == 1 ? blocks
                          : s == 0        ? 1
                                          : blocks - 1,
            .has_embedding = s == 0,
            .has_task_head = s + 1 == num_stages,
        };
        setup.stages[s] = stage_create(&options);
        fixture_load_stage(fixture, setup.stages[s]);
    }
    return setup;
}

static void setup_close(struct setup *setup) {
    for (size_t s = 0; s < setup->num_stages; ++s)
        stage_destroy(&setup->stages[s]);
    memory_free(setup->ranks);
    memory_free(setup->scales);
    fixture_close(&setup->fixture);
}

/* All passes of all stages at one point; results in PyTorch's terms. */
struct results {
    double loss;
    float *logits, *d_selection, *t_d_selection; /* [rows, labels], [modules, k] */
    float *d_factors[2];
};

struct passes {
    struct slot *slots[2];
    struct workspace *workspaces[2];
    float *factors[2], *direction[2];
    float *travelling; /* [tokens, hidden] between the stages */
};

static void run_forward_backward(const struct setup *setup, const struct fixture_batch *batch,
                                 const float *selection, struct passes *passes,
                                 struct results *results) {
    const size_t hidden = setup->fixture.architecture.hidden_size;
    for (size_t s = 0; s < setup->num_stages; ++s) {
        const struct stage *stage = setup->stages[s];
        if (s > 0)
            memcpy(slot_input(passes->slots[s]), slot_output(passes->slots[s - 1]),
                   stage_input_rows(stage, &batch->microbatch) * hidden * sizeof(float));
        const size_t skip = stage->first_module * stage->options.adapters.num_components;
        const struct point point = {passes->factors[s],
                                    selection == NULL ? NULL : selection + skip};
        results->loss = stage_forward(stage, &point, &batch->microbatch, true, passes->slots[s],
                                      passes->workspaces[s]);
    }
    const struct stage *last = setup->stages[setup->num_stages - 1];
    if (last->task_head.kind != HEAD_LANGUAGE_MODELING) {
        const size_t logits =
            head_rows(&last->task_head, &batch->microbatch) * setup->fixture.num_labels;
        results->logits = memory_allocate(logits, sizeof(float), "logits");
        memcpy(results->logits, slot_logits(passes->slots[setup->num_stages - 1]),
               logits * sizeof(float));
    }
    for (size_t s = setup->num_stages; s-- > 0;) {
        const struct stage *stage = setup->stages[s];
        const size_t skip = stage->first_module * stage->options.adapters.num_components;
        const struct point point = {passes->factors[s],
                                    selection == NULL ? NULL : selection + skip};
        struct gradient gradient = {results->d_factors[s], results->d_selection == NULL
                                                               ? NULL
                                                               : results->d_selection + skip};
        stage_backward(stage, &point, &batch->microbatch, passes->slots[s], passes->workspaces[s],
                       s + 1 < setup->num_stages ? passes->travelling : NULL, &gradient,
                       s > 0 ? passes->travelling : NULL);
    }
}

static void run_tangents(const struct setup *setup, const struct fixture_batch *batch,
                         const float *selection, struct passes *passes, struct results *results) {
    for (size_t s = 0; s < setup->num_stages; ++s) {
        const struct stage *stage = setup->stages[s];
        const struct point point = {passes->factors[s],
                                    selection + stage->first_module * setup->fixture.k};
        stage_tangent(stage, &point, passes->direction[s], &batch->microbatch, passes->slots[s],
                      passes->workspaces[s], s > 0 ? passes->travelling : NULL,
                      s + 1 < setup->num_stages ? passes->travelling : NULL);
    }
    for (size_t s = setup->num_stages; s-- > 0;) {
        const struct stage *stage = setup->stages[s];
        const struct point point = {passes->factors[s],
                                    selection + stage->first_module * setup->fixture.k};
        stage_backward_tangent(stage, &point, passes->direction[s], &batch->microbatch,
                               passes->slots[s], passes->workspaces[s],
                               s + 1 < setup->num_stages ? passes->travelling : NULL,
                               results->t_d_selection + stage->first_module * setup->fixture.k,
                               s > 0 ? passes->travelling : NULL);
    }
}

static void passes_open(const struct setup *setup, const struct fixture_batch *batch,
                        const char *prefix, const char *direction_prefix, bool has_tangents,
                        struct passes *passes) {
    for (size_t s = 0; s < setup->num_stages; ++s) {
        const struct stage *stage = setup->stages[s];
        passes->slots[s] = slot_create(stage, &batch->capacity, has_tangents);
        passes->workspaces[s] = workspace_create(stage, &batch->capacity, 8);
        passes->factors[s] = memory_allocate(stage->factors.size, sizeof(float), "factors");
        for (size_t i = 0; i < stage->factors.count; ++i) {
            const struct parameter *entry = &stage->factors.entries[i];
            const bool is_head = strncmp(entry->name, "classifier", 10) == 0;
            fixture_factor(&setup->fixture, entry, is_head ? "parameters." : prefix,
                           passes->factors[s]);
        }
        if (direction_prefix != NULL)
            passes->direction[s] =
                fixture_factors(&setup->fixture, &stage->factors, direction_prefix);
    }
    passes->travelling =
        memory_allocate(batch->microbatch.num_tokens * setup->fixture.architecture.hidden_size,
                        sizeof(float), "travelling");
}

static void passes_close(const struct setup *setup, struct passes *passes) {
    for (size_t s = 0; s < setup->num_stages; ++s) {
        slot_destroy(&passes->slots[s]);
        workspace_destroy(&passes->workspaces[s]);
        memory_free(passes->factors[s]);
        memory_free(passes->direction[s]);
    }
    memory_free(passes->travelling);
}

static void compare_gradients(const struct setup *setup, const struct results *results,
                              const char *prefix) {
    for (size_t s = 0; s < setup->num_stages; ++s) {
        const struct parameter_table *table = &setup->stages[s]->factors;
        float *expected = fixture_factors(&setup->fixture, table, prefix);
        for (size_t i = 0; i < table->count; ++i) {
            const struct parameter *entry = &table->entries[i];
            assert_close(results->d_factors[s] + entry->offset, expected + entry->offset,
                         entry->rows * entry->columns, GRADIENT_TOLERANCE, entry->name);
        }
        memory_free(expected);
    }
}

static void check_constraint(const struct setup *setup, int constraint) {
    const struct fixture *fixture = &setup->fixture;
    const char *name = CONSTRAINTS[constraint];
    const size_t modules = json_count(json_get(fixture->description, "modules"));
    const size_t size = modules * fixture->k;
    float *logits = fixture_modules(fixture, "parameters.selection_logits.");
    float *selection = memory_allocate(size, sizeof(float), "selection");
    selection_forward((enum selection_constraint)constraint, logits, modules, fixture->k,
                      selection);

    struct fixture_batch batch = fixture_batch(fixture, "train");
    struct passes passes = {0};
    char *direction = memory_format("hypergradient.%s.v.", name);
    passes_open(setup, &batch, "parameters.", direction, true, &passes);
    struct results results = {
        .d_selection = memory_allocate(size, sizeof(float), "d_selection"),
        .t_d_selection = memory_allocate(size, sizeof(float), "t_d_selection"),
    };
    for (size_t s = 0; s < setup->num_stages; ++s)
        results.d_factors[s] =
            memory_allocate(setup->stages[s]->factors.size, sizeof(float), "d_factors");
    run_forward_backward(setup, &batch, selection, &passes, &results);
    size_t count;
    const float *expected = fixture_tensor(fixture, &count, "%s.train.logits", name);
    if (results.logits != NULL)
        assert_close(results.logits, expected, count, 1e-5, "logits");
    const float loss = (float)results.loss;
    assert_close(&loss, fixture_tensor(fixture, NULL, "%s.train.loss", name), 1, 1e-5, "loss");
    char *prefix = memory_format("%s.train.grad.", name);
    compare_gradients(setup, &results, prefix);
    selection_backward((enum selection_constraint)constraint, selection, results.d_selection,
                       modules, fixture->k, results.d_selection);
    char *logits_prefix = memory_format("%sselection_logits.", prefix);
    float *d_logits = fixture_modules(fixture, logits_prefix);
    assert_close(results.d_selection, d_logits, size, GRADIENT_TOLERANCE, "d selection logits");

    run_tangents(setup, &batch, selection, &passes, &results);
    selection_backward((enum selection_constraint)constraint, selection, results.t_d_selection,
                       modules, fixture->k, results.t_d_selection);
    char *second_prefix = memory_format("hypergradient.%s.paper.second_order.", name);
    float *second = fixture_modules(fixture, second_prefix);
    assert_close(results.t_d_selection, second, size, TANGENT_TOLERANCE, "second-order term");

    for (size_t s = 0; s < setup->num_stages; ++s)
        memory_free(results.d_factors[s]);
    memory_free(results.logits);
    memory_free(results.d_selection);
    memory_free(results.t_d_selection);
    memory_free(second);
    memory_free(second_prefix);
    memory_free(d_logits);
    memory_free(logits_prefix);
    memory_free(prefix);
    passes_close(setup, &passes);
    memory_free(direction);
    fixture_batch_free(&batch);
    memory_free(selection);
    memory_free(logits);
}

static void check_case(const char *folder) {
    for (size_t num_stages = 1; num_stages <= 2; ++num_stages) {
        struct setup setup = setup_open(folder, num_stages, true);
        for (int constraint = 0; constraint < 3; ++constraint)
            check_constraint(&setup, constraint);
        setup_close(&setup);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_sequence_classification(void **state) {
    (void)state;
    check_case("bert-sequence");
}

static void test_regression(void **state) {
    (void)state;
    check_case("bert-regression");
}

static void test_roberta(void **state) {
    (void)state;
    check_case("roberta-sequence");
    check_case("roberta-token");
}

static void test_gpt2_language_modeling(void **state) {
    (void)state;
    check_case("gpt2-language");
}

static void test_token_classification_all_projections(void **state) {
    (void)state;
    check_case("bert-token");
}

static void check_plain(const char *folder) {
    struct setup setup = setup_open(folder, 1, false);
    struct fixture_batch batch = fixture_batch(&setup.fixture, "train");
    struct passes passes = {0};
    passes_open(&setup, &batch, "plain.", NULL, false, &passes);
    struct results results = {0};
    results.d_factors[0] =
        memory_allocate(setup.stages[0]->factors.size, sizeof(float), "d_factors");
    run_forward_backward(&setup, &batch, NULL, &passes, &results);
    size_t count;
    const float *expected = fixture_tensor(&setup.fixture, &count, "plain.train.logits");
    if (results.logits != NULL)
        assert_close(results.logits, expected, count, 1e-5, "plain logits");
    const float loss = (float)results.loss;
    assert_close(&loss, fixture_tensor(&setup.fixture, NULL, "plain.train.loss"), 1, 1e-5, "loss");
    compare_gradients(&setup, &results, "plain.train.grad.");
    memory_free(results.d_factors[0]);
    memory_free(results.logits);
    passes_close(&setup, &passes);
    fixture_batch_free(&batch);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_plain_lora_with_uneven_ranks(void **state) {
    (void)state;
    check_plain("bert-sequence");
    check_plain("bert-token");
    check_plain("roberta-sequence");
    check_plain("roberta-token");
    check_plain("gpt2-language");
    check_plain("bert-regression");
}

static void check_half_precision(const char *folder) {
    struct setup setup = setup_open(folder, 1, true);
    struct fixture_batch batch = fixture_batch(&setup.fixture, "validation");
    struct passes passes = {0};
    passes_open(&setup, &batch, "parameters.", NULL, false, &passes);
    const size_t modules = setup.stages[0]->num_modules;
    float *logits = fixture_modules(&setup.fixture, "parameters.selection_logits.");
    float *selection = memory_allocate(modules * setup.fixture.k, sizeof(float), "selection");
    selection_forward(CONSTRAINT_SOFTMAX, logits, modules, setup.fixture.k, selection);
    const struct point point = {passes.factors[0], selection};
    stage_forward(setup.stages[0], &point, &batch.microbatch, false, passes.slots[0],
                  passes.workspaces[0]);
    size_t count;
    const float *expected = fixture_tensor(&setup.fixture, &count, "softmax.validation.logits");
    assert_close(slot_logits(passes.slots[0]), expected, count, 1e-5, folder);
    memory_free(selection);
    memory_free(logits);
    passes_close(&setup, &passes);
    fixture_batch_free(&batch);
    setup_close(&setup);
}

static void test_half_precision_checkpoints(void **state) {
    (void)state;
    check_half_precision("bert-f16");
    check_half_precision("bert-bf16");
    assert_int_equal(memory_blocks_now(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_classification),
        cmocka_unit_test(test_regression),
        cmocka_unit_test(test_token_classification_all_projections),
        cmocka_unit_test(test_roberta),
        cmocka_unit_test(test_gpt2_language_modeling),
        cmocka_unit_test(test_plain_lora_with_uneven_ranks),
        cmocka_unit_test(test_half_precision_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
