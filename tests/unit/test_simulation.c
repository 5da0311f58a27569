/* Simulated pipelines against what can be said in closed form, and by hand. */
#include "base/memory.h"
#include "parallel/simulation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

enum { MOST = 64 };

static void assert_seconds(const struct simulation_input *input, double expected) {
    const double seconds = simulation_run(input);
    if (!(fabs(seconds - expected) <= 1e-6 * expected))
        fail_msg("%zu stages, %zu microbatches, %g cores: %.9g seconds, not %.9g",
                 input->num_stages, input->num_microbatches, input->cores, seconds, expected);
    assert_int_equal(memory_blocks_now(), 0);
}

static void fill(double *values, size_t count, double value) {
    for (size_t i = 0; i < count; ++i)
        values[i] = value;
}

/* Equal costs: (m + s - 1)(f + b), whatever m and s. */
static void test_equal_stages(void **state) {
    (void)state;
    double down[MOST], up[MOST];
    fill(down, MOST, 1);
    fill(up, MOST, 2);
    for (size_t stages = 1; stages <= 8; ++stages)
        for (size_t m = 1; m <= 8; ++m) {
            const struct simulation_input input = {
                .num_stages = stages, .num_microbatches = m, .down = down, .up = up, .cores = 8};
            assert_seconds(&input, 3 * (double)(m + stages - 1));
        }
}

static void test_forward_only(void **state) {
    (void)state;
    /* stage 1 takes twice as long and is never idle once it has begun */
    const double down[] = {1, 1, 1, 2, 2, 2};
    const struct simulation_input input = {
        .num_stages = 2, .num_microbatches = 3, .down = down, .cores = 2};
    assert_seconds(&input, 1 + 3 * 2);
}

/* Microbatches of different length, in two stages, walked through by hand: stage 0 does F0 F1 B0 F2
 * B1 B2, stage 1 F0 B0 F1 B1 F2 B2. */
static void test_by_hand(void **state) {
    (void)state;
    const double down[] = {1, 2, 1, 1, 2, 1}, up[] = {2, 4, 2, 2, 4, 2};
    const struct simulation_input input = {
        .num_stages = 2, .num_microbatches = 3, .down = down, .up = up, .cores = 2};
    /* F0: 0-1, 1-2; B0: 2-4, and 4-6 above; F1: 1-3, 4-6; F2: 6-7; B1: 6-10; F2: 10-11; B2: 11-13;
     * above B1: 10-14, B2: 14-16 */
    assert_seconds(&input, 16);
}

/* One core does one thing at a time: all the work, whatever the order. */
static void test_one_core(void **state) {
    (void)state;
    double down[MOST], up[MOST], sum = 0;
    for (size_t i = 0; i < 15; ++i) {
        down[i] = 1 + (double)(i % 4);
        up[i] = 2 + (double)(i % 3);
        sum += down[i] + up[i];
    }
    const struct simulation_input input = {
        .num_stages = 5, .num_microbatches = 3, .down = down, .up = up, .cores = 1};
    assert_seconds(&input, sum);
}

/* Two nodes of one core each are two cores. */
static void test_nodes(void **state) {
    (void)state;
    double down[MOST], up[MOST];
    fill(down, MOST, 1);
    fill(up, MOST, 1);
    const size_t apart[] = {0, 1};
    struct simulation_input input = {
        .num_stages = 2, .num_microbatches = 4, .down = down, .up = up, .nodes = apart, .cores = 1};
    assert_seconds(&input, 2 * (4 + 2 - 1));
    input.nodes = NULL;
    assert_seconds(&input, 16);
}

/* A message costs on the way down and on the way up; with one microbatch both are waited for. */
static void test_messages(void **state) {
    (void)state;
    const double down[] = {1, 1, 1}, up[] = {2, 2, 2}, delays[] = {0.5, 0.25};
    struct simulation_input input = {.num_stages = 3,
                                     .num_microbatches = 1,
                                     .down = down,
                                     .up = up,
                                     .delays = delays,
                                     .cores = 3};
    assert_seconds(&input, 9 + 2 * (0.5 + 0.25));
    input.up = NULL;
    assert_seconds(&input, 3 + 0.5 + 0.25);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_stages), cmocka_unit_test(test_forward_only),
        cmocka_unit_test(test_by_hand),      cmocka_unit_test(test_one_core),
        cmocka_unit_test(test_nodes),        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
