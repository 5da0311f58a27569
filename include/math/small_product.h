/* Products of the size of an attention head, on one thread: written out for short sequences, where
 * a library call costs more than the product, and BLIS from there on. */
#ifndef AUTOLORA_MATH_SMALL_PRODUCT_H
#define AUTOLORA_MATH_SMALL_PRODUCT_H

#include "math/matrix.h"

#include <stdbool.h>

/* As gemm (math/gemm.h). The choice between the two ways depends on shapes and strides alone. */
void small_product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                   size_t c_stride);

#endif
