/* Products of the size of an attention head. */
#include "math/small_product.h"

#include "math/gemm.h"

#include <string.h>

enum { WRITTEN_OUT_PRODUCTS = 24 * 24 * 32 };

/* c_ij (+)= scale a_i . b_j: rows of a and columns of b are contiguous. */
static void rows_by_columns(float scale, struct matrix a, struct matrix b, bool accumulate,
                            float *c, size_t c_stride) {
    for (size_t i = 0; i < a.rows; ++i) {
        const float *x = a.data + i * a.row_stride;
        for (size_t j = 0; j < b.columns; ++j) {
            const float *y = b.data + j * b.column_stride;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (size_t l = 0; l < a.columns; ++l)
                sum += x[l] * y[l];
            c[i * c_stride + j] = scale * sum + (accumulate ? c[i * c_stride + j] : 0);
        }
    }
}

/* c_i (+)= sum_l (scale a_il) b_l: rows of b are contiguous. */
static void rows_by_rows(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                         size_t c_stride) {
    for (size_t i = 0; i < a.rows; ++i) {
        float *row = c + i * c_stride;
        if (!accumulate)
            memset(row, 0, b.columns * sizeof *row);
        for (size_t l = 0; l < a.columns; ++l) {
            const float factor = scale * a.data[i * a.row_stride + l * a.column_stride];
            const float *y = b.data + l * b.row_stride;
#pragma omp simd
            for (size_t j = 0; j < b.columns; ++j)
                row[j] += factor * y[j];
        }
    }
}

void small_product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                   size_t c_stride) {
    const bool is_small = a.rows * a.columns * b.columns <= WRITTEN_OUT_PRODUCTS;
    if (is_small && b.column_stride == 1)
        rows_by_rows(scale, a, b, accumulate, c, c_stride);
    else if (is_small && a.column_stride == 1 && b.row_stride == 1)
        rows_by_columns(scale, a, b, accumulate, c, c_stride);
    else
        gemm_serial(scale, a, b, accumulate, c, c_stride);
}
