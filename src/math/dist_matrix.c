/* ScaLAPACK has no C header; its routines take every argument by address. */
#include "math/dist_matrix.h"

#include "base/memory.h"
#include "base/report.h"

#include <dlfcn.h>
#include <limits.h>

int Csys2blacs_handle(MPI_Comm handle);
void Cfree_blacs_system_handle(int system_handle);
void Cblacs_gridinit(int *context, const char *order, int rows, int columns);
void Cblacs_gridexit(int context);
int numroc_(const int *global_size, const int *block_size, const int *process,
            const int *source_process, const int *num_processes);
void descinit_(int *descriptor, const int *rows, const int *columns, const int *row_block,
               const int *column_block, const int *row_source, const int *column_source,
               const int *context, const int *leading_dimension, int *info);
void psgesvd_(const char *left_job, const char *right_job, const int *rows, const int *columns,
              float *a, const int *row, const int *column, const int *descriptor, float *values,
              float *left, const int *left_row, const int *left_column, const int *left_descriptor,
              float *right, const int *right_row, const int *right_column,
              const int *right_descriptor, float *work, const int *work_size, int *info,
              size_t left_length, size_t right_length);
void psgemm_(const char *transposes_a, const char *transposes_b, const int *m, const int *n,
             const int *k, const float *scale, const float *a, const int *first_row_a,
             const int *first_column_a, const int *descriptor_a, const float *b,
             const int *first_row_b, const int *first_column_b, const int *descriptor_b,
             const float *keep, float *c, const int *first_row_c, const int *first_column_c,
             const int *descriptor_c);

enum { PANEL_WIDTH = 512 };

int pilaenv_(int *context, char *precision) {
    (void)context;
    (void)precision;
    return PANEL_WIDTH;
}

static int to_int(size_t size) {
    FAULT_UNLESS(size <= INT_MAX, "%zu is too large for ScaLAPACK", size);
    return (int)size;
}

/* ---- grids ---- */

size_t process_grid_rows(size_t num_processes) {
    size_t rows = 1;
    for (size_t divisor = 2; divisor * divisor <= num_processes; ++divisor)
        if (num_processes % divisor == 0)
            rows = divisor;
    return rows;
}

struct process_grid *process_grid_create(MPI_Comm handle, size_t rows, size_t columns) {
    int mpi_rank, size;
    MPI_Comm_rank(handle, &mpi_rank);
    MPI_Comm_size(handle, &size);
    FAULT_UNLESS(rows > 0 && columns > 0 && rows * columns == (size_t)size,
                 "a grid of %zu x %zu processes on %d ranks", rows, columns, size);
    struct process_grid *grid = memory_allocate(1, sizeof *grid, "process grid");
    *grid = (struct process_grid){.rows = rows,
                                  .columns = columns,
                                  .row = (size_t)mpi_rank / columns,
                                  .column = (size_t)mpi_rank % columns,
                                  .handle = handle};
    grid->system_handle = Csys2blacs_handle(handle);
    grid->context = grid->system_handle;
    Cblacs_gridinit(&grid->context, "Column", to_int(columns), to_int(rows));
    return grid;
}

void process_grid_destroy(struct process_grid **grid) {
    if (*grid == NULL)
        return;
    Cblacs_gridexit((*grid)->context);
    Cfree_blacs_system_handle((*grid)->system_handle);
    memory_free(*grid);
    *grid = NULL;
}

/* ---- matrices ---- */

size_t dist_matrix_local_size(size_t global_size, size_t block_size, size_t process,
                              size_t num_processes) {
    FAULT_UNLESS(block_size > 0 && process < num_processes, "process %zu of %zu, blocks of %zu",
                 process, num_processes, block_size);
    const int global = to_int(global_size), block = to_int(block_size), at = to_int(process),
              source = 0, processes = to_int(num_processes);
    return (size_t)numroc_(&global, &block, &at, &source, &processes);
}

static void describe(struct dist_matrix *matrix) {
    const int rows = to_int(matrix->columns), columns = to_int(matrix->rows), source = 0,
              row_block = to_int(matrix->column_block), column_block = to_int(matrix->row_block),
              distance = matrix->local_columns > 0 ? to_int(matrix->local_columns) : 1;
    int info = 0;
    descinit_(matrix->descriptor, &rows, &columns, &row_block, &column_block, &source, &source,
              &matrix->grid->context, &distance, &info);
    FAULT_UNLESS(info == 0, "descinit: argument %d is wrong", -info);
}

struct dist_matrix dist_matrix_of(const struct process_grid *grid, size_t rows, size_t columns,
                                  size_t row_block, size_t column_block, float *data) {
    struct dist_matrix matrix = {
        .grid = grid,
        .rows = rows,
        .columns = columns,
        .row_block = row_block,
        .column_block = column_block,
        .local_rows = dist_matrix_local_size(rows, row_block, grid->row, grid->rows),
        .local_columns = dist_matrix_local_size(columns, column_block, grid->column, grid->columns),
        .data = data,
    };
    describe(&matrix);
    return matrix;
}

static size_t global_index(size_t local, size_t block, size_t process, size_t num_processes) {
    return (local / block * num_processes + process) * block + local % block;
}

size_t dist_matrix_row(const struct dist_matrix *matrix, size_t local_row) {
    return global_index(local_row, matrix->row_block, matrix->grid->row, matrix->grid->rows);
}

size_t dist_matrix_column(const struct dist_matrix *matrix, size_t local_column) {
    return global_index(local_column, matrix->column_block, matrix->grid->column,
                        matrix->grid->columns);
}

void dist_matrix_fill(const struct dist_matrix *matrix, dist_matrix_element *element,
                      const void *source) {
    for (size_t i = 0; i < matrix->local_rows; ++i)
        for (size_t j = 0; j < matrix->local_columns; ++j)
            matrix->data[i * matrix->local_columns + j] =
                element(source, dist_matrix_row(matrix, i), dist_matrix_column(matrix, j));
}

static float element_of_view(const void *source, size_t row, size_t column) {
    const struct matrix *view = source;
    return view->data[row * view->row_stride + column * view->column_stride];
}

void dist_matrix_scatter(const struct dist_matrix *matrix, struct matrix whole) {
    FAULT_UNLESS(whole.rows == matrix->rows && whole.columns == matrix->columns,
                 "[%zu, %zu] for a distributed matrix [%zu, %zu]", whole.rows, whole.columns,
                 matrix->rows, matrix->columns);
    dist_matrix_fill(matrix, element_of_view, &whole);
}

/* ---- singular values ---- */

/* Without vectors. Given no room it only says how much it needs, in *work. */
static int call_psgesvd(const struct dist_matrix *matrix, float *values, float *work,
                        int work_size) {
    const int rows = to_int(matrix->columns), columns = to_int(matrix->rows), one = 1;
    const int *d = matrix->descriptor;
    float none = 0;
    int info = 0;
    psgesvd_("N", "N", &rows, &columns, matrix->data, &one, &one, d, values, &none, &one, &one, d,
             &none, &one, &one, d, work, &work_size, &info, 1, 1);
    FAULT_UNLESS(info >= 0, "psgesvd: argument %d is wrong", -info);
    return info;
}

bool dist_matrix_singular_values(const struct dist_matrix *matrix, float *values) {
    FAULT_UNLESS(matrix->row_block == matrix->column_block, "psgesvd wants square blocks");
    if (matrix->rows == 0 || matrix->columns == 0)
        return true;
    float needed = 0;
    call_psgesvd(matrix, values, &needed, -1);
    const size_t size = (size_t)needed + (size_t)needed / 1024 + 16; /* a float is not exact */
    float *work = memory_allocate(size, sizeof *work, "room for singular values");
    const int info = call_psgesvd(matrix, values, work, to_int(size));
    memory_free(work);
    return info == 0;
}

/* ---- products ---- */

void dist_matrix_product(const struct dist_matrix *a, const struct dist_matrix *b,
                         bool transposes_b, bool accumulate, const struct dist_matrix *c) {
    FAULT_UNLESS(a->columns == (transposes_b ? b->columns : b->rows) && a->rows == c->rows &&
                     c->columns == (transposes_b ? b->rows : b->columns),
                 "product of [%zu, %zu] and [%zu, %zu]%s", a->rows, a->columns, b->rows, b->columns,
                 transposes_b ? " transposed" : "");
    /* of the transposes: c^T = b^T a^T */
    const int m = to_int(c->columns), n = to_int(c->rows), k = to_int(a->columns), first = 1;
    const float scale = 1, keep = accumulate ? 1 : 0;
    psgemm_(transposes_b ? "T" : "N", "N", &m, &n, &k, &scale, b->data, &first, &first,
            b->descriptor, a->data, &first, &first, a->descriptor, &keep, c->data, &first, &first,
            c->descriptor);
}

const char *dist_matrix_library(void) {
    Dl_info place;
    void *symbol = dlsym(RTLD_DEFAULT, "numroc_");
    if (symbol == NULL || dladdr(symbol, &place) == 0 || place.dli_fname == NULL)
        return "?";
    return place.dli_fname;
}
