/* The operations of every pass against those that its products make: this program has products of
 * its own that count, in place of the library's. */
#include "fixture.h"
#include "math/gemm.h"
#include "math/small_product.h"
#include "model/operations.h"

enum { RANK = 3, BOTTLENECK = 5 };

static double counted;

static void product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                    size_t c_stride) {
    for (size_t i = 0; i < a.rows; ++i)
        for (size_t j = 0; j < b.columns; ++j) {
            float sum = 0;
            for (size_t l = 0; l < a.columns; ++l)
                sum += a.data[i * a.row_stride + l * a.column_stride] *
                       b.data[l * b.row_stride + j * b.column_stride];
            c[i * c_stride + j] = scale * sum + (accumulate ? c[i * c_stride + j] : 0);
        }
#pragma omp atomic
    counted += 2.0 * (double)(a.rows * a.columns * b.columns);
}

void gemm(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
          size_t c_stride) {
    product(scale, a, b, accumulate, c, c_stride);
}

void gemm_serial(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                 size_t c_stride) {
    product(scale, a, b, accumulate, c, c_stride);
}

void small_product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                   size_t c_stride) {
    product(scale, a, b, accumulate, c, c_stride);
}

enum training { TRAINS_ADAPTERS, TRAINS_ALL, TRAINS_BOTTLENECKS };

/* A stage with part of the model, and all that its passes need. */
struct bench {
    struct fixture fixture;
    struct fixture_batch batch;
    struct stage *stage;
    struct slot *slot;
    struct workspace *workspace;
    float *factors, *gradient, *above, *below;
    bool has_tangents;
};

static struct bench bench_open(const char *folder, enum training training, size_t first_block,
                               size_t num_blocks) {
    struct bench bench = {.fixture = fixture_open(folder),
                          .has_tangents = training == TRAINS_ADAPTERS};
    const struct architecture *architecture = &bench.fixture.architecture;
    size_t ranks[64];
    float scales[64];
    for (size_t m = 0; m < 64; ++m) {
        ranks[m] = m % RANK; /* some have none */
        scales[m] = 1;
    }
    struct stage_options options = {
        .architecture = *architecture,
        .adapters = {.ranks = ranks,
                     .scales = scales,
                     .bottleneck = training == TRAINS_BOTTLENECKS ? BOTTLENECK : 0},
        .head_kind = bench.fixture.head_kind,
        .is_regression = bench.fixture.is_regression,
        .num_labels = bench.fixture.num_labels,
        .first_block = first_block,
        .num_blocks = num_blocks,
        .has_embedding = first_block == 0,
        .has_task_head = first_block + num_blocks == architecture->num_blocks,
        .trains_all = training == TRAINS_ALL,
    };
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        options.adapters.is_target[p] = training == TRAINS_ADAPTERS;
    bench.batch = fixture_batch(&bench.fixture, "train");
    bench.stage = stage_create(&options);
    fixture_load_stage(&bench.fixture, bench.stage);
    bench.slot = slot_create(bench.stage, &bench.batch.capacity, bench.has_tangents);
    bench.workspace = workspace_create(bench.stage, &bench.batch.capacity, 8);
    bench.factors = memory_allocate(bench.stage->factors.size, sizeof(float), "factors");
    bench.gradient = memory_allocate(bench.stage->factors.size, sizeof(float), "gradient");
    const size_t message = bench.batch.microbatch.num_tokens * architecture->hidden_size;
    bench.above = memory_allocate(message, sizeof(float), "messages");
    bench.below = memory_allocate(message, sizeof(float), "messages");
    return bench;
}

static void bench_close(struct bench *bench) {
    slot_destroy(&bench->slot);
    workspace_destroy(&bench->workspace);
    stage_destroy(&bench->stage);
    memory_free(bench->factors);
    memory_free(bench->gradient);
    memory_free(bench->above);
    memory_free(bench->below);
    fixture_batch_free(&bench->batch);
    fixture_close(&bench->fixture);
}

static void do_pass(struct bench *bench, enum stage_pass pass) {
    const struct point point = {bench->factors, NULL};
    struct gradient gradient = {bench->gradient, NULL};
    const struct microbatch *microbatch = &bench->batch.microbatch;
    struct slot *slot = bench->slot;
    struct workspace *workspace = bench->workspace;
    float *above = bench->stage->options.has_embedding ? NULL : bench->above;
    float *below = bench->stage->options.has_task_head ? NULL : bench->below;
    if (pass == PASS_FORWARD || pass == PASS_EVALUATE)
        stage_forward(bench->stage, &point, microbatch, pass == PASS_FORWARD, slot, workspace);
    else if (pass == PASS_BACKWARD)
        stage_backward(bench->stage, &point, microbatch, slot, workspace, below, &gradient, above);
    else if (pass == PASS_TANGENT)
        stage_tangent(bench->stage, &point, bench->factors, microbatch, slot, workspace, above,
                      below);
    else
        stage_backward_tangent(bench->stage, &point, bench->factors, microbatch, slot, workspace,
                               below, NULL, above);
}

static void check(const char *folder, enum training training, size_t first_block,
                  size_t num_blocks) {
    static const enum stage_pass order[] = {PASS_EVALUATE, PASS_FORWARD, PASS_BACKWARD,
                                            PASS_TANGENT, PASS_BACKWARD_TANGENT};
    struct bench bench = bench_open(folder, training, first_block, num_blocks);
    for (size_t i = 0; i < (bench.has_tangents ? 5 : 3); ++i) {
        counted = 0;
        do_pass(&bench, order[i]);
        const double expected = stage_operations(bench.stage, order[i], &bench.batch.microbatch);
        if (counted != expected)
            fail_msg("%s, training %d, blocks from %zu, pass %d: %.0f operations, not %.0f", folder,
                     (int)training, first_block, (int)order[i], counted, expected);
        assert_true(counted > 0);
    }
    bench_close(&bench);
}

/* The whole model, and every split into two stages. */
static void check_splits(const char *folder, enum training training) {
    struct fixture fixture = fixture_open(folder);
    const size_t blocks = fixture.architecture.num_blocks;
    fixture_close(&fixture);
    check(folder, training, 0, blocks);
    for (size_t split = 1; split < blocks; ++split) {
        check(folder, training, 0, split);
        check(folder, training, split, blocks - split);
    }
}

static const char *const FOLDERS[] = {"bert-sequence",    "bert-token",    "bert-regression",
                                      "roberta-sequence", "roberta-token", "gpt2-language"};
enum { NUM_FOLDERS = sizeof FOLDERS / sizeof *FOLDERS };

static void test_adapters(void **state) {
    (void)state;
    for (size_t i = 0; i < NUM_FOLDERS; ++i)
        check_splits(FOLDERS[i], TRAINS_ADAPTERS);
}

static void test_all_weights(void **state) {
    (void)state;
    for (size_t i = 0; i < NUM_FOLDERS; ++i)
        check_splits(FOLDERS[i], TRAINS_ALL);
}

static void test_bottlenecks(void **state) {
    (void)state;
    for (size_t i = 0; i < NUM_FOLDERS; ++i)
        check_splits(FOLDERS[i], TRAINS_BOTTLENECKS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_all_weights),
        cmocka_unit_test(test_bottlenecks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
