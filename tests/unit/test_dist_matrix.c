/* Process grids, the deal of a matrix to them, and its singular values; mpi_ranks: 1 2 4 6 */
#include "math/dist_matrix.h"

#include "reference.h"

#include <dlfcn.h>
#include <stdio.h>

static int mpi_rank, num_ranks;

/* Calls `check` on every grid of all ranks. */
static void on_every_grid(void (*check)(const struct process_grid *grid)) {
    for (size_t rows = 1; rows <= (size_t)num_ranks; ++rows) {
        if ((size_t)num_ranks % rows != 0)
            continue;
        struct process_grid *grid =
            process_grid_create(MPI_COMM_WORLD, rows, (size_t)num_ranks / rows);
        check(grid);
        process_grid_destroy(&grid);
        assert_null(grid);
    }
}

/* ---- grids ---- */

void Cblacs_gridinfo(int context, int *rows, int *columns, int *row, int *column);

static void check_place(const struct process_grid *grid) {
    assert_int_equal(grid->row * grid->columns + grid->column, mpi_rank);
    assert_true(grid->row < grid->rows && grid->column < grid->columns);
    int rows, columns, row, column;
    Cblacs_gridinfo(grid->context, &rows, &columns, &row, &column);
    assert_int_equal(rows, grid->columns);
    assert_int_equal(columns, grid->rows);
    assert_int_equal(row, grid->column);
    assert_int_equal(column, grid->row);
}

static void test_ranks_have_their_places_row_by_row(void **state) {
    (void)state;
    on_every_grid(check_place);
}

/* Grids of parts of the world, several at the same time, as stages have them. */
static void test_grids_of_parts(void **state) {
    (void)state;
    MPI_Comm part, reversed;
    MPI_Comm_split(MPI_COMM_WORLD, mpi_rank % 2, mpi_rank, &part);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -mpi_rank, &reversed);
    int size, rank;
    MPI_Comm_size(part, &size);
    MPI_Comm_rank(part, &rank);
    for (int round = 0; round < 40; ++round) { /* more than BLACS has room for at first */
        struct process_grid *grid = process_grid_create(part, (size_t)size, 1);
        struct process_grid *all = process_grid_create(reversed, 1, (size_t)num_ranks);
        assert_int_equal(grid->row, rank);
        assert_int_equal(all->column, num_ranks - 1 - mpi_rank);
        process_grid_destroy(&grid);
        process_grid_destroy(&all);
    }
    MPI_Comm_free(&part);
    MPI_Comm_free(&reversed);
}

static void test_no_grid(void **state) {
    (void)state;
    struct process_grid *grid = NULL;
    process_grid_destroy(&grid);
}

/* ---- matrices ---- */

static const struct shape {
    size_t rows, columns, row_block, column_block;
} SHAPES[] = {{1, 1, 1, 1},  {7, 5, 2, 3}, {12, 8, 3, 4},  {5, 40, 64, 4},
              {40, 1, 3, 7}, {3, 0, 2, 2}, {31, 29, 4, 16}};
enum { NUM_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static float numbered(const void *columns, size_t row, size_t column) {
    return (float)(1 + row * *(const size_t *)columns + column);
}

static struct dist_matrix make(const struct process_grid *grid, const struct shape *shape) {
    struct dist_matrix matrix = dist_matrix_of(grid, shape->rows, shape->columns, shape->row_block,
                                               shape->column_block, NULL);
    matrix.data =
        memory_allocate(matrix.local_rows * matrix.local_columns, sizeof *matrix.data, "part");
    return matrix;
}

/* Every element is on one process, the one that the block-cyclic rule names, in its place. */
static void check_parts(const struct dist_matrix *matrix) {
    const struct process_grid *grid = matrix->grid;
    size_t count = 0;
    for (size_t i = 0; i < matrix->rows; ++i)
        for (size_t j = 0; j < matrix->columns; ++j) {
            if (i / matrix->row_block % grid->rows != grid->row ||
                j / matrix->column_block % grid->columns != grid->column)
                continue;
            const size_t row = i / (matrix->row_block * grid->rows) * matrix->row_block +
                               i % matrix->row_block,
                         column =
                             j / (matrix->column_block * grid->columns) * matrix->column_block +
                             j % matrix->column_block;
            assert_int_equal(dist_matrix_row(matrix, row), i);
            assert_int_equal(dist_matrix_column(matrix, column), j);
            assert_float_equal(matrix->data[row * matrix->local_columns + column],
                               numbered(&matrix->columns, i, j), 0);
            ++count;
        }
    assert_int_equal(count, matrix->local_rows * matrix->local_columns);
    unsigned long mine = count, all = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_UNSIGNED_LONG, MPI_SUM, MPI_COMM_WORLD);
    assert_int_equal(all, matrix->rows * matrix->columns);
}

static void check_fill(const struct process_grid *grid) {
    for (size_t s = 0; s < NUM_SHAPES; ++s) {
        struct dist_matrix matrix = make(grid, &SHAPES[s]);
        dist_matrix_fill(&matrix, numbered, &matrix.columns);
        check_parts(&matrix);
        memory_free(matrix.data);
    }
}

static void test_fill(void **state) {
    (void)state;
    on_every_grid(check_fill);
}

static void check_scatter(const struct process_grid *grid) {
    for (size_t s = 0; s < NUM_SHAPES; ++s) {
        const size_t rows = SHAPES[s].rows, columns = SHAPES[s].columns, gap = 2;
        float *whole = memory_allocate(rows * (columns + gap), sizeof *whole, "whole");
        float *transposed = memory_allocate(columns * rows, sizeof *transposed, "transposed");
        for (size_t i = 0; i < rows; ++i)
            for (size_t j = 0; j < columns; ++j)
                whole[i * (columns + gap) + j] = transposed[j * rows + i] =
                    numbered(&columns, i, j);
        struct dist_matrix matrix = make(grid, &SHAPES[s]);
        dist_matrix_scatter(&matrix, matrix_strided(whole, rows, columns, columns + gap));
        check_parts(&matrix);
        memset(matrix.data, 0, matrix.local_rows * matrix.local_columns * sizeof(float));
        dist_matrix_scatter(&matrix, matrix_transpose(matrix_of(transposed, columns, rows)));
        check_parts(&matrix);
        memory_free(matrix.data);
        memory_free(whole);
        memory_free(transposed);
    }
}

static void test_scatter(void **state) {
    (void)state;
    on_every_grid(check_scatter);
}

/* ---- singular values ---- */

enum { MOST_VALUES = 96 };

/* (I - 2 u u^T) D (I - 2 v v^T) with unit vectors u and v, and D diagonal: singular values d. */
struct reflected {
    double u[MOST_VALUES], v[MOST_VALUES], d[MOST_VALUES], middle; /* u^T D v */
    size_t num_values;
};

static void make_unit(double *vector, size_t count, uint64_t seed) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
        vector[i] = (double)reference_uniform(&seed);
        sum += vector[i] * vector[i];
    }
    for (size_t i = 0; i < count; ++i)
        vector[i] /= sqrt(sum);
}

static struct reflected reflect(size_t rows, size_t columns, double (*value)(size_t i)) {
    struct reflected source = {.num_values = rows < columns ? rows : columns};
    make_unit(source.u, rows, 1);
    make_unit(source.v, columns, 2);
    for (size_t i = 0; i < source.num_values; ++i) {
        source.d[i] = value(i);
        source.middle += source.u[i] * source.d[i] * source.v[i];
    }
    return source;
}

static float reflected_element(const void *context, size_t i, size_t j) {
    const struct reflected *s = context;
    const double du = j < s->num_values ? s->u[j] * s->d[j] : 0;
    const double dv = i < s->num_values ? s->d[i] * s->v[i] : 0;
    return (float)((i == j && i < s->num_values ? s->d[i] : 0) - 2 * s->u[i] * du -
                   2 * dv * s->v[j] + 4 * s->u[i] * s->middle * s->v[j]);
}

static double value_linear(size_t i) {
    return 100.0 - (double)i;
}
static double value_steep(size_t i) {
    return pow(0.5, (double)i);
}
static double value_equal(size_t i) {
    return i < 3 ? 2 : 0;
}
static double value_zero(size_t i) {
    return 0.0 * (double)i;
}

static void check_values(const struct process_grid *grid, const struct shape *shape,
                         double (*value)(size_t i)) {
    const struct reflected source = reflect(shape->rows, shape->columns, value);
    struct dist_matrix matrix = make(grid, shape);
    dist_matrix_fill(&matrix, reflected_element, &source);
    float values[MOST_VALUES];
    assert_true(dist_matrix_singular_values(&matrix, values));
    for (size_t i = 0; i < source.num_values; ++i)
        if (!(fabs((double)values[i] - source.d[i]) <= 3e-6 * source.d[0]))
            fail_msg("[%zu, %zu] in blocks of %zu on %zu x %zu: value %zu is %g, not %g",
                     shape->rows, shape->columns, shape->row_block, grid->rows, grid->columns, i,
                     (double)values[i], source.d[i]);
    float same[MOST_VALUES];
    memcpy(same, values, sizeof same);
    MPI_Bcast(same, (int)source.num_values, MPI_FLOAT, 0, MPI_COMM_WORLD);
    assert_memory_equal(same, values, source.num_values * sizeof *same);
    memory_free(matrix.data);
}

/* Also of matrices of which some processes have nothing. */
static void check_all_values(const struct process_grid *grid) {
    static const struct shape shapes[] = {{24, 24, 4, 4}, {24, 48, 4, 4},   {90, 20, 16, 16},
                                          {5, 7, 8, 8},   {61, 96, 10, 10}, {1, 9, 1, 1},
                                          {9, 1, 2, 2},   {1, 1, 1, 1},     {96, 96, 32, 32}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
        check_values(grid, &shapes[s], value_linear);
        check_values(grid, &shapes[s], value_steep);
        check_values(grid, &shapes[s], value_zero);
        if (shapes[s].rows > 3 && shapes[s].columns > 3)
            check_values(grid, &shapes[s], value_equal);
    }
}

static void test_singular_values(void **state) {
    (void)state;
    on_every_grid(check_all_values);
}

static void test_grids_are_as_square_as_they_can_be(void **state) {
    (void)state;
    static const size_t expected[][2] = {{1, 1},  {2, 1},  {3, 1},  {4, 2},   {6, 2},
                                         {7, 1},  {9, 3},  {12, 3}, {36, 6},  {48, 6},
                                         {97, 1}, {98, 7}, {99, 9}, {512, 16}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i)
        assert_int_equal(process_grid_rows(expected[i][0]), expected[i][1]);
}

/* ScaLAPACK finds the panel width of this program, not its own. */
static void test_panel_width(void **state) {
    (void)state;
    int context = 0;
    char precision[] = "S";
    int (*found)(int *, char *);
    *(void **)&found = dlsym(RTLD_DEFAULT, "pilaenv_");
    assert_non_null(found);
    assert_int_equal(found(&context, precision), 512);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_have_their_places_row_by_row),
        cmocka_unit_test(test_grids_of_parts),
        cmocka_unit_test(test_no_grid),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_scatter),
        cmocka_unit_test(test_singular_values),
        cmocka_unit_test(test_grids_are_as_square_as_they_can_be),
        cmocka_unit_test(test_panel_width),
    };
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
