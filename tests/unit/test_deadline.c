/* When a run has to stop: with a clock of the test's own. */
#include "train/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

static void test_no_end(void **state) {
    (void)state;
    struct deadline deadline = {.end = (double)INFINITY, .last_check = (double)NAN};
    assert_false(deadline_is_near(&deadline, 0));
    assert_false(deadline_is_near(&deadline, 1e9));
}

/* Twice the longest interval and checkpoint, and 10 seconds, have to be left. */
static void test_room_for_a_checkpoint(void **state) {
    (void)state;
    struct deadline deadline = {.end = 1000, .last_check = (double)NAN};
    assert_false(deadline_is_near(&deadline, 500)); /* the first check measures nothing */
    assert_false(deadline_is_near(&deadline, 503));
    assert_false(deadline_is_near(&deadline, 504));
    deadline_note_checkpoint(&deadline, 504, 524);
    deadline_note_checkpoint(&deadline, 524, 525);
    assert_false(deadline_is_near(&deadline, 526)); /* a checkpoint is no part of an interval */
    deadline.last_check = 940;
    assert_false(deadline_is_near(&deadline, 943));
    assert_true(deadline_is_near(&deadline, 944)); /* 1000 - 10 - 2 * (3 + 20), where 4 > 3 */
}

static void test_time_is_over(void **state) {
    (void)state;
    struct deadline deadline = {.end = 9, .last_check = (double)NAN};
    assert_true(deadline_is_near(&deadline, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_end),
        cmocka_unit_test(test_room_for_a_checkpoint),
        cmocka_unit_test(test_time_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
