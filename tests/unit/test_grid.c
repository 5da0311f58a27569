/* Pieces of matrices on a grid against the whole: products, sums, layer norm, dropout, tables;
 * mpi_ranks: 1 2 3 4 6 */
#include "math/gemm.h"
#include "math/grid.h"
#include "math/kernels.h"
#include "math/split_norm.h"

#include "reference.h"

#include <stdio.h>

static int mpi_rank, num_ranks;

static void on_every_grid(void (*check)(const struct grid *grid)) {
    for (size_t rows = 1; rows <= (size_t)num_ranks; ++rows) {
        if ((size_t)num_ranks % rows != 0)
            continue;
        struct grid *grid = grid_create(MPI_COMM_WORLD, rows, (size_t)num_ranks / rows);
        check(grid);
        grid_destroy(&grid);
        assert_null(grid);
    }
}

/* Rows of the matrices that each grid row has: fewer and fewer, at last none. */
enum { MOST_ROWS = 7 };

static size_t rows_of(size_t row) {
    const size_t counts[] = {MOST_ROWS, 4, 5, 0, 1, 2};
    return counts[row];
}

static size_t first_row_of(size_t row) {
    size_t first = 0;
    for (size_t r = 0; r < row; ++r)
        first += rows_of(r);
    return first;
}

/* This process's piece of a matrix [all rows, share.all], with room for MOST_ROWS. */
static float *piece_of(const struct grid *grid, struct share share, const float *whole) {
    float *piece = memory_allocate(MOST_ROWS * share.count, sizeof *piece, "a piece");
    for (size_t i = 0; i < MOST_ROWS * share.count; ++i)
        piece[i] = 1e6f; /* what is not used may be anything */
    grid_take_columns(share, whole + first_row_of(grid->row) * share.all, rows_of(grid->row),
                      piece);
    return piece;
}

static void assert_piece(const struct grid *grid, struct share share, const float *piece,
                         const float *whole, const char *what) {
    float *expected = piece_of(grid, share, whole);
    assert_same_but_for_rounding(piece, expected, rows_of(grid->row) * share.count, "grid", what);
    memory_free(expected);
}

/* ---- shares ---- */

static void test_shares_are_whole_units_and_complete(void **state) {
    (void)state;
    for (size_t units = 1; units < 30; ++units)
        for (size_t parts = 1; parts < 9; ++parts) {
            size_t next = 0;
            for (size_t part = 0; part < parts; ++part) {
                const struct share share = share_of(units, 3, part, parts);
                assert_int_equal(share.first, next);
                assert_int_equal(share.count % 3, 0);
                assert_int_equal(share.all, 3 * units);
                assert_true(share.count <= share.block);
                next += share.count;
            }
            assert_int_equal(next, 3 * units);
        }
    const struct share uneven = share_of(25, 64, 1, 2);
    assert_int_equal(uneven.first, 13 * 64);
    assert_int_equal(uneven.count, 12 * 64);
}

/* ---- products ---- */

/* y = x W^T and d_x = d_y W, with the piece of W in either form. */
static void check_product(const struct grid *grid, size_t ins, size_t outs, bool splits_outputs) {
    const struct share in = share_of(ins, 4, grid->column, grid->columns);
    const struct share out = share_of(outs, 4, grid->column, grid->columns);
    const size_t rows = first_row_of(grid->rows);
    float *x = reference_values(rows * in.all, 1, 1), *w = reference_values(out.all * in.all, 1, 2);
    float *y = reference_values(rows * out.all, 1, 3);
    const struct dealt_weight weight = dealt_weight_of(grid, in, out, splits_outputs);
    float *piece =
        memory_allocate(weight.rows.count * weight.columns.count, sizeof *piece, "a piece");
    for (size_t i = 0; i < weight.rows.count; ++i)
        for (size_t j = 0; j < weight.columns.count; ++j) {
            const size_t row = weight.rows.first + i, column = weight.columns.first + j;
            piece[i * weight.columns.count + j] =
                splits_outputs ? w[column * in.all + row] : w[row * in.all + column];
        }
    float *x_piece = piece_of(grid, in, x), *y_piece = piece_of(grid, out, y);
    for (int accumulate = 1; accumulate >= 0; --accumulate) {
        gemm(1, matrix_of(x, rows, in.all), matrix_transpose(matrix_of(w, out.all, in.all)),
             accumulate, y, out.all);
        grid_product(&weight, piece, MOST_ROWS, x_piece, false, accumulate, y_piece);
        assert_piece(grid, out, y_piece, y, "x W^T");
        gemm(1, matrix_of(y, rows, out.all), matrix_of(w, out.all, in.all), accumulate, x, in.all);
        grid_product(&weight, piece, MOST_ROWS, y_piece, true, accumulate, x_piece);
        assert_piece(grid, in, x_piece, x, "y W");
    }
    memory_free(x);
    memory_free(y);
    memory_free(w);
    memory_free(piece);
    memory_free(x_piece);
    memory_free(y_piece);
}

static void check_products(const struct grid *grid) {
    static const size_t sizes[][2] = {{12, 12}, {3, 13}, {13, 7}, {1, 6}, {140, 11}, {90, 200}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
        check_product(grid, sizes[s][0], sizes[s][1], false);
        check_product(grid, sizes[s][0], sizes[s][1], true);
    }
}

static void test_products(void **state) {
    (void)state;
    on_every_grid(check_products);
}

/* ---- sums and moves ---- */

static float part_of(size_t process, size_t i) {
    return sinf((float)(process * 31 + i)) * 1e3f;
}

/* In the order of the processes, so to the bit. */
static void check_sums(const struct grid *grid) {
    enum { COUNT = 37 };
    for (size_t count = 0; count <= COUNT; count += COUNT) {
        float row[COUNT], all[COUNT], row_sum[COUNT], all_sum[COUNT];
        for (size_t i = 0; i < count; ++i) {
            row[i] = all[i] = part_of((size_t)mpi_rank, i);
            row_sum[i] = part_of(grid->row * grid->columns, i);
            all_sum[i] = part_of(0, i);
            for (size_t c = 1; c < grid->columns; ++c)
                row_sum[i] += part_of(grid->row * grid->columns + c, i);
            for (size_t p = 1; p < (size_t)num_ranks; ++p)
                all_sum[i] += part_of(p, i);
        }
        grid_row_sum(grid, row, count);
        grid_sum(grid, all, count);
        assert_same_bits(row, row_sum, count, "grid", "sum of a row");
        assert_same_bits(all, all_sum, count, "grid", "sum of all");
    }
    assert_true(grid_sum_number(grid, (double)mpi_rank + 0.5) ==
                0.5 * (double)num_ranks * (double)num_ranks);
}

static void test_sums(void **state) {
    (void)state;
    on_every_grid(check_sums);
    float value = 3;
    grid_row_sum(NULL, &value, 1);
    grid_sum(NULL, &value, 1);
    assert_true(value == 3 && grid_sum_number(NULL, 2.5) == 2.5);
    assert_true(grid_is_leader(NULL));
}

static void check_gather(const struct grid *grid) {
    const struct share share = share_of(9, 2, grid->column, grid->columns);
    const size_t rows = rows_of(grid->row);
    float *whole = reference_values(first_row_of(grid->rows) * share.all, 1, 5);
    float *mine = whole + first_row_of(grid->row) * share.all;
    float *piece = piece_of(grid, share, whole);
    float *gathered = reference_filled(rows * share.all, NAN);
    grid_gather_row(grid, share, piece, rows, gathered);
    assert_same_bits(gathered, mine, rows * share.all, "grid", "a gathered row");
    memory_free(whole);
    memory_free(piece);
    memory_free(gathered);
}

static void test_gather(void **state) {
    (void)state;
    on_every_grid(check_gather);
}

static void check_look_up(const struct grid *grid) {
    enum { WORDS = 11, WIDTH = 5 };
    const struct share words = share_of(WORDS, 1, grid->row, grid->rows);
    float *table = reference_values(WORDS * WIDTH, 1, 6 + grid->column);
    float *rows = reference_filled(MOST_ROWS * WIDTH, NAN), *expected = rows + 0;
    int32_t ids[MOST_ROWS];
    const size_t count = rows_of(grid->row);
    for (size_t i = 0; i < count; ++i)
        ids[i] = (int32_t)((i * 5 + grid->row * 3) % WORDS);
    grid_look_up(grid, words, table + words.first * WIDTH, WIDTH, ids, count, MOST_ROWS, rows);
    for (size_t i = 0; i < count; ++i)
        assert_same_bits(expected + i * WIDTH, table + (size_t)ids[i] * WIDTH, WIDTH, "grid",
                         "a row of a table");
    memory_free(table);
    memory_free(rows);
}

static void test_look_up(void **state) {
    (void)state;
    on_every_grid(check_look_up);
}

static void check_merge(const struct grid *grid) {
    int32_t integers[8] = {0};
    float floats[8] = {0};
    integers[grid->row] = (int32_t)grid->row + 7;
    floats[grid->row] = -0.5f - (float)grid->row;
    grid_merge_integers(grid, integers, 8);
    grid_merge_floats(grid, floats, 8);
    for (size_t r = 0; r < 8; ++r) {
        assert_int_equal(integers[r], r < grid->rows ? (int32_t)r + 7 : 0);
        assert_true(floats[r] == (r < grid->rows ? -0.5f - (float)r : 0));
    }
}

static void test_merge(void **state) {
    (void)state;
    on_every_grid(check_merge);
}

/* ---- layer norm ---- */

enum { NORM_UNITS = 13 };

struct norm_passes {
    float *normalized, *deviation, *y, *d_x, *t_normalized, *t_deviation, *t_y, *t_d_x;
};

static struct norm_passes norm_open(size_t rows, size_t width) {
    return (struct norm_passes){
        .normalized = reference_filled(rows * width, NAN),
        .deviation = reference_filled(rows, NAN),
        .y = reference_filled(rows * width, NAN),
        .d_x = reference_filled(rows * width, NAN),
        .t_normalized = reference_filled(rows * width, NAN),
        .t_deviation = reference_filled(rows, NAN),
        .t_y = reference_filled(rows * width, NAN),
        .t_d_x = reference_filled(rows * width, NAN),
    };
}

static void norm_close(struct norm_passes *p) {
    float *all[] = {p->normalized,   p->deviation,   p->y,   p->d_x,
                    p->t_normalized, p->t_deviation, p->t_y, p->t_d_x};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        memory_free(all[i]);
}

/* x, t_x, d_y, t_d_y; weight, bias. */
static void norm_run(const struct grid *grid, struct share share, float *const in[4],
                     const float *weight, const float *bias, size_t rows, struct norm_passes *p) {
    split_norm_forward(grid, share, in[0], weight, bias, 1e-5f, rows, p->normalized, p->deviation,
                       p->y);
    split_norm_backward(grid, share, in[2], p->normalized, p->deviation, weight, rows, p->d_x);
    split_norm_tangent(grid, share, in[1], p->normalized, p->deviation, weight, rows,
                       p->t_normalized, p->t_deviation, p->t_y);
    split_norm_backward_tangent(grid, share, in[2], in[3], p->normalized, p->t_normalized,
                                p->deviation, p->t_deviation, weight, rows, p->t_d_x);
}

static void check_norm(const struct grid *grid) {
    const struct share share = share_of(NORM_UNITS, 3, grid->column, grid->columns);
    const size_t rows = first_row_of(grid->rows), width = share.all;
    float *weight = reference_values(width, 1, 8), *bias = reference_values(width, 1, 9);
    float *in[4], *pieces[4];
    for (size_t i = 0; i < 4; ++i) {
        in[i] = reference_values(rows * width, 2, 10 + i);
        pieces[i] = piece_of(grid, share, in[i]);
    }
    struct norm_passes whole = norm_open(rows, width), here = norm_open(MOST_ROWS, share.count);
    norm_run(NULL, share_whole(width), in, weight, bias, rows, &whole);
    norm_run(grid, share, pieces, weight + share.first, bias + share.first, rows_of(grid->row),
             &here);
    assert_piece(grid, share, here.y, whole.y, "norm");
    assert_piece(grid, share, here.d_x, whole.d_x, "norm, backward");
    assert_piece(grid, share, here.t_y, whole.t_y, "norm, tangent");
    assert_piece(grid, share, here.t_d_x, whole.t_d_x, "norm, tangent of backward");
    for (size_t i = 0; i < 4; ++i) {
        memory_free(in[i]);
        memory_free(pieces[i]);
    }
    norm_close(&whole);
    norm_close(&here);
    memory_free(weight);
    memory_free(bias);
}

static void test_layer_norm(void **state) {
    (void)state;
    on_every_grid(check_norm);
}

/* ---- dropout ---- */

static void check_dropout(const struct grid *grid) {
    const struct share share = share_of(67, 5, grid->column, grid->columns);
    const size_t offsets[] = {0, 2, MOST_ROWS};
    const uint32_t samples[] = {3, 8};
    struct dropout dropout = {.rate = 0.3f,
                              .seed = 1,
                              .step = 2,
                              .purpose = RANDOM_DROPOUT_HIDDEN,
                              .offsets = offsets,
                              .samples = samples,
                              .num_sequences = 2};
    float *whole = reference_filled(MOST_ROWS * share.all, 1);
    float *piece = reference_filled(MOST_ROWS * share.count, 1);
    float *expected = reference_filled(MOST_ROWS * share.count, 1);
    dropout_apply(&dropout, share.all, whole);
    grid_take_columns(share, whole, MOST_ROWS, expected);
    dropout.first_feature = share.first;
    dropout.all_features = share.all;
    dropout_apply(&dropout, share.count, piece);
    assert_same_bits(piece, expected, MOST_ROWS * share.count, "grid", "dropout");
    memory_free(whole);
    memory_free(piece);
    memory_free(expected);
}

static void test_dropout(void **state) {
    (void)state;
    on_every_grid(check_dropout);
}

static int check_blocks(void **state) {
    (void)state;
    return memory_blocks_now() == 0 ? 0 : -1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_are_whole_units_and_complete),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_look_up),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_dropout),
    };
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
    const int failed = cmocka_run_group_tests(tests, NULL, check_blocks);
    MPI_Finalize();
    return failed;
}
