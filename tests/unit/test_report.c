/* Messages: the first problem stays, lists, and what is too long. */
#include "base/report.h"

#include "reference.h"

static void test_first_problem_stays(void **state) {
    (void)state;
    struct problem problem = {0};
    assert_false(problem_set(&problem, EXIT_DATA, "file %d", 1));
    assert_false(problem_set(&problem, EXIT_IO, "file %d", 2));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    assert_string_equal(problem.text, "file 1");
    problem_append(&problem, EXIT_DATA, "and %s", "more");
    assert_string_equal(problem.text, "file 1\nand more");
}

/* "/aaa...aaa/model": its end and the reason stay. */
static void test_long_path(void **state) {
    (void)state;
    static char path[8000];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    memcpy(path + sizeof path - 7, "/model", 7);
    struct problem problem = {0};
    problem_set(&problem, EXIT_DATA, "reading %s:  no such file", path);
    const char end[] = "aaa/model:  no such file";
    assert_int_equal(strlen(problem.text), strlen("reading ") + 200 + strlen("  no such file"));
    assert_string_equal(problem.text + strlen(problem.text) - strlen(end), end);
    assert_non_null(strstr(problem.text, "reading /aaa"));
    assert_non_null(strstr(problem.text, "aaa...aaa"));
    path[150] = '\0';
    problem = (struct problem){0};
    problem_set(&problem, EXIT_DATA, "%s", path);
    assert_string_equal(problem.text, path);
}

/* No character of several bytes is cut in two. */
static void test_long_path_of_wide_characters(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 3; ++shift) {
        char path[700] = "xx";
        for (size_t i = 0; i < 200; ++i)
            memcpy(path + shift + 3 * i, "\xe2\x82\xac", 4);
        struct problem problem = {0};
        problem_set(&problem, EXIT_DATA, "%s", path);
        const char *dots = strstr(problem.text, "...");
        assert_non_null(dots);
        assert_int_equal((size_t)(dots - problem.text - (ptrdiff_t)shift) % 3, 0);
        assert_int_equal((unsigned char)dots[3], 0xe2);
        assert_int_equal(strlen(dots + 3) % 3, 0);
    }
}

static void test_long_text(void **state) {
    (void)state;
    static char text[9000];
    for (size_t i = 0; i + 1 < sizeof text; ++i)
        text[i] = i % 50 == 49 ? ' ' : 'b';
    struct problem problem = {0};
    problem_set(&problem, EXIT_DATA, "%s: the end", text);
    assert_in_range(strlen(problem.text), PROBLEM_TEXT_BYTES - 8, PROBLEM_TEXT_BYTES - 1);
    assert_string_equal(problem.text + strlen(problem.text) - 9, ": the end");
    for (int i = 0; i < 3; ++i) /* no room left */
        problem_append(&problem, EXIT_DATA, "%s", text);
    assert_true(strlen(problem.text) < PROBLEM_TEXT_BYTES);
}

/* Whatever room is left, the list stays within it. */
static void test_room_left(void **state) {
    (void)state;
    static char text[PROBLEM_TEXT_BYTES];
    for (size_t room = 0; room < 300; ++room) {
        struct problem problem = {.exit_code = EXIT_USAGE};
        for (size_t i = 0; i + 1 + room < sizeof problem.text; ++i)
            problem.text[i] = 'c';
        memset(text, 'd', 250);
        problem_append(&problem, EXIT_USAGE, "%s", text);
        assert_true(strlen(problem.text) < PROBLEM_TEXT_BYTES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_problem_stays),
        cmocka_unit_test(test_long_path),
        cmocka_unit_test(test_long_path_of_wide_characters),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_room_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
