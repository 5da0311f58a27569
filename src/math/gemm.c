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

void gemm(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
          size_t c_stride) {
    product(scale, a, b, accumulate, c, c_stride, NULL);
}

void gemm_serial(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                 size_t c_stride) {
    rntm_t runtime = BLIS_RNTM_INITIALIZER;
    bli_rntm_set_num_threads(1, &runtime);
    product(scale, a, b, accumulate, c, c_stride, &runtime);
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
