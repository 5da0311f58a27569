/* Where ranks stand: arithmetic by enumeration, and the communicators; mpi_ranks: 1 2 4 6 */
#include "parallel/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { MOST = 4, MOST_RANKS = MOST * MOST * MOST * MOST };

/* ---- arithmetic ---- */

static void check_places(const struct layout *layout) {
    size_t expected = 0;
    struct place place;
    for (place.replica = 0; place.replica < layout->replicas; ++place.replica)
        for (place.stage = 0; place.stage < layout->stages; ++place.stage)
            for (place.row = 0; place.row < layout->grid_rows; ++place.row)
                for (place.column = 0; place.column < layout->grid_columns; ++place.column) {
                    assert_int_equal(layout_rank(layout, &place), expected);
                    const struct place found = layout_place(layout, expected);
                    assert_memory_equal(&found, &place, sizeof place);
                    ++expected;
                }
    assert_int_equal(layout_num_ranks(layout), expected);
}

static void test_every_rank_has_one_place(void **state) {
    (void)state;
    struct layout layout;
    for (layout.replicas = 1; layout.replicas <= MOST; ++layout.replicas)
        for (layout.stages = 1; layout.stages <= MOST; ++layout.stages)
            for (layout.grid_rows = 1; layout.grid_rows <= MOST; ++layout.grid_rows)
                for (layout.grid_columns = 1; layout.grid_columns <= MOST; ++layout.grid_columns)
                    check_places(&layout);
}

static void test_stages_are_what_is_left(void **state) {
    (void)state;
    for (size_t ranks = 1; ranks <= MOST_RANKS; ++ranks)
        for (size_t replicas = 1; replicas <= MOST; ++replicas) {
            const struct layout asked = {replicas, 0, 1, 2};
            struct layout layout;
            struct problem problem = {0};
            const bool fits = ranks % (2 * replicas) == 0;
            assert_int_equal(layout_choose(ranks, &asked, &layout, &problem), fits);
            assert_int_equal(problem.exit_code, fits ? 0 : EXIT_USAGE);
            if (fits)
                assert_int_equal(layout.stages, ranks / (2 * replicas));
        }
}

static void assert_refused(size_t ranks, struct layout asked, const char *text) {
    struct layout layout;
    struct problem problem = {0};
    assert_false(layout_choose(ranks, &asked, &layout, &problem));
    assert_int_equal(problem.exit_code, EXIT_USAGE);
    if (strstr(problem.text, text) == NULL)
        fail_msg("\"%s\" has no \"%s\"", problem.text, text);
}

static void test_products_must_match(void **state) {
    (void)state;
    const struct layout asked = {2, 3, 2, 4};
    struct layout layout;
    struct problem problem = {0};
    assert_true(layout_choose(48, &asked, &layout, &problem));
    assert_memory_equal(&layout, &asked, sizeof layout);
    assert_refused(47, asked, "needs 48 MPI ranks, but there are 47");
    assert_refused(96, asked, "needs 48 MPI ranks, but there are 96");
    assert_refused(3, (struct layout){2, 0, 1, 1}, "3 MPI ranks are no multiple of");
    assert_refused(2, (struct layout){4, 0, 1, 1}, "start 4 for each pipeline stage");
}

/* ---- communicators ---- */

/* The ranks that `comm` joins, by what each says of itself. */
static void check_comm(const struct comm *comm, int rank, int size, const struct comm *world) {
    assert_int_equal(comm->mpi_rank, rank);
    assert_int_equal(comm->size, size);
    int worlds[MOST_RANKS];
    MPI_Allgather(&world->mpi_rank, 1, MPI_INT, worlds, 1, MPI_INT, comm->handle);
    for (int r = 0; r < size; ++r)
        assert_int_equal(worlds[r], comm_world_rank(comm, r));
}

static void check_comms(const struct layout *layout) {
    struct comms comms = comms_of(MPI_COMM_WORLD);
    const struct comm *world = &comms.world;
    comms_split(&comms, layout);
    const struct place place = layout_place(layout, (size_t)world->mpi_rank);
    check_comm(&comms.stages, (int)place.stage, (int)layout->stages, world);
    check_comm(&comms.replicas, (int)place.replica, (int)layout->replicas, world);
    check_comm(&comms.grid, (int)(place.row * layout->grid_columns + place.column),
               (int)(layout->grid_rows * layout->grid_columns), world);
    assert_int_equal(comms_is_original(&comms),
                     place.replica == 0 && place.row == 0 && place.column == 0);
    assert_int_equal(comm_world_rank(world, world->mpi_rank), world->mpi_rank);
    comms_free(&comms);
    comms_free(&comms);
}

static void test_communicators_join_the_right_ranks(void **state) {
    (void)state;
    const size_t ranks = (size_t)comms_of(MPI_COMM_WORLD).world.size;
    for (size_t replicas = 1; replicas <= ranks; ++replicas)
        for (size_t rows = 1; rows <= ranks; ++rows)
            for (size_t columns = 1; columns <= ranks; ++columns) {
                const struct layout asked = {replicas, 0, rows, columns};
                struct layout layout;
                struct problem problem = {0};
                if (layout_choose(ranks, &asked, &layout, &problem))
                    check_comms(&layout);
            }
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rank_has_one_place),
        cmocka_unit_test(test_stages_are_what_is_left),
        cmocka_unit_test(test_products_must_match),
        cmocka_unit_test(test_communicators_join_the_right_ranks),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
