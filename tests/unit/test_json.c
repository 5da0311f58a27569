/* Numbers as JSON text. */
#include "io/json.h"

#include "reference.h"

#include <float.h>
#include <stdlib.h>

static void test_number_text(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},         {-1, "-1"},        {10, "10"},
        {65536, "65536"}, {0.1, "0.1"},      {3e-4, "0.0003"},
        {1e-8, "1e-08"},  {1e300, "1e+300"}, {0.30000000000000004, "0.30000000000000004"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char text[JSON_NUMBER_BYTES];
        json_number_text(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

/* The text of [value]; free with memory_free. */
static char *printed(double value) {
    struct json *root = json_create_object();
    json_add_number(json_add_array(root, "a"), NULL, value);
    char *text = json_print(root, false);
    json_destroy(&root);
    return text;
}

static void test_numbers_round_trip(void **state) {
    (void)state;
    static const double values[] = {1.0 / 3,  0.1 + 0.2, 1e-300, 4.9406564584124654e-324, DBL_MAX,
                                    -1.0 / 7, 1e22,      0x1p53, 123456789012345680.0};
    for (size_t i = 0; i < sizeof values / sizeof *values; ++i) {
        char *text = printed(values[i]);
        struct problem problem = {0};
        struct json *root = json_parse(text, strlen(text), "text", EXIT_DATA, &problem);
        assert_non_null(root);
        assert_true(json_number(json_first(json_get(root, "a"))) == values[i]);
        json_destroy(&root);
        memory_free(text);
    }
}

static void test_whole_numbers_and_none(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "{\"a\":[0]}"},
        {1048576, "{\"a\":[1048576]}"},
        {-9007199254740992, "{\"a\":[-9007199254740992]}"},
        {NAN, "{\"a\":[null]}"},
        {-INFINITY, "{\"a\":[null]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char *text = printed(cases[i].value);
        assert_string_equal(text, cases[i].text);
        memory_free(text);
    }
}

/* What was added can be read again before it is printed, in a copy too. */
static void test_added_numbers_are_numbers(void **state) {
    (void)state;
    struct json *root = json_create_object(), *other = json_create_object();
    json_add_number(root, "a", 7);
    json_add_number(root, "none", NAN);
    json_add_copy(other, "root", root);
    size_t value = 0;
    const struct json *copy = json_get(other, "root");
    assert_true(json_size(json_get(copy, "a"), &value) && value == 7);
    assert_int_equal(json_type(json_get(copy, "none")), JSON_NULL);
    json_destroy(&root);
    json_destroy(&other);
}

/* cJSON would end the string there. */
static void test_zero_characters(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"a\0b\": 1}", "[\"\0\"]", "[\"\\u0000\"]"};
    static const size_t sizes[] = {10, 5, 10};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        struct problem problem = {0};
        assert_null(json_parse(texts[i], sizes[i], "text", EXIT_DATA, &problem));
        assert_non_null(strstr(problem.text, "zero character"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_text),
        cmocka_unit_test(test_numbers_round_trip),
        cmocka_unit_test(test_whole_numbers_and_none),
        cmocka_unit_test(test_added_numbers_are_numbers),
        cmocka_unit_test(test_zero_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
