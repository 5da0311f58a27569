/* The timer tree and its reduction; mpi_ranks: 1 3 */
#include "base/timer.h"

#include "base/memory.h"
#include "reference.h"

#include <string.h>
#include <time.h>

static int mpi_rank, num_ranks;

static void wait_milliseconds(long milliseconds) {
    const struct timespec pause = {.tv_nsec = milliseconds * 1000000};
    nanosleep(&pause, NULL);
}

/* search [2 calls] { gradient [4] { waiting [4] }, trace [2] }, retrain [1] { gradient [1] } */
static struct timer_tree *example(long milliseconds) {
    struct timer_tree *tree = timer_tree_create();
    for (int step = 0; step < 2; ++step) {
        timer_start(tree, "search");
        for (int pass = 0; pass < 2; ++pass) {
            timer_start(tree, "gradient");
            timer_start(tree, "waiting");
            wait_milliseconds(milliseconds);
            timer_stop(tree);
            timer_stop(tree);
        }
        timer_start(tree, "trace");
        timer_stop(tree);
        timer_stop(tree);
    }
    timer_start(tree, "retrain");
    static const char name[] = "gradient"; /* an equal name at another place */
    timer_start(tree, name);
    timer_stop(tree);
    timer_stop(tree);
    return tree;
}

static void check_phase(const struct timer_phase *phase, const char *name, size_t depth,
                        size_t calls) {
    assert_int_equal(phase->depth, depth);
    assert_int_equal(phase->calls, calls);
    if (name != NULL)
        assert_string_equal(phase->name, name);
    assert_true(0 <= phase->seconds_min && phase->seconds_min <= phase->seconds_mean * 1.000001 &&
                phase->seconds_mean <= phase->seconds_max * 1.000001);
}

static void test_tree(void **state) {
    (void)state;
    struct timer_tree *tree = example(1);
    size_t count;
    struct timer_phase *phases = timer_tree_reduce(tree, MPI_COMM_SELF, &count);
    assert_int_equal(count, 6);
    check_phase(&phases[0], "search", 0, 2);
    check_phase(&phases[1], "gradient", 1, 4);
    check_phase(&phases[2], "waiting", 2, 4);
    check_phase(&phases[3], "trace", 1, 2);
    check_phase(&phases[4], "retrain", 0, 1);
    check_phase(&phases[5], NULL, 1, 1);
    assert_true(phases[2].seconds_mean >= 0.004);
    assert_true(phases[0].seconds_mean >= phases[1].seconds_mean + phases[3].seconds_mean);
    assert_true(phases[1].seconds_mean >= phases[2].seconds_mean);
    assert_true(phases[5].seconds_mean <= phases[4].seconds_mean);
    assert_true(phases[0].seconds_min == phases[0].seconds_max);
    memory_free(phases);
    timer_tree_destroy(&tree);
    assert_null(tree);
    assert_int_equal(memory_blocks_now(), 0);
}

/* Rank r waits r times as long. */
static void test_reduction(void **state) {
    (void)state;
    struct timer_tree *tree = example(5 * mpi_rank);
    size_t count;
    struct timer_phase *phases = timer_tree_reduce(tree, MPI_COMM_WORLD, &count);
    assert_int_equal(count, 6);
    check_phase(&phases[2], "waiting", 2, 4);
    const double longest = 0.02 * (num_ranks - 1);
    assert_true(phases[2].seconds_max >= longest && phases[2].seconds_mean >= longest / 2);
    assert_true(num_ranks == 1 || phases[2].seconds_min < phases[2].seconds_max);
    memory_free(phases);
    timer_tree_destroy(&tree);
}

static void test_no_tree(void **state) {
    (void)state;
    timer_start(NULL, "search");
    timer_stop(NULL);
    struct timer_tree *tree = timer_tree_create();
    size_t count = 1;
    struct timer_phase *phases = timer_tree_reduce(tree, MPI_COMM_WORLD, &count);
    assert_int_equal(count, 0);
    memory_free(phases);
    timer_tree_destroy(&tree);
    timer_tree_destroy(&tree);
}

/* A known name takes no memory. */
static void test_memory(void **state) {
    (void)state;
    struct timer_tree *tree = timer_tree_create();
    size_t bytes = 0;
    for (int i = 0; i < 100; ++i) {
        timer_start(tree, "a");
        timer_start(tree, "b");
        timer_stop(tree);
        timer_stop(tree);
        if (i == 0)
            bytes = memory_bytes_now();
    }
    assert_int_equal(memory_bytes_now(), bytes);
    timer_tree_destroy(&tree);
}

/* Leaves only, of all ranks in rank order, from the moment that recording began. */
static void test_record(void **state) {
    (void)state;
    struct timer_tree *tree = example(1);
    timer_record(tree, MPI_COMM_WORLD);
    for (int i = 0; i <= mpi_rank; ++i) { /* rank r: r + 1 times */
        timer_start(tree, "search");
        timer_start(tree, "gradient");
        timer_start(tree, "waiting");
        wait_milliseconds(2);
        timer_stop(tree);
        timer_stop(tree);
        timer_start(tree, "a name that is too long for the path of an interval, to be cut");
        timer_stop(tree);
        timer_stop(tree);
    }
    size_t count = 99;
    struct timer_interval *all = timer_end_record(tree, MPI_COMM_WORLD, &count);
    timer_start(tree, "search"); /* no longer recorded */
    timer_stop(tree);
    if (mpi_rank == 0) {
        assert_int_equal(count, (size_t)(num_ranks * (num_ranks + 1)));
        size_t i = 0;
        for (int rank = 0; rank < num_ranks; ++rank)
            for (int turn = 0; turn <= rank; ++turn, i += 2) {
                assert_int_equal(all[i].mpi_rank, rank);
                assert_string_equal(all[i].path, "search/gradient/waiting");
                assert_true(all[i].start >= 0 && all[i].stop - all[i].start >= 0.002);
                assert_true(all[i + 1].start >= all[i].stop && all[i + 1].stop < 30);
                assert_int_equal(strlen(all[i + 1].path), sizeof all->path - 1);
                assert_memory_equal(all[i + 1].path, "search/a name that", 18);
                assert_true(turn == 0 || all[i].start >= all[i - 1].stop);
            }
    } else {
        assert_null(all);
        assert_int_equal(count, 0);
    }
    memory_free(all);
    timer_tree_destroy(&tree);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),    cmocka_unit_test(test_reduction),
        cmocka_unit_test(test_no_tree), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_record),
    };
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
