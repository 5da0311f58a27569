/* Which blocks a stage owns, and the order of its work: proven by enumeration and by a simulation
 * of all stages. */
#include "parallel/partition.h"
#include "parallel/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_BLOCKS = 40, MAX_STAGES = 40 };

static const struct partition_costs COSTS[] = {
    {1, 0, 0}, {1, 0.02, 0.05}, {1, 0.25, 0.5}, {3, 2, 1}, {1, 0.9, 0.9},
    {1, 7, 0}, {1, 3, 1},       {2, 5, 3},      {1, 0, 7}, {1, 6, 6},
};
enum { NUM_COSTS = sizeof COSTS / sizeof *COSTS };

/* ---- partition ---- */

static double cost_of(const struct partition_costs *costs, size_t blocks, size_t stage,
                      size_t num_stages) {
    return costs->block * (double)blocks + (stage == 0 ? costs->first : 0) +
           (stage + 1 == num_stages ? costs->last : 0);
}

static double largest_cost(const struct partition_costs *costs, size_t num_stages,
                           const size_t *offsets) {
    double largest = 0;
    for (size_t s = 0; s < num_stages; ++s)
        largest = fmax(largest, cost_of(costs, offsets[s + 1] - offsets[s], s, num_stages));
    return largest;
}

/* The least largest cost of stages `stage` and later, which own `blocks`, by trying everything. */
static double best_cost(const struct partition_costs *costs, size_t blocks, size_t stage,
                        size_t num_stages) {
    if (stage + 1 == num_stages)
        return cost_of(costs, blocks, stage, num_stages);
    double best = INFINITY;
    for (size_t count = 0; count <= blocks; ++count)
        best = fmin(best, fmax(cost_of(costs, count, stage, num_stages),
                               best_cost(costs, blocks - count, stage + 1, num_stages)));
    return best;
}

static void test_every_block_has_one_stage(void **state) {
    (void)state;
    for (size_t c = 0; c < NUM_COSTS; ++c)
        for (size_t blocks = 0; blocks <= MAX_BLOCKS; ++blocks)
            for (size_t stages = 1; stages <= MAX_STAGES; ++stages) {
                size_t offsets[MAX_STAGES + 1], owned = 0;
                partition_balance(blocks, stages, &COSTS[c], offsets);
                assert_int_equal(offsets[0], 0);
                for (size_t s = 0; s < stages; ++s) {
                    assert_true(offsets[s] <= offsets[s + 1]);
                    owned += offsets[s + 1] - offsets[s];
                }
                assert_int_equal(owned, blocks);
                assert_int_equal(offsets[stages], blocks);
            }
}

/* Where the last stage costs no more than a block besides its blocks: a dearer one still gets one,
 * so that no stage idles. */
static void test_the_costliest_stage_is_as_cheap_as_possible(void **state) {
    (void)state;
    for (size_t c = 0; c < NUM_COSTS && COSTS[c].last <= COSTS[c].block; ++c)
        for (size_t blocks = 0; blocks <= 9; ++blocks)
            for (size_t stages = 1; stages <= 5; ++stages) {
                size_t offsets[6];
                partition_balance(blocks, stages, &COSTS[c], offsets);
                const double cost = largest_cost(&COSTS[c], stages, offsets);
                const double best = best_cost(&COSTS[c], blocks, 0, stages);
                if (cost > best + 1e-9)
                    fail_msg("%zu blocks, %zu stages, costs %g, %g, %g: %g, but %g is possible",
                             blocks, stages, COSTS[c].block, COSTS[c].first, COSTS[c].last, cost,
                             best);
            }
}

static void test_early_stages_are_the_largest(void **state) {
    (void)state;
    const struct partition_costs equal = {1, 0, 0};
    for (size_t blocks = 1; blocks <= MAX_BLOCKS; ++blocks)
        for (size_t stages = 1; stages <= MAX_STAGES; ++stages) {
            size_t offsets[MAX_STAGES + 1];
            partition_balance(blocks, stages, &equal, offsets);
            for (size_t s = 1; s < stages; ++s)
                assert_true(offsets[s + 1] - offsets[s] <= offsets[s] - offsets[s - 1]);
        }
}

static void test_no_stage_idles_while_there_are_blocks(void **state) {
    (void)state;
    const struct partition_costs costs = {1, 0.5, 0.5};
    for (size_t stages = 1; stages <= MAX_STAGES; ++stages)
        for (size_t blocks = stages; blocks <= MAX_BLOCKS; ++blocks) {
            size_t offsets[MAX_STAGES + 1];
            partition_balance(blocks, stages, &costs, offsets);
            for (size_t s = 0; s < stages; ++s)
                assert_true(offsets[s + 1] > offsets[s]);
        }
}

static void check_split(size_t blocks, size_t stages, struct partition_costs costs,
                        const size_t *counts) {
    size_t offsets[MAX_STAGES + 1];
    partition_balance(blocks, stages, &costs, offsets);
    for (size_t s = 0; s < stages; ++s)
        if (offsets[s + 1] - offsets[s] != counts[s])
            fail_msg("%zu blocks, %zu stages: stage %zu has %zu, not %zu", blocks, stages, s,
                     offsets[s + 1] - offsets[s], counts[s]);
}

static void test_known_splits(void **state) {
    (void)state;
    check_split(12, 4, (struct partition_costs){1, 0, 0}, (const size_t[]){3, 3, 3, 3});
    check_split(12, 5, (struct partition_costs){1, 0, 0}, (const size_t[]){3, 3, 3, 2, 1});
    check_split(12, 4, (struct partition_costs){1, 1, 1}, (const size_t[]){3, 4, 4, 1});
    check_split(2, 4, (struct partition_costs){1, 0, 0}, (const size_t[]){1, 1, 0, 0});
}

/* ---- explicit layouts ---- */

static void test_explicit_layout(void **state) {
    (void)state;
    const size_t counts[] = {5, 0, 7};
    size_t offsets[4];
    struct problem problem = {0};
    assert_true(partition_explicit(12, 3, counts, 3, offsets, &problem));
    assert_int_equal(problem.exit_code, 0);
    const size_t expected[] = {0, 5, 5, 12};
    assert_memory_equal(offsets, expected, sizeof expected);
}

static void check_refused(size_t blocks, size_t stages, const size_t *counts, size_t num_counts,
                          const char *text) {
    size_t offsets[8];
    struct problem problem = {0};
    assert_false(partition_explicit(blocks, stages, counts, num_counts, offsets, &problem));
    assert_int_equal(problem.exit_code, EXIT_USAGE);
    assert_non_null(strstr(problem.text, "parallel.layout"));
    if (strstr(problem.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem.text, text);
}

static void test_explicit_layout_errors(void **state) {
    (void)state;
    check_refused(12, 3, (const size_t[]){6, 6}, 2, "2 stages, but there are 3");
    check_refused(12, 3, (const size_t[]){3, 3, 3, 3}, 4, "4 stages, but there are 3");
    check_refused(12, 3, NULL, 0, "0 stages, but there are 3");
    check_refused(12, 3, (const size_t[]){4, 4, 3}, 3, "places 11 blocks, but the model has 12");
    check_refused(12, 3, (const size_t[]){4, 4, 5}, 3, "places 13 blocks, but the model has 12");
    check_refused(12, 3, (const size_t[]){4, SIZE_MAX, 9}, 3,
                  "stage 1 18446744073709551615 blocks");
    check_refused(12, 3, (const size_t[]){SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, 12}, 3, "stage 0");
}

/* ---- schedule ---- */

enum { STAGES = 9, MICROBATCHES = 12, MAX_WORK = 2 * MICROBATCHES };

static void check_order(size_t stages, size_t stage, size_t microbatches, bool has_up) {
    struct slot_work work[MAX_WORK];
    const size_t count = schedule_fill(stages, stage, microbatches, has_up, work);
    assert_int_equal(count, microbatches * (has_up ? 2 : 1));
    size_t next[2] = {0}, most = 0;
    for (size_t i = 0; i < count; ++i) {
        assert_int_equal(work[i].microbatch, next[work[i].direction]++);
        assert_true(next[DIRECTION_UP] <= next[DIRECTION_DOWN]);
        if (next[DIRECTION_DOWN] - next[DIRECTION_UP] > most)
            most = next[DIRECTION_DOWN] - next[DIRECTION_UP];
    }
    assert_int_equal(next[DIRECTION_DOWN], microbatches);
    assert_int_equal(next[DIRECTION_UP], has_up ? microbatches : 0);
    if (has_up)
        assert_int_equal(most, schedule_in_flight(stages, stage, microbatches));
}

static void test_each_microbatch_goes_once_down_and_once_up(void **state) {
    (void)state;
    for (size_t stages = 1; stages <= STAGES; ++stages)
        for (size_t stage = 0; stage < stages; ++stage)
            for (size_t microbatches = 0; microbatches <= MICROBATCHES; ++microbatches) {
                check_order(stages, stage, microbatches, true);
                check_order(stages, stage, microbatches, false);
            }
}

static void test_in_flight_is_bounded_by_the_depth(void **state) {
    (void)state;
    for (size_t stages = 1; stages <= STAGES; ++stages)
        for (size_t stage = 0; stage < stages; ++stage)
            for (size_t microbatches = 1; microbatches <= MICROBATCHES; ++microbatches) {
                const size_t depth = stages - stage;
                assert_int_equal(schedule_in_flight(stages, stage, microbatches),
                                 microbatches < depth ? microbatches : depth);
            }
}

static void check_schedule(size_t stages, size_t stage, size_t microbatches, const char *expected) {
    struct slot_work work[MAX_WORK];
    char order[MAX_WORK + 1] = "";
    const size_t count = schedule_fill(stages, stage, microbatches, true, work);
    for (size_t i = 0; i < count; ++i)
        order[i] = work[i].direction == DIRECTION_DOWN ? 'd' : 'u';
    assert_string_equal(order, expected);
}

static void test_known_schedules(void **state) {
    (void)state;
    check_schedule(4, 0, 6, "ddddududuuuu");
    check_schedule(4, 2, 6, "ddududududuu");
    check_schedule(4, 3, 6, "dudududududu");
    check_schedule(4, 0, 2, "dduu");
    check_schedule(1, 0, 3, "dududu");
}

/* ---- simulation of all stages ---- */

/* Messages of one direction between two neighbours, counted. A send is over only when its receive
 * has been started (rendezvous): the least that MPI promises. */
struct channel {
    size_t num_sent, num_posted;
};

/* What a stage does for one piece of work, in the order of run_pass (train/pipeline.c). */
enum action { POST_FIRST, WAIT_RECEIVE, POST_NEXT, WAIT_BUFFER, SEND, NUM_ACTIONS };

struct machine {
    size_t num_stages, num_microbatches, at[STAGES], count[STAGES];
    enum action action[STAGES];
    struct slot_work work[STAGES][MAX_WORK];
    size_t num_received[STAGES][2];
    struct channel from[STAGES][2]; /* messages that reach this stage */
};

/* The stage that messages of a direction go to; num_stages: none. */
static size_t target_of(const struct machine *m, size_t stage, enum direction direction) {
    if (direction == DIRECTION_DOWN)
        return stage + 1;
    return stage > 0 ? stage - 1 : m->num_stages;
}

static bool has_source(const struct machine *m, size_t stage, enum direction direction) {
    return direction == DIRECTION_DOWN ? stage > 0 : stage + 1 < m->num_stages;
}

static void post(struct machine *m, size_t stage, const struct slot_work *work) {
    if (!has_source(m, stage, work->direction))
        return;
    struct channel *channel = &m->from[stage][work->direction];
    ++channel->num_posted;
    /* at most two buffers of a channel are open */
    assert_true(channel->num_posted <= m->num_received[stage][work->direction] + 2);
}

static bool can_receive(struct machine *m, size_t stage, enum direction direction) {
    if (!has_source(m, stage, direction))
        return true;
    const struct channel *channel = &m->from[stage][direction];
    size_t *received = &m->num_received[stage][direction];
    if (channel->num_sent <= *received)
        return false;
    assert_true(channel->num_posted > *received);
    ++*received;
    return true;
}

/* Of the messages sent so far, all but `open` have met their receive. */
static bool sends_are_over(const struct machine *m, size_t stage, enum direction direction,
                           size_t open) {
    const size_t target = target_of(m, stage, direction);
    return target >= m->num_stages ||
           m->from[target][direction].num_sent <= m->from[target][direction].num_posted + open;
}

/* One action of a stage; false if it must wait. */
static bool advance(struct machine *m, size_t stage) {
    const size_t i = m->at[stage];
    const struct slot_work *work = &m->work[stage][i];
    const size_t target = target_of(m, stage, work->direction);
    switch (m->action[stage]) {
    case POST_FIRST:
        if (i == 0)
            post(m, stage, work);
        break;
    case WAIT_RECEIVE:
        if (!can_receive(m, stage, work->direction))
            return false;
        break;
    case POST_NEXT:
        if (i + 1 < m->count[stage])
            post(m, stage, work + 1);
        break;
    case WAIT_BUFFER:
        if (!sends_are_over(m, stage, work->direction, 1))
            return false;
        break;
    case SEND:
        if (target < m->num_stages)
            ++m->from[target][work->direction].num_sent;
        break;
    case NUM_ACTIONS:
        break;
    }
    m->action[stage] = (enum action)((m->action[stage] + 1) % NUM_ACTIONS);
    m->at[stage] += m->action[stage] == POST_FIRST;
    return true;
}

/* Runs the stages from `first` on in turn, each as far as it gets. */
static void check_simulation(size_t stages, size_t microbatches, bool has_up, size_t first) {
    struct machine m = {.num_stages = stages, .num_microbatches = microbatches};
    for (size_t s = 0; s < stages; ++s)
        m.count[s] = schedule_fill(stages, s, microbatches, has_up, m.work[s]);
    bool has_moved = true;
    while (has_moved) {
        has_moved = false;
        for (size_t i = 0; i < stages; ++i) {
            const size_t s = (i + first) % stages;
            while (m.at[s] < m.count[s] && advance(&m, s))
                has_moved = true;
        }
    }
    for (size_t s = 0; s < stages; ++s) {
        if (m.at[s] < m.count[s])
            fail_msg("%zu stages, %zu microbatches: stage %zu hangs at work %zu of %zu", stages,
                     microbatches, s, m.at[s], m.count[s]);
        for (int d = 0; d < 2; ++d) {
            assert_true(sends_are_over(&m, s, (enum direction)d, 0));
            assert_int_equal(
                m.num_received[s][d],
                has_source(&m, s, (enum direction)d) && (d == 0 || has_up) ? microbatches : 0);
        }
    }
}

static void test_no_deadlock(void **state) {
    (void)state;
    for (size_t stages = 1; stages <= STAGES; ++stages)
        for (size_t microbatches = 1; microbatches <= MICROBATCHES; ++microbatches)
            for (size_t first = 0; first < stages; ++first) {
                check_simulation(stages, microbatches, true, first);
                check_simulation(stages, microbatches, false, first);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_block_has_one_stage),
        cmocka_unit_test(test_the_costliest_stage_is_as_cheap_as_possible),
        cmocka_unit_test(test_early_stages_are_the_largest),
        cmocka_unit_test(test_no_stage_idles_while_there_are_blocks),
        cmocka_unit_test(test_known_splits),
        cmocka_unit_test(test_explicit_layout),
        cmocka_unit_test(test_explicit_layout_errors),
        cmocka_unit_test(test_each_microbatch_goes_once_down_and_once_up),
        cmocka_unit_test(test_in_flight_is_bounded_by_the_depth),
        cmocka_unit_test(test_known_schedules),
        cmocka_unit_test(test_no_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
