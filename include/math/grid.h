/* A stage's process grid: rows of the grid split the rows of a token matrix (whole sequences),
 * columns split its columns (features). A rank's piece of a matrix is [its tokens, its features],
 * row-major without gaps. `grid` NULL stands for one process that has everything: then the
 * functions do nothing, or what is done without a grid.
 * Sums run in the order of the processes and give all of them the same bits. What is called
 * "collective over the row" has to be called by all columns of a grid row. */
#ifndef AUTOLORA_MATH_GRID_H
#define AUTOLORA_MATH_GRID_H

#include "math/dist_matrix.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grid {
    struct process_grid *processes;
    size_t rows, columns, row, column; /* as in processes */
    MPI_Comm in_row, in_column;        /* this row's columns, this column's rows, in order */
    struct grid_room *room;            /* grows as it is needed */
};

/* Of all ranks of `handle`, row-major, which must be rows * columns. Collective. */
struct grid *grid_create(MPI_Comm handle, size_t rows, size_t columns);
/* Collective; NULL is allowed. */
void grid_destroy(struct grid **grid);

/* Does this process speak for its row: is it in column 0? True without a grid. */
static inline bool grid_is_leader(const struct grid *grid) {
    return grid == NULL || grid->column == 0;
}

/* A part of `all` consecutive things: first, ..., first + count - 1. Parts have `block` each, the
 * last ones less or nothing: ScaLAPACK's deal of blocks that are not repeated. */
struct share {
    size_t first, count, all, block;
};
/* Of num_units * unit_size things, whole units in each part. */
struct share share_of(size_t num_units, size_t unit_size, size_t part, size_t num_parts);
/* All of them. */
struct share share_whole(size_t all);

/* How a weight W [out, in] is dealt: with splits_outputs, the piece is one of W^T [in, out], else
 * of W. Its rows are split by grid rows and its columns by grid columns, so that y = x W^T moves x
 * or y, whichever has the other size, and W among the rows. */
struct dealt_weight {
    const struct grid *grid;
    struct share inputs, outputs; /* of x's and y's features */
    struct share rows, columns;   /* of the piece */
    bool splits_outputs;
};
struct dealt_weight dealt_weight_of(const struct grid *grid, struct share inputs,
                                    struct share outputs, bool splits_outputs);

/* y = x W^T, or with `transposed` y = x W; added to y if accumulate. piece [rows.count,
 * columns.count]. Every grid row has room for `row_block` rows of x and y, of which it may use
 * less: the others hold anything and become anything. Collective over the grid. */
void grid_product(const struct dealt_weight *weight, const float *piece, size_t row_block,
                  const float *x, bool transposed, bool accumulate, float *y);

/* values [count] become their sums over the columns of this row. Collective over the row. */
void grid_row_sum(const struct grid *grid, float *values, size_t count);
/* ... over the whole grid. Collective over the grid. */
void grid_sum(const struct grid *grid, float *values, size_t count);
double grid_sum_number(const struct grid *grid, double value);

/* whole [rows, share.all] of this grid row from the pieces [rows, share.count] of its columns.
 * Collective over the row. */
void grid_gather_row(const struct grid *grid, struct share share, const float *piece, size_t rows,
                     float *whole);
/* The other way. Not collective. */
void grid_take_columns(struct share share, const float *whole, size_t rows, float *piece);

/* Tables [table.all, width], of which each grid row has the rows `table`: y [count, width] are
 * those of `ids`; y has room for row_block rows. The width is this column's. Collective over the
 * grid column; every grid row asks for at most row_block. */
void grid_look_up(const struct grid *grid, struct share table, const float *piece, size_t width,
                  const int32_t *ids, size_t count, size_t row_block, float *y);

/* Arrays to which each grid row has given some elements, the others being 0: all of it, on every
 * process. Collective over the grid column. */
void grid_merge_integers(const struct grid *grid, int32_t *values, size_t count);
void grid_merge_floats(const struct grid *grid, float *values, size_t count);

/* Room for `count` floats, until it is asked for again. */
float *grid_room(const struct grid *grid, size_t count);

#endif
