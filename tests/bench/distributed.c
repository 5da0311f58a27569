/* A stage's distributed products beside the same product in one process with as many threads, in
 * turn:
 *
 *     mpirun -n ROWS*COLUMNS distributed ROWS COLUMNS TOKENS REPEATS OUT IN
 *
 * for y = x W^T (and x = y W) with W [OUT, IN] and TOKENS rows. A line of JSON: {"distributed":
 * [seconds, ...], "local": [seconds, ...]}, of a product there and back. Ranks that wait for the
 * local one are asleep. */
#include "base/memory.h"
#include "math/gemm.h"
#include "math/grid.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A barrier that leaves the cores to others. */
static void meet(void) {
    MPI_Request request;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    const struct timespec pause = {0, 20000};
    int is_done = 0;
    for (MPI_Test(&request, &is_done, MPI_STATUS_IGNORE); !is_done;
         MPI_Test(&request, &is_done, MPI_STATUS_IGNORE))
        nanosleep(&pause, NULL);
}

static float *numbers(size_t count) {
    float *values = memory_allocate(count + 1, sizeof *values, "numbers");
    for (size_t i = 0; i < count; ++i)
        values[i] = (float)(i % 11) * 0.01f;
    return values;
}

static double distributed(const struct grid *grid, size_t tokens, size_t out, size_t in) {
    const struct share ins = share_of(in, 1, grid->column, grid->columns);
    const struct share outs = share_of(out, 1, grid->column, grid->columns);
    const struct dealt_weight weight = dealt_weight_of(grid, ins, outs, out >= in);
    const size_t rows = (tokens + grid->rows - 1) / grid->rows;
    float *piece = numbers(weight.rows.count * weight.columns.count);
    float *x = numbers(rows * ins.count), *y = numbers(rows * outs.count);
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    grid_product(&weight, piece, rows, x, false, false, y);
    grid_product(&weight, piece, rows, y, true, false, x);
    MPI_Barrier(MPI_COMM_WORLD);
    const double seconds = MPI_Wtime() - start;
    memory_free(piece);
    memory_free(x);
    memory_free(y);
    return seconds;
}

static double local(size_t tokens, size_t out, size_t in) {
    float *weight = numbers(out * in), *x = numbers(tokens * in), *y = numbers(tokens * out);
    const double start = MPI_Wtime();
    gemm(1, matrix_of(x, tokens, in), matrix_transpose(matrix_of(weight, out, in)), false, y, out);
    gemm(1, matrix_of(y, tokens, out), matrix_of(weight, out, in), false, x, in);
    const double seconds = MPI_Wtime() - start;
    memory_free(weight);
    memory_free(x);
    memory_free(y);
    return seconds;
}

static void print(const char *name, const double *seconds, size_t count) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < count; ++i)
        printf("%s%.6g", i > 0 ? ", " : "", seconds[i]);
    printf("]");
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    if (argc != 7)
        return EXIT_FAILURE;
    size_t number[6];
    for (int i = 0; i < 6; ++i)
        number[i] = strtoul(argv[i + 1], NULL, 10);
    const size_t tokens = number[2], repeats = number[3], out = number[4], in = number[5];
    struct grid *grid = grid_create(MPI_COMM_WORLD, number[0], number[1]);
    const int num_processes = (int)(number[0] * number[1]);
    double *dealt = memory_allocate(repeats, sizeof *dealt, "seconds");
    double *alone = memory_allocate(repeats, sizeof *alone, "seconds");
    int mpi_rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    for (size_t i = 0; i < repeats; ++i) {
        gemm_set_threads(1);
        dealt[i] = distributed(grid, tokens, out, in);
        gemm_set_threads(num_processes);
        if (mpi_rank == 0)
            alone[i] = local(tokens, out, in);
        meet();
    }
    if (mpi_rank == 0) {
        printf("{");
        print("distributed", dealt, repeats);
        printf(", ");
        print("local", alone, repeats);
        printf("}\n");
    }
    memory_free(dealt);
    memory_free(alone);
    grid_destroy(&grid);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
