/* Pieces of token matrices on a grid. Sums are made by gathering the addends and adding them up in
 * order, so that no process can differ from another in a bit. */
#include "math/grid.h"

#include "base/memory.h"
#include "base/report.h"

#include <limits.h>
#include <string.h>

enum { ROOM_OF_CALLER, ROOM_OF_MESSAGES, ROOM_OF_SUMS, NUM_ROOMS };

struct grid_room {
    float *floats[NUM_ROOMS];
    size_t counts[NUM_ROOMS];
};

static float *room_of(const struct grid *grid, int which, size_t count) {
    struct grid_room *room = grid->room;
    if (room->counts[which] < count || room->floats[which] == NULL) {
        memory_free(room->floats[which]);
        room->floats[which] = memory_allocate(count, sizeof(float), "messages of the grid");
        room->counts[which] = count;
    }
    return room->floats[which];
}

float *grid_room(const struct grid *grid, size_t count) {
    return room_of(grid, ROOM_OF_CALLER, count);
}

static int count_of(size_t count) {
    FAULT_UNLESS(count <= INT_MAX, "%zu elements do not fit one message", count);
    return (int)count;
}

struct grid *grid_create(MPI_Comm handle, size_t rows, size_t columns) {
    struct grid *grid = memory_allocate(1, sizeof *grid, "a grid");
    grid->processes = process_grid_create(handle, rows, columns);
    grid->rows = rows;
    grid->columns = columns;
    grid->row = grid->processes->row;
    grid->column = grid->processes->column;
    MPI_Comm_split(handle, count_of(grid->row), count_of(grid->column), &grid->in_row);
    MPI_Comm_split(handle, count_of(grid->column), count_of(grid->row), &grid->in_column);
    grid->room = memory_allocate(1, sizeof *grid->room, "a grid");
    return grid;
}

void grid_destroy(struct grid **grid) {
    if (*grid == NULL)
        return;
    process_grid_destroy(&(*grid)->processes);
    MPI_Comm_free(&(*grid)->in_row);
    MPI_Comm_free(&(*grid)->in_column);
    for (int i = 0; i < NUM_ROOMS; ++i)
        memory_free((*grid)->room->floats[i]);
    memory_free((*grid)->room);
    memory_free(*grid);
    *grid = NULL;
}

/* ---- shares ---- */

static size_t least(size_t left, size_t right) {
    return left < right ? left : right;
}

struct share share_of(size_t num_units, size_t unit_size, size_t part, size_t num_parts) {
    const size_t all = num_units * unit_size;
    const size_t block = (num_units + num_parts - 1) / num_parts * unit_size;
    const size_t first = least(part * block, all);
    return (struct share){first, least(block, all - first), all, block};
}

struct share share_whole(size_t all) {
    return (struct share){0, all, all, all};
}

void grid_take_columns(struct share share, const float *whole, size_t rows, float *piece) {
    for (size_t i = 0; i < rows; ++i)
        memcpy(piece + i * share.count, whole + i * share.all + share.first,
               share.count * sizeof *piece);
}

/* ---- products ---- */

struct dealt_weight dealt_weight_of(const struct grid *grid, struct share inputs,
                                    struct share outputs, bool splits_outputs) {
    const size_t rows = splits_outputs ? inputs.all : outputs.all;
    return (struct dealt_weight){
        .grid = grid,
        .inputs = inputs,
        .outputs = outputs,
        .rows = share_of(rows, 1, grid->row, grid->rows),
        .columns = splits_outputs ? outputs : inputs,
        .splits_outputs = splits_outputs,
    };
}

static struct dist_matrix token_matrix(const struct grid *grid, size_t row_block,
                                       struct share features, const float *values) {
    return dist_matrix_of(grid->processes, grid->rows * row_block, features.all, row_block,
                          features.block, (float *)(size_t)values);
}

void grid_product(const struct dealt_weight *weight, const float *piece, size_t row_block,
                  const float *x, bool transposed, bool accumulate, float *y) {
    if (row_block == 0)
        return;
    const struct grid *grid = weight->grid;
    const struct dist_matrix left =
        token_matrix(grid, row_block, transposed ? weight->outputs : weight->inputs, x);
    const struct dist_matrix result =
        token_matrix(grid, row_block, transposed ? weight->inputs : weight->outputs, y);
    const struct dist_matrix right =
        dist_matrix_of(grid->processes, weight->rows.all, weight->columns.all, weight->rows.block,
                       weight->columns.block, (float *)(size_t)piece);
    dist_matrix_product(&left, &right, weight->splits_outputs == transposed, accumulate, &result);
}

/* ---- sums ---- */

/* sums [count] = the rows of parts [num_parts, count], added up from the first. */
static void add_parts(const float *parts, size_t num_parts, size_t count, float *sums) {
    memcpy(sums, parts, count * sizeof *sums);
    for (size_t p = 1; p < num_parts; ++p) {
        const float *part = parts + p * count;
#pragma omp simd
        for (size_t i = 0; i < count; ++i)
            sums[i] += part[i];
    }
}

void grid_row_sum(const struct grid *grid, float *values, size_t count) {
    if (grid == NULL || grid->columns == 1 || count == 0)
        return;
    float *parts = room_of(grid, ROOM_OF_MESSAGES, grid->columns * count);
    MPI_Allgather(values, count_of(count), MPI_FLOAT, parts, count_of(count), MPI_FLOAT,
                  grid->in_row);
    add_parts(parts, grid->columns, count, values);
}

/* Each process adds up one part of the elements. */
void grid_sum(const struct grid *grid, float *values, size_t count) {
    if (grid == NULL || count == 0)
        return;
    const size_t size = grid->rows * grid->columns, part = (count + size - 1) / size;
    const MPI_Comm all = grid->processes->handle;
    float *given = room_of(grid, ROOM_OF_MESSAGES, size * part);
    float *received = room_of(grid, ROOM_OF_SUMS, size * part);
    memcpy(given, values, count * sizeof *values);
    memset(given + count, 0, (size * part - count) * sizeof *values);
    MPI_Alltoall(given, count_of(part), MPI_FLOAT, received, count_of(part), MPI_FLOAT, all);
    add_parts(received, size, part, given);
    MPI_Allgather(given, count_of(part), MPI_FLOAT, received, count_of(part), MPI_FLOAT, all);
    memcpy(values, received, count * sizeof *values);
}

double grid_sum_number(const struct grid *grid, double value) {
    if (grid == NULL)
        return value;
    const size_t size = grid->rows * grid->columns;
    double *parts = memory_allocate(size, sizeof *parts, "numbers of the grid"), sum = 0;
    MPI_Allgather(&value, 1, MPI_DOUBLE, parts, 1, MPI_DOUBLE, grid->processes->handle);
    for (size_t i = 0; i < size; ++i)
        sum += parts[i];
    memory_free(parts);
    return sum;
}

/* ---- moving pieces ---- */

/* Pieces travel at the size of the largest, one after the other. */
void grid_gather_row(const struct grid *grid, struct share share, const float *piece, size_t rows,
                     float *whole) {
    const size_t most = rows * share.block;
    if (most == 0)
        return;
    float *given = room_of(grid, ROOM_OF_SUMS, most);
    float *pieces = room_of(grid, ROOM_OF_MESSAGES, grid->columns * most);
    memcpy(given, piece, rows * share.count * sizeof *given);
    MPI_Allgather(given, count_of(most), MPI_FLOAT, pieces, count_of(most), MPI_FLOAT,
                  grid->in_row);
    for (size_t c = 0; c < grid->columns; ++c) {
        const size_t first = least(c * share.block, share.all);
        const size_t width = least(share.block, share.all - first);
        for (size_t i = 0; i < rows; ++i)
            memcpy(whole + i * share.all + first, pieces + c * most + i * width,
                   width * sizeof *whole);
    }
}

void grid_look_up(const struct grid *grid, struct share table, const float *piece, size_t width,
                  const int32_t *ids, size_t count, size_t row_block, float *y) {
    const size_t asked = grid->rows * row_block, size = row_block * width;
    int32_t *mine = memory_allocate(row_block, sizeof *mine, "ids");
    int32_t *all = memory_allocate(asked, sizeof *all, "ids");
    memcpy(mine, ids, count * sizeof *mine);
    for (size_t i = count; i < row_block; ++i)
        mine[i] = -1;
    MPI_Allgather(mine, count_of(row_block), MPI_INT32_T, all, count_of(row_block), MPI_INT32_T,
                  grid->in_column);
    float *answers = room_of(grid, ROOM_OF_MESSAGES, asked * width);
    for (size_t i = 0; i < asked; ++i) {
        const bool is_here = all[i] >= 0 && (size_t)all[i] >= table.first &&
                             (size_t)all[i] - table.first < table.count;
        if (is_here)
            memcpy(answers + i * width, piece + ((size_t)all[i] - table.first) * width,
                   width * sizeof *answers);
        else
            memset(answers + i * width, 0, width * sizeof *answers);
    }
    /* one of the addends is the row, the others are 0 */
    MPI_Reduce_scatter_block(answers, y, count_of(size), MPI_FLOAT, MPI_SUM, grid->in_column);
    memory_free(mine);
    memory_free(all);
}

void grid_merge_integers(const struct grid *grid, int32_t *values, size_t count) {
    if (grid != NULL)
        MPI_Allreduce(MPI_IN_PLACE, values, count_of(count), MPI_INT32_T, MPI_SUM, grid->in_column);
}

void grid_merge_floats(const struct grid *grid, float *values, size_t count) {
    if (grid != NULL)
        MPI_Allreduce(MPI_IN_PLACE, values, count_of(count), MPI_FLOAT, MPI_SUM, grid->in_column);
}
