/* Eigenvalues of small symmetric matrices, by Jacobi's rotations: the same bits on every machine.
 */
#ifndef AUTOLORA_MATH_EIGEN_H
#define AUTOLORA_MATH_EIGEN_H

#include <stddef.h>

/* values [n] of the symmetric matrix [n, n], which is used up; in no particular order. */
void eigenvalues_symmetric(double *matrix, size_t n, double *values);

#endif
