/* Sums of several ranks' vectors against those of one rank, bit by bit; mpi_ranks: 1 2 3 4 */
#include "parallel/reduction.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

enum { MOST_VECTORS = 5 };

/* Such that another order of the sum gives other bits. */
static float element(size_t vector, size_t i) {
    return (float)sin((double)(1 + i + 1000 * vector)) * (vector % 2 == 0 ? 1e4f : 1);
}

static float expected_sum(size_t count, size_t i) {
    float sum = 0;
    for (size_t n = 0; n < count; ++n)
        sum += element(n, i);
    return sum;
}

static void check_sum(struct reduction *reduction, const struct comm *comm, size_t size,
                      size_t count) {
    float *sum = memory_allocate(size, sizeof *sum, "a sum");
    for (size_t i = 0; i < size; ++i)
        sum[i] = NAN;
    reduction_open(reduction, sum, size, count);
    for (size_t n = (size_t)comm->mpi_rank; n < count; n += (size_t)comm->size) {
        float *vector = reduction_vector(reduction);
        for (size_t i = 0; i < size; ++i)
            vector[i] = element(n, i);
        reduction_add(reduction);
    }
    reduction_close(reduction);
    for (size_t i = 0; i < size; ++i) {
        const float expected = expected_sum(count, i);
        if (sum[i] != expected)
            fail_msg("%zu vectors of %zu: element %zu is %a, not %a", count, size, i,
                     (double)sum[i], (double)expected);
    }
    memory_free(sum);
}

/* Smaller sums than planned for, one after the other; vectors that wait, and that go on their way
 * in between. */
static void test_sums_have_one_order(void **state) {
    (void)state;
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    static const size_t sizes[] = {0, 2, 7, 1001};
    for (size_t room = 0; room <= MOST_VECTORS; room += 1 + 2 * (room / 2)) {
        struct reduction *reduction = reduction_create(&comm, 1001, room);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s)
            for (size_t count = 0; count <= MOST_VECTORS; ++count)
                check_sum(reduction, &comm, sizes[s], count);
        reduction_destroy(&reduction);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

/* Two that take turns, as the pipeline has them, with room for different numbers of vectors. */
static void check_two_sums(const struct comm *comm, size_t count, size_t room) {
    const size_t sizes[2] = {101, 3}, rooms[2] = {room, MOST_VECTORS};
    struct reduction *both[2];
    float sums[2][101];
    for (int k = 0; k < 2; ++k) {
        both[k] = reduction_create(comm, sizes[k], rooms[k]);
        reduction_open(both[k], sums[k], sizes[k], count);
    }
    for (size_t n = (size_t)comm->mpi_rank; n < count; n += (size_t)comm->size)
        for (int k = 0; k < 2; ++k) {
            for (size_t i = 0; i < sizes[k]; ++i)
                reduction_vector(both[k])[i] = element(n, i);
            reduction_add(both[k]);
        }
    for (int k = 0; k < 2; ++k)
        reduction_close(both[k]);
    for (int k = 0; k < 2; ++k) {
        for (size_t i = 0; i < sizes[k]; ++i)
            assert_true(sums[k][i] == expected_sum(count, i));
        reduction_destroy(&both[k]);
    }
}

static void test_two_sums_at_once(void **state) {
    (void)state;
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    for (size_t count = 1; count <= MOST_VECTORS; ++count)
        for (size_t room = 1; room <= 3; ++room)
            check_two_sums(&comm, count, room);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_have_one_order),
        cmocka_unit_test(test_two_sums_at_once),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
