/* Distributed matrices: the only file that calls ScaLAPACK and BLACS.
 *
 * A process grid is rows x columns of the ranks of a communicator, row-major. A matrix [m, n] is
 * dealt to it in blocks (block-cyclic): block row i to grid row i mod rows, block column j to grid
 * column j mod columns; what a process holds is [local_rows, local_columns], row-major without
 * gaps. ScaLAPACK stores columns, so it is told of the transpose [n, m] on the transposed grid:
 * the same memory. Matrices then look as elsewhere in the program (math/matrix.h). */
#ifndef AUTOLORA_MATH_DIST_MATRIX_H
#define AUTOLORA_MATH_DIST_MATRIX_H

#include "math/matrix.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

struct process_grid {
    int context, system_handle; /* BLACS's; it has columns x rows processes */
    size_t rows, columns;
    size_t row, column; /* this process */
    MPI_Comm handle;    /* borrowed; its rank row * columns + column is this process */
};

/* Rows of the grid of `num_processes` that is as square as can be; at most as many as columns. */
size_t process_grid_rows(size_t num_processes);
/* A grid of all ranks of `handle`, which must be rows * columns; BLACS has a communicator of its
 * own for it. Collective. */
struct process_grid *process_grid_create(MPI_Comm handle, size_t rows, size_t columns);
/* Collective; NULL is allowed. */
void process_grid_destroy(struct process_grid **grid);

/* A view of a matrix on a grid; owns nothing. */
struct dist_matrix {
    const struct process_grid *grid;
    size_t rows, columns, row_block, column_block; /* of the whole */
    size_t local_rows, local_columns;
    float *data;       /* [local_rows, local_columns] */
    int descriptor[9]; /* ScaLAPACK's, of the transpose */
};

/* `data` may be NULL until memory for local_rows * local_columns is there. Not collective. */
struct dist_matrix dist_matrix_of(const struct process_grid *grid, size_t rows, size_t columns,
                                  size_t row_block, size_t column_block, float *data);

/* Where in the whole matrix a local row or column is. */
size_t dist_matrix_row(const struct dist_matrix *matrix, size_t local_row);
size_t dist_matrix_column(const struct dist_matrix *matrix, size_t local_column);

typedef float dist_matrix_element(const void *source, size_t row, size_t column);
/* Every process fills its part: with element(source, row, column) of the whole / from the whole
 * matrix, which it has. Not collective. */
void dist_matrix_fill(const struct dist_matrix *matrix, dist_matrix_element *element,
                      const void *source);
void dist_matrix_scatter(const struct dist_matrix *matrix, struct matrix whole);

/* values [min(rows, columns)], the same on every process: descending. The matrix, whose blocks are
 * square, is overwritten. False, the same everywhere, if the iteration does not converge. Absolute
 * errors are a small multiple of 1e-7 of the largest value, and depend on the grid. Collective. */
bool dist_matrix_singular_values(const struct dist_matrix *matrix, float *values);

/* c = a b + (accumulate ? c : 0) with a [m, k], b [k, n] or, transposed, [n, k], and c [m, n] on
 * one grid; ScaLAPACK chooses by their sizes which of the three stays where it is. Collective. */
void dist_matrix_product(const struct dist_matrix *a, const struct dist_matrix *b,
                         bool transposes_b, bool accumulate, const struct dist_matrix *c);

/* Rows (or columns) of a block-cyclic matrix that one process holds: blocks of `block_size` are
 * dealt in turn to the `num_processes` processes of a grid row or column, starting with process 0.
 * Sums to `global_size` over the processes. Sizes must fit an int. Not collective. */
size_t dist_matrix_local_size(size_t global_size, size_t block_size, size_t process,
                              size_t num_processes);

/* The width of the panels in which ScaLAPACK's products travel and are computed. ScaLAPACK asks for
 * it by this name, and its own answer, 32, makes panels too narrow for BLIS: this one stands in for
 * it (a program's symbols come before a shared library's). */
int pilaenv_(int *context, char *precision);

/* Path of the ScaLAPACK library really loaded; "?" if it is linked statically. */
const char *dist_matrix_library(void);

#endif
