/* Dense products through BLIS's typed interface, which takes both strides of every operand. */
#include "math/gemm.h"

#include "base/report.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <blis.h>
#pragma GCC diagnostic pop
#include <dlfcn.h>

static void product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                    size_t c_stride, rntm_t *runtime) {
    FAULT_UNLESS(a.columns == b.rows, "product of [%zu, %zu] and [%zu, %zu]", a.rows, a.columns,
                 b.rows, b.columns);
    if (a.rows == 0 || b.columns == 0)
        return;
    float beta = accumulate ? 1.0f : 0.0f;
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)a.rows, (dim_t)b.columns,
                 (dim_t)a.columns, &scale, (float *)(size_t)a.data, (inc_t)a.row_stride,
                 (inc_t)a.column_stride, (float *)(size_t)b.data, (inc_t)b.row_stride,
                 (inc_t)b.column_stride, &beta, c, (inc_t)c_stride, 1, NULL, runtime);
}

void gemm_serial(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                 size_t c_stride) {
    rntm_t runtime = BLIS_RNTM_INITIALIZER;
    bli_rntm_set_num_threads(1, &runtime);
    product(scale, a, b, accumulate, c, c_stride, &runtime);
}

/* A dimension this small makes a product narrow: BLIS's kernels for these sum up in an order that
 * depends on how the threads share the rows. */
enum { NARROW = 16, PIECE = 96 };

static bool is_narrow(struct matrix a, struct matrix b) {
    return a.rows <= NARROW || a.columns <= NARROW || b.columns <= NARROW;
}

static size_t larger(size_t left, size_t right) {
    return left > right ? left : right;
}

/* Piece by piece along the longer side of c. */
static void gemm_in_pieces(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                           size_t c_stride) {
    const bool is_tall = a.rows >= b.columns;
    const size_t length = larger(a.rows, b.columns), count = (length + PIECE - 1) / PIECE;
    const int wanted = (int)bli_thread_get_num_threads(); /* -1: nobody said */
    const int threads = wanted > 1 ? wanted : 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && count > 1)
    for (size_t i = 0; i < count; ++i) {
        const size_t first = i * PIECE, size = length - first < PIECE ? length - first : PIECE;
        struct matrix part_a = a, part_b = b;
        if (is_tall) {
            part_a.rows = size;
            part_a.data += first * a.row_stride;
        } else {
            part_b.columns = size;
            part_b.data += first * b.column_stride;
        }
        gemm_serial(scale, part_a, part_b, accumulate, c + first * (is_tall ? c_stride : 1),
                    c_stride);
    }
}

void gemm(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
          size_t c_stride) {
    if (is_narrow(a, b))
        gemm_in_pieces(scale, a, b, accumulate, c, c_stride);
    else
        product(scale, a, b, accumulate, c, c_stride, NULL);
}

void gemm_set_threads(int num_threads) {
    bli_thread_set_num_threads(num_threads);
}

const char *gemm_kernel_name(void) {
    return bli_arch_string(bli_arch_query_id());
}

const char *gemm_library_version(void) {
    return bli_info_get_version_str();
}

const char *gemm_fortran_library(void) {
    Dl_info place;
    void *symbol = dlsym(RTLD_DEFAULT, "sgemm_");
    if (symbol == NULL || dladdr(symbol, &place) == 0 || place.dli_fname == NULL)
        return "?";
    return place.dli_fname;
}
