/* Matrices that are a product of thin factors: the only file that calls LAPACK. */
#ifndef AUTOLORA_MATH_LOW_RANK_H
#define AUTOLORA_MATH_LOW_RANK_H

#include <stdbool.h>
#include <stddef.h>

/* values [rank], descending: the singular values of scale * b^T a [rows, columns], with
 * a [rank, columns] and b [rank, rows], row-major. QR decompositions of both factors leave a matrix
 * [rank, rank], and all of it is in double precision: each value is right to float32's precision
 * unless it is below 1e-9 of the largest. The product's other singular values are zero. False if
 * the iteration does not converge. */
bool low_rank_singular_values(float scale, const float *a, const float *b, size_t rank, size_t rows,
                              size_t columns, float *values);

#endif
