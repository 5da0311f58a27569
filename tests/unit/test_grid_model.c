/* A stage spread over a grid against the whole stage in one process: logits, loss, all gradients
 * and the tangent of the selection's, with every dropout; mpi_ranks: 1 2 3 4 6 */
#include "fixture.h"
#include "reference.h"

#include "math/grid.h"

static int mpi_rank, num_ranks;
static const double TOLERANCE = 1e-5;

/* The tiny model of a fixture, with adapters everywhere and factors of its own. */
struct setup {
    struct fixture fixture;
    struct stage_options options;
    size_t *ranks;
    float *scales;
    struct fixture_batch batch;
};

static struct setup setup_open(const char *folder) {
    struct setup setup = {.fixture = fixture_open(folder)};
    const struct fixture *fixture = &setup.fixture;
    const size_t modules = fixture->architecture.num_blocks * NUM_PROJECTIONS;
    setup.ranks = memory_allocate(modules, sizeof *setup.ranks, "ranks");
    setup.scales = memory_allocate(modules, sizeof *setup.scales, "scales");
    for (size_t m = 0; m < modules; ++m) {
        setup.ranks[m] = fixture->k;
        setup.scales[m] = 0.5f + 0.1f * (float)m;
    }
    setup.options = (struct stage_options){
        .architecture = fixture->architecture,
        .adapters = {.is_target = {true, true, true, true, true, true},
                     .ranks = setup.ranks,
                     .scales = setup.scales,
                     .dropout = 0.1f,
                     .num_components = fixture->k},
        .head_kind = fixture->head_kind,
        .is_regression = fixture->is_regression,
        .num_labels = fixture->num_labels,
        .label_smoothing = fixture->is_regression ? 0 : 0.1f,
        .num_blocks = fixture->architecture.num_blocks,
        .has_embedding = true,
        .has_task_head = true,
        .seed = 5,
    };
    fixture_set_dropout(&setup.options.architecture, 0.1f, 0.2f);
    setup.batch = fixture_batch(fixture, "train");
    setup.batch.microbatch.has_dropout = true;
    setup.batch.microbatch.step = 3;
    return setup;
}

static void setup_close(struct setup *setup) {
    fixture_batch_free(&setup->batch);
    memory_free(setup->ranks);
    memory_free(setup->scales);
    fixture_close(&setup->fixture);
}

/* The sequences of a grid row: every rows-th one of `all`. Free with fixture_batch_free. */
static struct fixture_batch batch_of_row(const struct setup *setup, size_t row, size_t rows) {
    const struct microbatch *all = &setup->batch.microbatch;
    const bool labels_tokens = setup->options.head_kind != HEAD_SEQUENCE_CLASSIFICATION;
    const size_t bounds = all->num_sequences + 1;
    struct fixture_batch part = {
        .offsets = memory_allocate(bounds, sizeof(size_t), "batch"),
        .pair_offsets = memory_allocate(bounds, sizeof(size_t), "batch"),
        .sequence_numbers = memory_allocate(bounds, sizeof(size_t), "batch"),
        .token_ids = memory_allocate(all->num_tokens, sizeof(int32_t), "batch"),
        .type_ids = memory_allocate(all->num_tokens, sizeof(int32_t), "batch"),
        .labels = memory_allocate(all->num_tokens, sizeof(int32_t), "batch"),
        .samples = memory_allocate(bounds, sizeof(uint32_t), "batch"),
    };
    size_t n = 0;
    for (size_t s = row; s < all->num_sequences; s += rows, ++n) {
        const size_t first = all->offsets[s], length = all->offsets[s + 1] - first;
        const size_t at = part.offsets[n];
        memcpy(part.token_ids + at, all->token_ids + first, length * sizeof(int32_t));
        memcpy(part.type_ids + at, all->type_ids + first, length * sizeof(int32_t));
        if (labels_tokens)
            memcpy(part.labels + at, all->labels + first, length * sizeof(int32_t));
        else
            part.labels[n] = all->labels[s];
        part.samples[n] = all->samples[s];
        part.offsets[n + 1] = at + length;
        part.pair_offsets[n + 1] = part.pair_offsets[n] + length * length;
        part.sequence_numbers[n + 1] = n + 1;
    }
    part.microbatch = *all;
    part.microbatch.num_sequences = n;
    part.microbatch.num_tokens = part.offsets[n];
    part.microbatch.offsets = part.offsets;
    part.microbatch.pair_offsets = part.pair_offsets;
    part.microbatch.sequence_numbers = part.sequence_numbers;
    part.microbatch.samples = part.samples;
    part.microbatch.token_ids = part.token_ids;
    part.microbatch.type_ids = part.type_ids;
    part.microbatch.labels = part.labels;
    return part;
}

static struct fixture_batch batch_here(const struct setup *setup, const struct grid *grid) {
    size_t most_tokens = 0, most_sequences = 0;
    for (size_t r = 0; r < grid->rows; ++r) {
        struct fixture_batch part = batch_of_row(setup, r, grid->rows);
        const struct microbatch *m = &part.microbatch;
        most_tokens = m->num_tokens > most_tokens ? m->num_tokens : most_tokens;
        most_sequences = m->num_sequences > most_sequences ? m->num_sequences : most_sequences;
        fixture_batch_free(&part);
    }
    struct fixture_batch here = batch_of_row(setup, grid->row, grid->rows);
    here.microbatch.most_tokens = most_tokens;
    here.microbatch.most_sequences = most_sequences;
    here.capacity = (struct capacity){most_tokens, most_sequences, setup->batch.microbatch.longest,
                                      setup->batch.capacity.pairs};
    return here;
}

struct results {
    double loss;
    size_t factors_size, selection_size, logits_size;
    float *d_factors, *d_selection, *t_d_selection, *logits;
};

static struct results run(const struct setup *setup, const struct grid *grid,
                          const struct fixture_batch *batch) {
    struct stage_options options = setup->options;
    options.grid = grid;
    struct stage *stage = stage_create(&options);
    fixture_load_stage(&setup->fixture, stage);
    const size_t size = stage->factors.size, k = stage->selection_size;
    float *factors = reference_values(size, 0.3f, 11), *selection = reference_values(k, 1, 12);
    float *direction = reference_values(size, 0.5f, 13);
    struct slot *slot = slot_create(stage, &batch->capacity, true);
    struct workspace *workspace = workspace_create(stage, &batch->capacity, 4);
    struct results results = {
        .factors_size = size,
        .selection_size = k,
        .d_factors = memory_allocate(size, sizeof(float), "results"),
        .d_selection = memory_allocate(k, sizeof(float), "results"),
        .t_d_selection = memory_allocate(k, sizeof(float), "results"),
    };
    const struct point point = {factors, selection};
    struct gradient gradient = {results.d_factors, results.d_selection};
    results.loss = stage_forward(stage, &point, &batch->microbatch, true, slot, workspace);
    if (slot_logits(slot) != NULL) {
        results.logits_size =
            head_rows(&stage->task_head, &batch->microbatch) * setup->options.num_labels;
        results.logits = memory_allocate(results.logits_size, sizeof(float), "results");
        memcpy(results.logits, slot_logits(slot), results.logits_size * sizeof(float));
    }
    stage_backward(stage, &point, &batch->microbatch, slot, workspace, NULL, &gradient, NULL);
    stage_tangent(stage, &point, direction, &batch->microbatch, slot, workspace, NULL, NULL);
    stage_backward_tangent(stage, &point, direction, &batch->microbatch, slot, workspace, NULL,
                           results.t_d_selection, NULL);
    memory_free(factors);
    memory_free(selection);
    memory_free(direction);
    slot_destroy(&slot);
    workspace_destroy(&workspace);
    stage_destroy(&stage);
    return results;
}

static void results_free(struct results *results) {
    memory_free(results->d_factors);
    memory_free(results->d_selection);
    memory_free(results->t_d_selection);
    memory_free(results->logits);
}

/* What the columns of a row agree on to the bit. */
static void assert_row_agrees(const struct grid *grid, const float *values, size_t count) {
    float *first = memory_allocate(count, sizeof *first, "values");
    memcpy(first, values, count * sizeof *first);
    MPI_Bcast(first, (int)count, MPI_FLOAT, 0, grid->in_row);
    assert_same_bits(values, first, count, "grid", "columns of a row");
    memory_free(first);
}

/* The logits of this row's sequences among those of all. */
static void compare_logits(const struct setup *setup, const struct grid *grid,
                           const struct results *here, const struct results *whole) {
    const struct microbatch *all = &setup->batch.microbatch;
    const size_t labels = setup->options.num_labels;
    const bool one = setup->options.head_kind == HEAD_SEQUENCE_CLASSIFICATION;
    size_t at = 0;
    for (size_t s = grid->row; s < all->num_sequences; s += grid->rows) {
        const size_t first = one ? s : all->offsets[s], end = one ? s + 1 : all->offsets[s + 1];
        const size_t count = (end - first) * labels;
        assert_close(here->logits + at, whole->logits + first * labels, count, 10 * TOLERANCE,
                     "logits");
        at += count;
    }
    assert_int_equal(at, here->logits_size);
}

static void compare(const struct setup *setup, const struct grid *grid, struct results *here,
                    const struct results *whole) {
    const double loss =
        grid_sum_number(grid, grid_is_leader(grid) ? here->loss : 0) / whole->loss - 1;
    if (!(fabs(loss) < TOLERANCE))
        fail_msg("loss: relative error %g", loss);
    if (here->logits != NULL) {
        assert_row_agrees(grid, here->logits, here->logits_size);
        compare_logits(setup, grid, here, whole);
    }
    grid_sum(grid, here->d_factors, here->factors_size);
    grid_sum(grid, here->d_selection, here->selection_size);
    grid_sum(grid, here->t_d_selection, here->selection_size);
    assert_close(here->d_factors, whole->d_factors, here->factors_size, TOLERANCE, "d factors");
    assert_close(here->d_selection, whole->d_selection, here->selection_size, TOLERANCE,
                 "d selection");
    assert_close(here->t_d_selection, whole->t_d_selection, here->selection_size, TOLERANCE,
                 "second-order term");
}

static void check_folder(const char *folder) {
    struct setup setup = setup_open(folder);
    struct results whole = run(&setup, NULL, &setup.batch);
    for (size_t rows = 1; rows <= (size_t)num_ranks; ++rows) {
        const size_t columns = (size_t)num_ranks / rows;
        struct problem problem = {0};
        if ((size_t)num_ranks % rows != 0 ||
            !stage_check_grid(&setup.options.architecture, rows, columns, &problem))
            continue;
        struct grid *grid = grid_create(MPI_COMM_WORLD, rows, columns);
        struct fixture_batch batch = batch_here(&setup, grid);
        struct results here = run(&setup, grid, &batch);
        compare(&setup, grid, &here, &whole);
        results_free(&here);
        fixture_batch_free(&batch);
        grid_destroy(&grid);
    }
    results_free(&whole);
    setup_close(&setup);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_sequence_classification(void **state) {
    (void)state;
    check_folder("bert-sequence");
}

static void test_new_dense_layer(void **state) {
    (void)state;
    check_folder("roberta-sequence");
}

static void test_token_classification(void **state) {
    (void)state;
    check_folder("bert-token");
    check_folder("roberta-token");
}

static void test_language_modeling(void **state) {
    (void)state;
    check_folder("gpt2-language");
}

/* ---- which grids ---- */

static bool is_possible(size_t heads, size_t rows, size_t columns, const char *advice) {
    const struct architecture architecture = {.num_attention_heads = heads};
    struct problem problem = {0};
    const bool is_good = stage_check_grid(&architecture, rows, columns, &problem);
    assert_int_equal(problem.exit_code, is_good ? 0 : EXIT_USAGE);
    if (!is_good)
        assert_non_null(strstr(problem.text, advice));
    return is_good;
}

static void test_every_column_needs_a_head(void **state) {
    (void)state;
    assert_true(is_possible(12, 4, 1, ""));
    assert_true(is_possible(12, 1, 12, ""));
    assert_true(is_possible(25, 2, 2, ""));
    assert_true(is_possible(25, 1, 4, ""));
    assert_false(is_possible(12, 1, 5, "take 4 columns"));
    assert_false(is_possible(12, 2, 13, "take 12 columns"));
    assert_false(is_possible(1, 1, 2, "take 1 columns"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_classification),   cmocka_unit_test(test_new_dense_layer),
        cmocka_unit_test(test_token_classification),      cmocka_unit_test(test_language_modeling),
        cmocka_unit_test(test_every_column_needs_a_head),
    };
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
