/* The scores against scikit-learn's and seqeval's (tests/fixtures/metrics, written by
 * tests/oracle/metrics_case.py), and the rules of chunk tags one by one. */
#include "train/metrics.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/tags.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef AUTOLORA_FIXTURES
#define AUTOLORA_FIXTURES "tests/fixtures"
#endif

enum { MAX_TAGS = 4096, MAX_NAMES = 64, MAX_SEQUENCES = 256 };

static size_t blocks_before;

static int remember_blocks(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    return 0;
}

static int check_blocks(void **state) {
    (void)state;
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static struct json *load_reference(void) {
    const char *folder = getenv("AUTOLORA_FIXTURES");
    char *path = file_join(folder != NULL ? folder : AUTOLORA_FIXTURES, "metrics/reference.json");
    struct problem problem = {0};
    size_t size = 0;
    char *text = file_read(path, &size, &problem);
    if (text == NULL)
        fail_msg("%s", problem.text);
    struct json *root = json_parse(text, size, path, EXIT_DATA, &problem);
    if (root == NULL)
        fail_msg("%s", problem.text);
    memory_free(text);
    memory_free(path);
    return root;
}

static void check_close(const char *what, double value, double expected) {
    if (!(fabs(value - expected) <= 1e-14))
        fail_msg("%s: %.17g, expected %.17g", what, value, expected);
}

/* ---- a corpus of tags as text ---- */

struct corpus {
    char *names[MAX_NAMES];
    size_t num_names, num_tags, num_sequences;
    int32_t tags[MAX_TAGS];
    size_t offsets[MAX_SEQUENCES + 1];
};

static int32_t name_id(struct corpus *names, const char *name) {
    for (size_t i = 0; i < names->num_names; ++i)
        if (strcmp(names->names[i], name) == 0)
            return (int32_t)i;
    assert_true(names->num_names < MAX_NAMES);
    names->names[names->num_names] = memory_copy_string(name);
    return (int32_t)names->num_names++;
}

/* Appends a sequence of tags separated by spaces; `names` holds the names of all corpora. */
static void append_sequence(struct corpus *corpus, struct corpus *names, const char *text) {
    char *copy = memory_copy_string(text), *rest = NULL;
    for (char *tag = strtok_r(copy, " ", &rest); tag != NULL; tag = strtok_r(NULL, " ", &rest)) {
        assert_true(corpus->num_tags < MAX_TAGS);
        corpus->tags[corpus->num_tags++] = name_id(names, tag);
    }
    memory_free(copy);
    assert_true(corpus->num_sequences < MAX_SEQUENCES);
    corpus->offsets[++corpus->num_sequences] = corpus->num_tags;
}

static void free_names(struct corpus *names) {
    while (names->num_names > 0)
        memory_free(names->names[--names->num_names]);
}

static struct entity_scores score_corpora(const struct corpus *gold,
                                          const struct corpus *predicted) {
    assert_int_equal(gold->num_sequences, predicted->num_sequences);
    assert_memory_equal(gold->offsets, predicted->offsets, sizeof gold->offsets);
    return metric_entities((const char *const *)gold->names, gold->num_names, predicted->tags,
                           gold->tags, gold->offsets, gold->num_sequences);
}

static size_t size_of(const struct json *object, const char *name) {
    size_t value = 0;
    assert_true(json_size(json_get(object, name), &value));
    return value;
}

static void check_corpus(const struct json *reference) {
    struct corpus gold = {0}, predicted = {0};
    const struct json *text = json_first(json_get(reference, "true"));
    for (; text != NULL; text = json_next(text))
        append_sequence(&gold, &gold, json_string(text));
    for (text = json_first(json_get(reference, "predicted")); text != NULL; text = json_next(text))
        append_sequence(&predicted, &gold, json_string(text));
    const struct entity_scores scores = score_corpora(&gold, &predicted);
    const char *name = json_string(json_get(reference, "name"));
    assert_int_equal(scores.num_gold, size_of(reference, "true_entities"));
    assert_int_equal(scores.num_predicted, size_of(reference, "predicted_entities"));
    assert_int_equal(scores.num_correct, size_of(reference, "correct_entities"));
    check_close(name, scores.precision, json_number(json_get(reference, "precision")));
    check_close(name, scores.recall, json_number(json_get(reference, "recall")));
    check_close(name, scores.f1, json_number(json_get(reference, "f1")));
    free_names(&gold);
}

static void test_entities_equal_seqeval(void **state) {
    (void)state;
    struct json *root = load_reference();
    const struct json *corpora = json_get(root, "corpora");
    assert_true(json_count(corpora) > 0);
    for (const struct json *one = json_first(corpora); one != NULL; one = json_next(one))
        check_corpus(one);
    json_destroy(&root);
}

/* ---- classes ---- */

static size_t read_labels(const struct json *list, int32_t *labels) {
    size_t count = 0;
    for (const struct json *one = json_first(list); one != NULL; one = json_next(one)) {
        assert_true(count < MAX_TAGS);
        labels[count++] = (int32_t)json_number(one);
    }
    return count;
}

static void test_classes_equal_scikit_learn(void **state) {
    (void)state;
    struct json *root = load_reference();
    const struct json *cases = json_get(root, "classification");
    assert_true(json_count(cases) > 0);
    for (const struct json *one = json_first(cases); one != NULL; one = json_next(one)) {
        int32_t gold[MAX_TAGS], predicted[MAX_TAGS];
        const size_t count = read_labels(json_get(one, "true"), gold);
        assert_int_equal(read_labels(json_get(one, "predicted"), predicted), count);
        const char *name = json_string(json_get(one, "name"));
        check_close(name, metric_accuracy(predicted, gold, count),
                    json_number(json_get(one, "accuracy")));
        check_close(name,
                    metric_matthews(predicted, gold, count, size_of(one, "number_of_classes")),
                    json_number(json_get(one, "matthews")));
        if (json_get(one, "f1") != NULL)
            check_close(name, metric_f1(predicted, gold, count, 1),
                        json_number(json_get(one, "f1")));
    }
    json_destroy(&root);
}

/* Numbers of the reference as floats, which hold them exactly. */
static size_t read_floats(const struct json *reference, const char *name, float *values) {
    size_t count = 0;
    for (const struct json *one = json_first(json_get(reference, name)); one != NULL;
         one = json_next(one)) {
        assert_true(count < MAX_TAGS);
        values[count++] = (float)json_number(one);
    }
    return count;
}

static void test_scores_equal_scipy(void **state) {
    (void)state;
    static float gold[MAX_TAGS], predicted[MAX_TAGS];
    struct json *root = load_reference();
    const struct json *cases = json_get(root, "regression");
    assert_int_equal(json_count(cases), 2);
    for (const struct json *one = json_first(cases); one != NULL; one = json_next(one)) {
        const size_t count = read_floats(one, "true", gold);
        assert_int_equal(read_floats(one, "predicted", predicted), count);
        check_close("pearson", metric_pearson(predicted, gold, count),
                    json_number(json_get(one, "pearson")));
        check_close("spearman", metric_spearman(predicted, gold, count),
                    json_number(json_get(one, "spearman")));
    }
    json_destroy(&root);
}

static void test_correlations_at_their_ends(void **state) {
    (void)state;
    const float up[] = {1, 2, 3, 1e30f}, down[] = {0, -1, -2, -3}, same[] = {5, 5, 5, 5};
    const float bad[] = {1, 2, NAN, 4}, ties[] = {1, 1, 2, 2}, others[] = {3, 3, 9, 9};
    check_close("spearman", metric_spearman(up, down, 4), -1);
    check_close("spearman", metric_spearman(up, up, 4), 1);
    check_close("spearman", metric_spearman(ties, others, 4), 1);
    check_close("pearson", metric_pearson(down, down, 4), 1);
    assert_true(metric_pearson(up, same, 4) == 0 && metric_pearson(same, up, 4) == 0);
    assert_true(metric_spearman(same, up, 4) == 0 && metric_pearson(up, up, 1) == 0);
    assert_true(metric_pearson(up, up, 0) == 0 && metric_spearman(up, up, 0) == 0);
    assert_true(isnan(metric_pearson(bad, up, 4))); /* not hidden behind a number */
}

static void test_nothing_to_score_is_zero(void **state) {
    (void)state;
    const int32_t none[1] = {0};
    const size_t offsets[1] = {0};
    const char *const names[] = {"O"};
    assert_true(metric_accuracy(none, none, 0) == 0.0);
    assert_true(metric_matthews(none, none, 0, 2) == 0.0);
    const struct entity_scores scores = metric_entities(names, 1, none, none, offsets, 0);
    assert_int_equal(scores.num_gold + scores.num_predicted + scores.num_correct, 0);
    assert_true(scores.precision == 0.0 && scores.recall == 0.0 && scores.f1 == 0.0);
}

static void test_matthews_is_exact_for_many_examples(void **state) {
    (void)state;
    enum { COUNT = 3000000 };
    int32_t *gold = memory_allocate(COUNT, sizeof(int32_t), "labels");
    int32_t *predicted = memory_allocate(COUNT, sizeof(int32_t), "labels");
    for (int i = 0; i < COUNT; ++i)
        gold[i] = predicted[i] = i % 3;
    assert_true(metric_matthews(predicted, gold, COUNT, 3) == 1.0);
    memset(predicted, 0, COUNT * sizeof(int32_t));
    assert_true(metric_matthews(predicted, gold, COUNT, 3) == 0.0);
    memory_free(gold);
    memory_free(predicted);
}

/* ---- tags ---- */

/* The entities of a sequence as text: "type begin end;", end exclusive. */
static void check_entities(const char *tags, const char *expected) {
    struct corpus corpus = {0};
    struct entity entities[MAX_TAGS];
    append_sequence(&corpus, &corpus, tags);
    const size_t count = tags_find_entities((const char *const *)corpus.names, corpus.tags,
                                            corpus.num_tags, entities);
    char found[1024] = "";
    for (size_t i = 0; i < count; ++i) {
        const size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s %zu %zu;", entities[i].type,
                 entities[i].begin, entities[i].end);
    }
    if (strcmp(found, expected) != 0)
        fail_msg("%s: %s, expected %s", tags, found, expected);
    free_names(&corpus);
}

static void test_rules_of_begin_and_inside(void **state) {
    (void)state;
    check_entities("", "");
    check_entities("O O", "");
    check_entities("B-x I-x O B-x", "x 0 2;x 3 4;");
    check_entities("B-x B-x", "x 0 1;x 1 2;");
    check_entities("I-x I-x O I-x", "x 0 2;x 3 4;");
    check_entities("B-x I-y I-y", "x 0 1;y 1 3;");
    check_entities("I-x B-x I-x", "x 0 1;x 1 3;");
    check_entities("B I O I", "_ 0 2;_ 3 4;");
    check_entities("B- I", "_ 0 2;");
    check_entities("B-a-b I-a-b I-a", "a-b 0 2;a 2 3;");
}

static void test_rules_of_end_and_single(void **state) {
    (void)state;
    check_entities("B-x I-x E-x", "x 0 3;");
    check_entities("B-x E-x E-x", "x 0 2;x 2 3;");
    check_entities("E-x I-x", "x 0 1;x 1 2;");
    check_entities("S-x S-x I-x E-x", "x 0 1;x 1 2;x 2 4;");
    check_entities("O E-x S-y", "x 1 2;y 2 3;");
    check_entities("S E S", "_ 0 1;_ 1 2;_ 2 3;");
}

static void test_chunk_tags_are_recognised(void **state) {
    (void)state;
    const char *const good[] = {"O", "B", "I", "E", "S", "B-x", "I-", "E-a-b", "S-1"};
    const char *const bad[] = {"", "o", "O-x", "Ox", "Bx", "X-x", "NN", "-", "0", "b-x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; ++i)
        assert_true(tags_is_chunk_tag(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i)
        assert_false(tags_is_chunk_tag(bad[i]));
}

static void test_common_entities_agree_in_place_and_type(void **state) {
    (void)state;
    const struct entity left[] = {{0, 2, "x"}, {3, 4, "x"}, {5, 9, "x"}};
    const struct entity right[] = {{0, 2, "x"}, {3, 4, "y"}, {6, 9, "x"}};
    assert_int_equal(tags_count_common(left, 3, right, 3), 1);
    assert_int_equal(tags_count_common(left, 3, left, 3), 3);
    assert_int_equal(tags_count_common(left, 3, left + 2, 1), 1);
    assert_int_equal(tags_count_common(left, 0, left, 3), 0);
}

static void test_sequences_do_not_join(void **state) {
    (void)state;
    struct corpus gold = {0}, predicted = {0};
    append_sequence(&gold, &gold, "O B-x");
    append_sequence(&gold, &gold, "");
    append_sequence(&gold, &gold, "I-x");
    append_sequence(&predicted, &gold, "O I-x");
    append_sequence(&predicted, &gold, "");
    append_sequence(&predicted, &gold, "O");
    const struct entity_scores scores = score_corpora(&gold, &predicted);
    assert_int_equal(scores.num_gold, 2);
    assert_int_equal(scores.num_predicted, 1);
    assert_int_equal(scores.num_correct, 1);
    assert_true(scores.precision == 1.0 && scores.recall == 0.5);
    check_close("f1", scores.f1, 2.0 / 3.0);
    free_names(&gold);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_blocks, check_blocks)
    const struct CMUnitTest tests[] = {
        TEST(test_entities_equal_seqeval),     TEST(test_classes_equal_scikit_learn),
        TEST(test_nothing_to_score_is_zero),   TEST(test_matthews_is_exact_for_many_examples),
        TEST(test_rules_of_begin_and_inside),  TEST(test_rules_of_end_and_single),
        TEST(test_chunk_tags_are_recognised),  TEST(test_common_entities_agree_in_place_and_type),
        TEST(test_sequences_do_not_join),      TEST(test_scores_equal_scipy),
        TEST(test_correlations_at_their_ends),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
