/* Transfers between stages that only advance while somebody asks; mpi_ranks: 2 */
#include "parallel/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

enum { COUNT = 1 << 18 };

static void sleep_for(double seconds) {
    const struct timespec time = {(time_t)seconds,
                                  (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&time, NULL);
}

static void fill(float *buffer, float first) {
    for (size_t i = 0; i < COUNT; ++i)
        buffer[i] = first + (float)i;
}

static void check(const float *buffer, float first) {
    for (size_t i = 0; i < COUNT; ++i)
        assert_true(buffer[i] == first + (float)i);
}

/* Too large to be sent off at once. The sender computes for two seconds, with pauses in the first
 * half second only. */
static void send_and_compute(struct link *link) {
    fill(link_send_buffer(link, DIRECTION_DOWN), 1);
    link_start_send(link, DIRECTION_DOWN, COUNT);
    const double start = MPI_Wtime();
    while (MPI_Wtime() - start < 0.5) {
        link_advance(link);
        sleep_for(0.001);
    }
    sleep_for(2);
    link_finish_sends(link);
}

static void test_message_travels_in_pauses(void **state) {
    (void)state;
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    struct link *link = link_create(&comm, COUNT);
    MPI_Barrier(MPI_COMM_WORLD);
    if (comm.mpi_rank == 0) {
        send_and_compute(link);
    } else {
        const double start = MPI_Wtime();
        link_start_receive(link, DIRECTION_DOWN, COUNT);
        check(link_finish_receive(link, DIRECTION_DOWN), 1);
        assert_true(MPI_Wtime() - start < 2);
    }
    link_destroy(&link);
}

/* A message that arrived in a pause is there when it is waited for, and both buffers keep their
 * turns. */
static void test_turns(void **state) {
    (void)state;
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    struct link *link = link_create(&comm, COUNT);
    for (size_t n = 0; n < 5; ++n) {
        if (comm.mpi_rank == 0) {
            fill(link_send_buffer(link, DIRECTION_DOWN), (float)n);
            link_start_send(link, DIRECTION_DOWN, COUNT);
        } else {
            link_start_receive(link, DIRECTION_DOWN, COUNT);
            if (n > 0)
                check(link_finish_receive(link, DIRECTION_DOWN), (float)(n - 1));
        }
        for (int i = 0; i < 20; ++i)
            link_advance(link);
    }
    if (comm.mpi_rank == 1)
        check(link_finish_receive(link, DIRECTION_DOWN), 4);
    link_finish_sends(link);
    link_destroy(&link);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_travels_in_pauses),
        cmocka_unit_test(test_turns),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
