/* Distributed matrices: the only file that calls ScaLAPACK. */
#ifndef AUTOLORA_MATH_DIST_MATRIX_H
#define AUTOLORA_MATH_DIST_MATRIX_H

#include <stddef.h>

/* Rows (or columns) of a block-cyclic matrix that one process holds: blocks of `block_size` are
 * dealt in turn to the `num_processes` processes of a grid row or column, starting with process 0.
 * Sums to `global_size` over the processes. Sizes must fit an int. Not collective. */
size_t dist_matrix_local_size(size_t global_size, size_t block_size, size_t process,
                              size_t num_processes);

/* Path of the ScaLAPACK library really loaded; "?" if it is linked statically. */
const char *dist_matrix_library(void);

#endif
