/* Dense products: the only file that calls BLIS. */
#ifndef AUTOLORA_MATH_GEMM_H
#define AUTOLORA_MATH_GEMM_H

#include "math/matrix.h"

#include <stdbool.h>

/* c = scale * a b + (accumulate ? c : 0), with a [m, k], b [k, n], and c [m, n] row-major with rows
 * `c_stride` elements apart. With accumulate false, c need not be initialised. Uses the threads
 * that gemm_set_threads allowed. The result depends on shapes and strides; where a dimension is at
 * most 16, as in the products with low-rank factors, it is the same for any number of threads, and
 * elsewhere BLIS may pick other kernels at the edges of a thread's share. */
void gemm(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
          size_t c_stride);

/* The same on the calling thread alone: for use inside parallel regions. */
void gemm_serial(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                 size_t c_stride);

/* Threads of a product from now on. Process-wide, as BLIS's own setting is. */
void gemm_set_threads(int num_threads);

/* Name of the kernel set that BLIS chose for this processor ("zen3"), and its version. */
const char *gemm_kernel_name(void);
const char *gemm_library_version(void);

/* Path of the shared library that a Fortran BLAS call (sgemm_), as ScaLAPACK and LAPACK make it,
 * ends up in; "?" if unknown. Must be BLIS. */
const char *gemm_fortran_library(void);

#endif
