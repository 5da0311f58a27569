/* Contexts with completions: ids, labels, cuts, references and every error of both formats; the cut
 * of generated texts. The vocabulary is three letters. */
#include "io/dataset_lm.h"

#include "data_folder.h"
#include "io/dataset.h"
#include "io/dataset_share.h"

enum { END = 3, A = 5, B = 6, C = 7, COLON = 8, BAR = 9, NO = LABEL_IGNORED };

static const char VOCABULARY[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n:\n|\n";

static size_t blocks_before;

static struct dataset data;
static struct lm_references references;
static struct problem problem;
static struct dataset_options options;

static int make_folder(void **state) {
    (void)state;
    return make_data_folder(VOCABULARY);
}

static int begin_test(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    problem = (struct problem){0};
    options = (struct dataset_options){
        .kind = TASK_LANGUAGE_MODELING, .path = path, .max_length = 64, .references = &references};
    return 0;
}

static int begin_webnlg(void **state) {
    begin_test(state);
    options.completion_format = COMPLETION_WEBNLG;
    return 0;
}

static int end_test(void **state) {
    (void)state;
    dataset_free(&data);
    lm_references_free(&references);
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static bool read_text(const char *text) {
    struct label_set labels = {0};
    write_bytes(path, text, strlen(text));
    dataset_free(&data);
    lm_references_free(&references);
    return dataset_read(&data, &options, tokenizer, &labels, &problem);
}

static void read_good(const char *text) {
    if (!read_text(text))
        fail_msg("%s", problem.text);
}

/* Fails with a message that begins with the path and `message`, and leaves nothing behind. */
static void read_bad(const char *text, const char *message) {
    problem = (struct problem){0};
    assert_false(read_text(text));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    char *expected = memory_format("%s:%s", path, message);
    if (strncmp(problem.text, expected, strlen(expected)) != 0)
        fail_msg("got:      %s\nexpected: %s", problem.text, expected);
    memory_free(expected);
    assert_int_equal(data.num_examples, 0);
    assert_null(data.token_ids);
    assert_int_equal(references.count, 0);
    assert_null(references.texts);
}

static void check_list(const int32_t *found, size_t count, const int32_t *expected,
                       size_t num_expected) {
    assert_int_equal(count, num_expected);
    for (size_t i = 0; i < count; ++i)
        if (found[i] != expected[i])
            fail_msg("number %zu is %d instead of %d", i, found[i], expected[i]);
}

#define CHECK(found, offsets, which, ...)                                                          \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        check_list((found) + (offsets)[which], (offsets)[(which) + 1] - (offsets)[which],          \
                   expected_, sizeof expected_ / sizeof *expected_);                               \
    } while (0)
#define CHECK_IDS(example, ...) CHECK(data.token_ids, data.offsets, example, __VA_ARGS__)
#define CHECK_LABELS(example, ...) CHECK(data.labels, data.offsets, example, __VA_ARGS__)
#define CHECK_CONTEXT(context, ...)                                                                \
    CHECK(references.context_ids, references.context_offsets, context, __VA_ARGS__)

static void check_texts(size_t context, size_t count, const char *const *texts) {
    const size_t first = references.text_offsets[context];
    assert_int_equal(references.text_offsets[context + 1] - first, count);
    for (size_t i = 0; i < count; ++i)
        assert_string_equal(references.texts[first + i], texts[i]);
}
#define CHECK_TEXTS(context, ...)                                                                  \
    do {                                                                                           \
        const char *const texts_[] = {__VA_ARGS__};                                                \
        check_texts(context, sizeof texts_ / sizeof *texts_, texts_);                              \
    } while (0)

/* ---- context||completion ---- */

static void test_labels_are_the_next_tokens_of_the_completion(void **state) {
    (void)state;
    read_good("a b||c a\nb||c\n");
    assert_int_equal(data.num_examples, 2);
    CHECK_IDS(0, A, B, END, C, A, END);
    CHECK_LABELS(0, NO, NO, C, A, END, NO);
    CHECK_IDS(1, B, END, C, END);
    CHECK_LABELS(1, NO, C, END, NO);
    assert_int_equal(data.type_ids[3], 0);
    assert_int_equal(data.longest, 6);
    assert_int_equal(data.num_truncated, 0);
}

static void test_cut_sequences_lose_their_end(void **state) {
    (void)state;
    options.max_length = 4;
    read_good("a b||c a\nb||c\na b c a||b\n");
    CHECK_IDS(0, A, B, END, C);
    CHECK_LABELS(0, NO, NO, C, NO);
    CHECK_LABELS(1, NO, C, END, NO);
    CHECK_IDS(2, A, B, C, A);
    CHECK_LABELS(2, NO, NO, NO, NO);
    assert_int_equal(data.num_truncated, 2);
    CHECK_CONTEXT(2, A, B, C, A, END);
}

static void test_white_space_and_line_ends(void **state) {
    (void)state;
    read_good("\xEF\xBB\xBF a | b||c . \t\r\n a | b|| c|a ");
    CHECK_CONTEXT(0, A, BAR, B, END);
    assert_int_equal(references.count, 1);
    CHECK_TEXTS(0, "c .", " c|a");
}

static void test_references_are_grouped_in_the_order_of_the_file(void **state) {
    (void)state;
    read_good("b||c\na||one\nb||a\nc||x\na||two\nb||c\n");
    assert_int_equal(references.count, 3);
    CHECK_CONTEXT(0, B, END);
    CHECK_CONTEXT(1, A, END);
    CHECK_CONTEXT(2, C, END);
    CHECK_TEXTS(0, "c", "a", "c");
    CHECK_TEXTS(1, "one", "two");
    CHECK_TEXTS(2, "x");
}

static void test_limit(void **state) {
    (void)state;
    options.limit = 2;
    options.references = NULL;
    read_good("a||b\nb||c\nno separator\n");
    assert_int_equal(data.num_examples, 2);
    assert_null(references.texts);
}

static void test_bad_lines(void **state) {
    (void)state;
    read_bad("a||b\na b\n", "2: expected context||completion, found 'a b' without ||");
    read_bad("\n", "1: expected context||completion, found '' without ||");
    read_bad("a||b||c", "1: expected context||completion, found more than one ||");
    read_bad("a||b\n ||b\n", "2: expected context||completion, the context is empty");
    read_bad("a|| \n", "1: expected context||completion, the completion is empty");
    read_bad("", "1: the file ends without any example");
}

static void test_datasets_append_and_broadcast(void **state) {
    (void)state;
    const struct comm comm = comm_of(MPI_COMM_WORLD);
    read_good("a||b c\n");
    struct dataset more = {0};
    struct label_set labels = {0};
    options.references = NULL;
    write_bytes(path, "b||c\n", strlen("b||c\n"));
    assert_true(dataset_read(&more, &options, tokenizer, &labels, &problem));
    dataset_append(&data, &more);
    dataset_free(&more);
    dataset_broadcast(&comm, &data);
    lm_references_broadcast(&comm, &references);
    assert_int_equal(data.num_examples, 2);
    CHECK_LABELS(0, NO, B, C, END, NO);
    CHECK_LABELS(1, NO, C, END, NO);
    CHECK_CONTEXT(0, A, END);
    lm_references_free(&references);
    lm_references_broadcast(&comm, &references);
    assert_int_equal(references.count, 0);
}

/* ---- WebNLG ---- */

#define TRIPLE(s, p, o) "{\"subject\":\"" s "\",\"property\":\"" p "\",\"object\":\"" o "\"}"
#define TEXT(comment, lex) "{\"comment\":\"" comment "\",\"lex\":\"" lex "\"}"
#define ENTRY(name, triples, texts)                                                                \
    "{\"" name "\":{\"modifiedtripleset\":[" triples "],\"lexicalisations\":[" texts "]}}"
#define FILE_OF(entries) "{\"entries\":[" entries "]}"

static void test_webnlg_triples_are_joined(void **state) {
    (void)state;
    read_good(FILE_OF(
        ENTRY("1", TRIPLE("a", "b", "c") "," TRIPLE("b", "a", "a"),
              TEXT("good", "c") "," TEXT("bad", "b") "," TEXT(
                  "good", "a b")) "," ENTRY("2", TRIPLE("a", "a", "a"),
                                            TEXT("bad", "a")) "," ENTRY("3", TRIPLE("c", "b", "a"),
                                                                        TEXT("good", "b"))));
    assert_int_equal(data.num_examples, 3);
    CHECK_IDS(0, A, COLON, B, COLON, C, BAR, B, COLON, A, COLON, A, END, C, END);
    CHECK_IDS(2, C, COLON, B, COLON, A, END, B, END);
    assert_int_equal(references.count, 2);
    CHECK_TEXTS(0, "c", "a b");
    CHECK_TEXTS(1, "b");
}

static void test_webnlg_limit_counts_texts(void **state) {
    (void)state;
    options.limit = 1;
    read_good(
        FILE_OF(ENTRY("1", TRIPLE("a", "b", "c"), TEXT("good", "c") "," TEXT("good", "b")) ",7"));
    assert_int_equal(data.num_examples, 1);
}

static void test_bad_webnlg(void **state) {
    (void)state;
    read_bad("[1", " not valid JSON");
    read_bad("[]", " expected WebNLG's JSON, an object with a list \"entries\"");
    read_bad("{\"entries\":{}}", " expected WebNLG's JSON");
    read_bad(FILE_OF("7"), " entry 1 (''): expected an object with one member");
    read_bad(FILE_OF("{}"), " entry 1 (''): expected an object with one member");
    read_bad(FILE_OF("{\"1\":[]}"), " entry 1 ('1'): expected the lists");
    read_bad(FILE_OF("{\"1\":{\"modifiedtripleset\":[]}}"), " entry 1 ('1'): expected the lists");
    read_bad(FILE_OF(ENTRY("1", "", TEXT("good", "a"))), " entry 1 ('1'): expected triples");
    read_bad(FILE_OF(ENTRY("1", TRIPLE("a", "b", "c") ",{}", TEXT("good", "a"))),
             " entry 1 ('1'): expected triples");
    read_bad(FILE_OF(ENTRY("1", TRIPLE("a", "b", "c"), "{\"lex\":\"a\"}")),
             " entry 1 ('1'): expected the texts \"comment\"");
    read_bad(FILE_OF(ENTRY("1", TRIPLE("a", "b", "c"), TEXT("good", "a")) "," ENTRY(
                 "2", TRIPLE("a", "b", "c"), TEXT("good", ""))),
             " entry 2 ('2'): expected a \"lex\" that is not empty");
    read_bad(FILE_OF(""), "1: the file ends without any example");
}

/* ---- generated texts ---- */

static void check_cut(const char *text, const char *expected) {
    char *copy = memory_copy_string(text);
    lm_text_cut(copy);
    assert_string_equal(copy, expected);
    memory_free(copy);
}

static void test_generated_texts_are_cut(void **state) {
    (void)state;
    check_cut(" A b . \n", "A b .");
    check_cut(" A b<|endoftext|> c", "A b");
    check_cut(" A\nb \n\n c<|endoftext|>", "A\nb");
    check_cut("A<|endoftext|>b\n\nc", "A");
    check_cut("\n\nA", "");
    check_cut("", "");
}

static void test_end_tokens(void **state) {
    (void)state;
    int32_t ends[LM_MAX_END_TOKENS];
    assert_int_equal(lm_end_tokens(tokenizer, ends), 1); /* WordPiece has no blank lines */
    assert_int_equal(ends[0], END);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
#define TEST(function, begin) cmocka_unit_test_setup_teardown(function, begin, end_test)
    const struct CMUnitTest tests[] = {
        TEST(test_labels_are_the_next_tokens_of_the_completion, begin_test),
        TEST(test_cut_sequences_lose_their_end, begin_test),
        TEST(test_white_space_and_line_ends, begin_test),
        TEST(test_references_are_grouped_in_the_order_of_the_file, begin_test),
        TEST(test_limit, begin_test),
        TEST(test_bad_lines, begin_test),
        TEST(test_datasets_append_and_broadcast, begin_test),
        TEST(test_webnlg_triples_are_joined, begin_webnlg),
        TEST(test_webnlg_limit_counts_texts, begin_webnlg),
        TEST(test_bad_webnlg, begin_webnlg),
        cmocka_unit_test(test_generated_texts_are_cut),
        cmocka_unit_test(test_end_tokens),
    };
    const int failed = cmocka_run_group_tests(tests, make_folder, remove_folder);
    MPI_Finalize();
    return failed;
}
