/* Products: BLIS's, and those written out. */
#include "math/gemm.h"

#include "kernel.h"
#include "math/small_product.h"

typedef void product_function(float, struct matrix, struct matrix, bool, float *, size_t);

enum view_kind { VIEW_PLAIN, VIEW_STRIDED, VIEW_TRANSPOSED, VIEW_STRIDED_TRANSPOSED, NUM_VIEWS };

/* [rows, columns] over fresh memory, which the view points to the start of. */
static struct matrix view_make(size_t rows, size_t columns, enum view_kind kind, uint64_t seed) {
    const bool is_transposed = kind >= VIEW_TRANSPOSED;
    const size_t gap = kind % 2 == 1 ? 3 : 0;
    const size_t first = is_transposed ? columns : rows, second = is_transposed ? rows : columns;
    const float *data = reference_values(first * (second + gap), 1, seed);
    const struct matrix view = matrix_strided(data, first, second, second + gap);
    return is_transposed ? matrix_transpose(view) : view;
}

static void view_free(struct matrix *view) {
    memory_free((void *)(size_t)view->data);
}

/* Error bound of a sum of n products in any order: (n + 3) 2^-24 sum |a b|. */
static void check_element(struct matrix a, struct matrix b, float scale, double before, float value,
                          size_t i, size_t j) {
    double sum = before, size = fabs(before);
    for (size_t l = 0; l < a.columns; ++l) {
        const double term = (double)scale * reference_element(a, i, l) * reference_element(b, l, j);
        sum += term;
        size += fabs(term);
    }
    if (!(fabs((double)value - sum) <= (double)(a.columns + 3) * 0x1p-24 * size))
        fail_msg("[%zu, %zu, %zu]: element (%zu, %zu) is %g, not %g", a.rows, a.columns, b.columns,
                 i, j, (double)value, sum);
}

static void check_product(product_function *product, struct matrix a, struct matrix b, float scale,
                          bool accumulate) {
    const size_t stride = b.columns + 2, count = a.rows * stride;
    float *before = reference_values(count, 1, 50);
    float *c = accumulate ? reference_values(count, 1, 50) : reference_filled(count, NAN);
    product(scale, a, b, accumulate, c, stride);
    for (size_t i = 0; i < a.rows; ++i) {
        for (size_t j = 0; j < b.columns; ++j)
            check_element(a, b, scale, accumulate ? (double)before[i * stride + j] : 0,
                          c[i * stride + j], i, j);
        for (size_t j = b.columns; j < stride; ++j) /* the gap between rows is untouched */
            assert_true(accumulate ? c[i * stride + j] == before[i * stride + j]
                                   : isnan(c[i * stride + j]));
    }
    memory_free(before);
    memory_free(c);
}

static void check_views(product_function *product, size_t rows, size_t inner, size_t columns,
                        enum view_kind a_kind, enum view_kind b_kind) {
    struct matrix a = view_make(rows, inner, a_kind, 60), b = view_make(inner, columns, b_kind, 61);
    check_product(product, a, b, 1, false);
    check_product(product, a, b, -0.75f, true);
    view_free(&a);
    view_free(&b);
}

static const size_t SHAPES[][3] = {
    {1, 1, 1},    {1, 7, 1},    {7, 1, 7},    {1, 64, 3},   {64, 1, 2},  {7, 7, 7},
    {64, 7, 64},  {5, 0, 4},    {0, 3, 4},    {3, 4, 0},    {33, 64, 8}, {17, 64, 17},
    {16, 64, 16}, {24, 24, 32}, {24, 25, 32}, {40, 40, 40}, {48, 8, 48}, {49, 8, 49},
};
enum { NUM_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static void test_gemm(void **state) {
    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; ++s)
        for (int a = 0; a < NUM_VIEWS; ++a)
            for (int b = 0; b < NUM_VIEWS; ++b) {
                check_views(gemm, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], (enum view_kind)a,
                            (enum view_kind)b);
                check_views(gemm_serial, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2],
                            (enum view_kind)a, (enum view_kind)b);
            }
}

static void test_small_product(void **state) {
    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; ++s)
        for (int a = 0; a < NUM_VIEWS; ++a)
            for (int b = 0; b < NUM_VIEWS; ++b)
                check_views(small_product, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2],
                            (enum view_kind)a, (enum view_kind)b);
}

static void check_gemm_threads(size_t rows, size_t inner, size_t columns, enum view_kind a_kind,
                               enum view_kind b_kind) {
    struct matrix a = view_make(rows, inner, a_kind, 70), b = view_make(inner, columns, b_kind, 71);
    float *expected = reference_values(rows * columns, 1, 72);
    gemm_serial(0.5f, a, b, true, expected, columns);
    const bool is_narrow = rows <= 16 || inner <= 16 || columns <= 16;
    char name[96];
    snprintf(name, sizeof name, "gemm [%zu, %zu, %zu] views %d, %d", rows, inner, columns, a_kind,
             b_kind);
    for (int threads = 1; threads <= MAX_THREADS; ++threads) {
        set_threads(threads);
        float *c = reference_values(rows * columns, 1, 72);
        gemm(0.5f, a, b, true, c, columns);
        assert_same_but_for_rounding(c, expected, rows * columns, name, "threads");
        if (is_narrow && threads == 1)
            memcpy(expected, c, rows * columns * sizeof *c);
        if (is_narrow)
            assert_same_bits(c, expected, rows * columns, name, "threads");
        memory_free(c);
    }
    set_threads(1);
    memory_free(expected);
    view_free(&a);
    view_free(&b);
}

static void test_gemm_agrees_for_any_number_of_threads(void **state) {
    (void)state;
    static const size_t LARGE[][3] = {
        {200, 96, 64}, {131, 300, 70}, {200, 128, 8}, {8, 200, 128}, {8, 200, 131},
        {257, 64, 1},  {1, 256, 300},  {65, 700, 33}, {200, 8, 128}, {37, 128, 384},
    };
    for (size_t rank = 1; rank <= 16; ++rank) { /* the products of an adapter */
        check_gemm_threads(205, 96, rank, VIEW_PLAIN, VIEW_TRANSPOSED);
        check_gemm_threads(205, rank, 96, VIEW_PLAIN, VIEW_PLAIN);
        check_gemm_threads(rank, 205, 200, VIEW_TRANSPOSED, VIEW_PLAIN);
    }
    for (size_t s = 0; s < sizeof LARGE / sizeof *LARGE; ++s)
        for (int views = 0; views < 4; ++views)
            check_gemm_threads(LARGE[s][0], LARGE[s][1], LARGE[s][2],
                               views % 2 ? VIEW_TRANSPOSED : VIEW_PLAIN,
                               views / 2 ? VIEW_TRANSPOSED : VIEW_PLAIN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_gemm),
        KERNEL_TEST(test_small_product),
        KERNEL_TEST(test_gemm_agrees_for_any_number_of_threads),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
