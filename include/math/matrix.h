/* Views of matrices in row-major memory. A view owns nothing. */
#ifndef AUTOLORA_MATH_MATRIX_H
#define AUTOLORA_MATH_MATRIX_H

#include <stddef.h>

/* Element (i, j) is data[i * row_stride + j * column_stride]. */
struct matrix {
    const float *data;
    size_t rows, columns;
    size_t row_stride, column_stride;
};

/* [rows, columns], row-major without gaps. */
static inline struct matrix matrix_of(const float *data, size_t rows, size_t columns) {
    return (struct matrix){data, rows, columns, columns, 1};
}

/* The same with a distance of `row_stride` elements between rows. */
static inline struct matrix matrix_strided(const float *data, size_t rows, size_t columns,
                                           size_t row_stride) {
    return (struct matrix){data, rows, columns, row_stride, 1};
}

static inline struct matrix matrix_transpose(struct matrix m) {
    return (struct matrix){m.data, m.columns, m.rows, m.column_stride, m.row_stride};
}

#endif
