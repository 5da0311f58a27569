/* Reading of GLUE's files and of CoNLL files: every rule of include/io/dataset.h and every error.
 * The vocabulary is three letters, each as the begin of a word and as a continuation. */
#include "io/dataset.h"

#include "data_folder.h"
#include "io/dataset_builder.h"

enum { UNK = 1, CLS = 2, SEP = 3, A = 5, B = 6, C = 7, A_ = 8, B_ = 9, C_ = 10, NO = -100 };

static const char VOCABULARY[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##a\n##b\n##c\n";

static size_t blocks_before;

/* What a test reads; fresh for each. */
static struct dataset data;
static struct label_set labels;
static struct problem problem;
static struct dataset_options options;

static int make_folder(void **state) {
    (void)state;
    return make_data_folder(VOCABULARY);
}

static void begin(enum task_kind kind) {
    problem = (struct problem){0};
    options = (struct dataset_options){.kind = kind, .path = path, .max_length = 128};
}

/* The task of the tests that read several. */
static void begin_task(const char *name) {
    begin(TASK_SEQUENCE_CLASSIFICATION);
    options.glue = glue_find(name);
    assert_non_null(options.glue);
    label_set_free(&labels);
    label_set_add_glue(&labels, options.glue);
}

static int begin_cola(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    begin_task("cola");
    return 0;
}

static int begin_conll(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    begin(TASK_TOKEN_CLASSIFICATION);
    options.defines_labels = true;
    return 0;
}

static int end_test(void **state) {
    (void)state;
    dataset_free(&data);
    label_set_free(&labels);
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static bool read_bytes(const char *text, size_t size) {
    write_bytes(path, text, size);
    dataset_free(&data);
    return dataset_read(&data, &options, tokenizer, &labels, &problem);
}

static void read_good(const char *text) {
    if (!read_bytes(text, strlen(text)))
        fail_msg("%s", problem.text);
    assert_int_equal(data.offsets[0], 0);
}

/* Reading fails with a message that begins with "path:" and `message`; what was there stays. */
static void read_bad_bytes(const char *text, size_t size, const char *message) {
    const size_t num_labels = labels.count;
    problem = (struct problem){0};
    assert_false(read_bytes(text, size));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    char *expected = memory_format("%s:%s", path, message);
    if (strncmp(problem.text, expected, strlen(expected)) != 0)
        fail_msg("got:      %s\nexpected: %s", problem.text, expected);
    memory_free(expected);
    assert_int_equal(labels.count, num_labels);
    assert_int_equal(data.num_examples, 0);
    assert_null(data.token_ids);
}

static void read_bad(const char *text, const char *message) {
    read_bad_bytes(text, strlen(text), message);
}

static void check_message_holds(const char *part) {
    if (strstr(problem.text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, problem.text);
}

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define CHECK_IDS(example, ...)                                                                    \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        check_tokens(data.token_ids, example, expected_, LENGTH(expected_));                       \
    } while (0)
#define CHECK_LABELS(example, ...)                                                                 \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        check_tokens(data.labels, example, expected_, LENGTH(expected_));                          \
    } while (0)

static void check_tokens(const int32_t *values, size_t example, const int32_t *expected,
                         size_t count) {
    assert_true(example < data.num_examples);
    const size_t first = data.offsets[example];
    assert_int_equal(data.offsets[example + 1] - first, count);
    for (size_t i = 0; i < count; ++i) {
        if (values[first + i] != expected[i])
            fail_msg("example %zu, token %zu: %d, expected %d", example, i, (int)values[first + i],
                     (int)expected[i]);
        assert_int_equal(data.type_ids[first + i], 0);
    }
}

/* The label set as one text, "O B-x I-x". */
static void check_label_names(const char *expected) {
    char names[512] = "";
    for (size_t i = 0; i < labels.count; ++i) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : " ", labels.names[i]);
    }
    assert_string_equal(names, expected);
}

/* ---- sequence classification ---- */

static void test_rows_are_packed(void **state) {
    (void)state;
    read_good("src\t1\t\ta abc\nsrc\t0\t*\tb\n");
    assert_int_equal(data.kind, TASK_SEQUENCE_CLASSIFICATION);
    assert_int_equal(data.num_examples, 2);
    CHECK_IDS(0, CLS, A, A, B_, C_, SEP);
    CHECK_IDS(1, CLS, B, SEP);
    assert_int_equal(data.labels[0], 1);
    assert_int_equal(data.labels[1], 0);
    assert_int_equal(data.longest, 6);
    assert_int_equal(data.num_truncated, 0);
    assert_int_equal(data.entities_total, 0);
}

static void test_quotes_are_text_and_columns_may_be_empty(void **state) {
    (void)state;
    read_good("\"src\t1\t\"\t\"a\n\t0\t\ta \"b\" c\"\nsrc\t0\t\t\n");
    assert_int_equal(data.num_examples, 3);
    CHECK_IDS(0, CLS, UNK, A, SEP);
    CHECK_IDS(1, CLS, A, UNK, B, UNK, C, UNK, SEP);
    CHECK_IDS(2, CLS, SEP);
}

static void test_line_ends_and_byte_order_mark(void **state) {
    (void)state;
    read_good("\xEF\xBB\xBFs\t1\t\ta\r\ns\t0\t\tb");
    assert_int_equal(data.num_examples, 2);
    CHECK_IDS(0, CLS, A, SEP);
    CHECK_IDS(1, CLS, B, SEP);
    assert_int_equal(data.labels[0], 1);
    read_good("s\t1\t\ta\r\ns\t0\t\tb\r");
    CHECK_IDS(1, CLS, B, SEP);
}

static void test_long_sequences_are_cut(void **state) {
    (void)state;
    options.max_length = 5;
    read_good("s\t1\t\ta b c\ns\t1\t\tabc b\ns\t1\t\ta\n");
    assert_int_equal(data.num_examples, 3);
    CHECK_IDS(0, CLS, A, B, C, SEP);
    CHECK_IDS(1, CLS, A, B_, C_, SEP);
    CHECK_IDS(2, CLS, A, SEP);
    assert_int_equal(data.num_truncated, 1);
    assert_int_equal(data.longest, 5);
    options.max_length = 3;
    read_good("s\t1\t\tabc\n");
    CHECK_IDS(0, CLS, A, SEP);
}

static void test_length_without_room_is_refused(void **state) {
    (void)state;
    for (options.max_length = 0; options.max_length < 3; ++options.max_length) {
        problem = (struct problem){0};
        assert_false(read_bytes("s\t1\t\ta\n", 7));
        assert_int_equal(problem.exit_code, EXIT_USAGE);
        check_message_holds(path);
    }
}

static void test_limit_takes_the_first(void **state) {
    (void)state;
    options.limit = 2;
    read_good("s\t1\t\ta\ns\t0\t\tb\nthis is not read");
    assert_int_equal(data.num_examples, 2);
    options.limit = 9;
    read_good("s\t1\t\ta\n");
    assert_int_equal(data.num_examples, 1);
}

static void test_wrong_columns_are_named(void **state) {
    (void)state;
    read_bad("s\t1\t\ta\ns\t1\ta\n", "2: expected 4 columns");
    check_message_holds("found 3");
    read_bad("s\t1\t\ta\tb\n", "1: expected 4 columns");
    check_message_holds("found 5");
    read_bad("s\t1\t\ta\n\n", "2: expected 4 columns");
    check_message_holds("found 1");
    read_bad("\n\n\n", "1: expected 4 columns");
    read_bad("index\tsentence\n", "1: expected 4 columns");
}

static void test_unknown_label_lists_the_known(void **state) {
    (void)state;
    read_bad("s\t1\t\ta\ns\t2\t\ta\n", "2: label '2' is not one of the task's: 0, 1");
    read_bad("s\t\t\ta\n", "1: label '' is not one of the task's: 0, 1");
    read_bad("s\t01\t\ta\n", "1: label '01' is not");
    options.defines_labels = true; /* of tokens only */
    read_bad("s\t2\t\ta\n", "1: label '2' is not");
    label_set_free(&labels);
    read_bad("s\t1\t\ta\n", "1: label '1' is not one of the task's: there are none");
    for (int i = 0; i < 100; ++i) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        label_set_add(&labels, name);
    }
    read_bad("s\tx\t\ta\n", "1: label 'x' is not one of the task's: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "
                            "10, 11, ... (100 labels)");
}

static void test_odd_bytes_are_printed_safely(void **state) {
    (void)state;
    read_bad("s\t\x1b[2J\xff\t\ta\n", "1: label '\\x1B[2J\\xFF' is not");
    char *text = memory_allocate(100000, 1, "text");
    memset(text, '\xff', 99999);
    memcpy(text, "s\t", 2);
    memcpy(text + 99990, "\t\ta\n", 4);
    read_bad(text, "1: label '\\xFF\\xFF");
    check_message_holds("\\xFF...' is not one");
    assert_true(strlen(problem.text) < 1000);
    memory_free(text);
}

static void test_printable_is_limited(void **state) {
    (void)state;
    assert_string_equal(dataset_printable("B-x y~").text, "B-x y~");
    assert_string_equal(dataset_printable("\n\x7f\xc3\xa9").text, "\\x0A\\x7F\\xC3\\xA9");
    assert_string_equal(dataset_printable("0123456789012345678901234567890123456789").text,
                        "0123456789012345678901234567890123456789");
    assert_string_equal(dataset_printable("0123456789012345678901234567890123456789x").text,
                        "0123456789012345678901234567890123456789...");
}

static void test_files_without_content_are_refused(void **state) {
    (void)state;
    read_bad("", "1: the file ends without any example");
    read_bad("\xEF\xBB\xBF", "1: the file ends without any example");
    read_bad_bytes("s\t1\t\ta\ns\t1\t\ta\0b\n", 15, "2: holds a NUL byte");
    read_bad_bytes("s\0\t\0", 4, "1: holds a NUL byte");
    unlink(path);
    problem = (struct problem){0};
    assert_false(dataset_read(&data, &options, tokenizer, &labels, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    check_message_holds(path);
}

static void test_line_of_megabytes(void **state) {
    (void)state;
    const size_t size = (size_t)4 << 20;
    char *text = memory_allocate(size + 1, 1, "text");
    memcpy(text, "s\t1\t\t", 5);
    for (size_t i = 5; i < size; ++i)
        text[i] = i % 2 == 0 ? ' ' : 'a';
    read_good(text);
    assert_int_equal(data.num_examples, 1);
    assert_int_equal(data.longest, 128);
    assert_int_equal(data.num_truncated, 1);
    memset(text, '\t', size);
    read_bad(text, "1: expected 4 columns");
    memory_free(text);
}

/* ---- token classification ---- */

static void test_first_sub_word_carries_the_label(void **state) {
    (void)state;
    read_good("abc\tB-x\na\tI-x\n\nb\tO\n");
    assert_int_equal(data.num_examples, 2);
    check_label_names("O B-x I-x");
    CHECK_IDS(0, CLS, A, B_, C_, A, SEP);
    CHECK_LABELS(0, NO, 1, NO, NO, 2, NO);
    CHECK_IDS(1, CLS, B, SEP);
    CHECK_LABELS(1, NO, 0, NO);
    assert_int_equal(data.longest, 6);
    assert_int_equal(data.entities_total, 1);
    assert_int_equal(data.entities_lost, 0);
}

static void test_labels_are_sorted(void **state) {
    (void)state;
    read_good("a S-b\na I-b\na I-a\na B-b\na E-b\na O\na I\na B\na B-a\n");
    check_label_names("O B I B-a I-a B-b I-b E-b S-b");
    CHECK_LABELS(0, NO, 8, 6, 4, 5, 7, 0, 2, 1, 3, NO);
    label_set_free(&labels);
    read_good("a I-x\na B-x\n");
    check_label_names("B-x I-x");
}

static void test_first_and_last_column_count(void **state) {
    (void)state;
    read_good("a  NN   B-x\nb\tO\tI-x\na b\tB-x\n c O \nb \t O \n");
    check_label_names("O B-x I-x");
    CHECK_IDS(0, CLS, A, B, A, B, C, B, SEP);
    CHECK_LABELS(0, NO, 1, 2, 1, NO, 0, 0, NO);
}

static void test_sentences_end_at_blank_lines(void **state) {
    (void)state;
    read_good(
        "\xEF\xBB\xBF-DOCSTART- -X- O\r\n\r\na\tO\r\n\r\n \t\r\n\r\nb\tO\r\n-DOCSTART-\r\nc\tO");
    assert_int_equal(data.num_examples, 3);
    CHECK_IDS(0, CLS, A, SEP);
    CHECK_IDS(1, CLS, B, SEP);
    CHECK_IDS(2, CLS, C, SEP);
}

/* CoNLL-2003's four columns and several types; then tags without types. */
static void test_several_types_and_none(void **state) {
    (void)state;
    read_good("-DOCSTART- -X- -X- O\n\n"
              "a NNP B-NP B-ORG\nb VBZ B-VP O\nc JJ B-NP B-MISC\na NN I-NP I-PER\n\n"
              "b NNP I-NP I-PER\nc NNP I-NP I-PER\n");
    check_label_names("O B-MISC B-ORG I-PER");
    assert_int_equal(data.num_examples, 2);
    CHECK_LABELS(0, NO, 2, 0, 1, 3, NO);
    CHECK_LABELS(1, NO, 3, 3, NO);
    assert_int_equal(data.entities_total, 4);
    label_set_free(&labels);
    read_good("a\tB\nb\tI\nc\tO\na\tI\n");
    check_label_names("O B I");
    CHECK_LABELS(0, NO, 1, 2, 0, 2, NO);
    assert_int_equal(data.entities_total, 2);
}

static void test_words_without_pieces_are_dropped(void **state) {
    (void)state;
    read_good("a\tB-x\n\x01\tI-x\nb\tI-x\n\x01\tO\nc\tB-x\n\n\x01\tO\n\n\x01\tB-x\n");
    assert_int_equal(data.num_examples, 3);
    CHECK_IDS(0, CLS, A, B, C, SEP);
    CHECK_LABELS(0, NO, 1, 2, 1, NO);
    CHECK_IDS(1, CLS, SEP);
    CHECK_LABELS(1, NO, NO);
    assert_int_equal(data.num_truncated, 0);
    assert_int_equal(data.entities_total, 3);
    assert_int_equal(data.entities_lost, 2); /* the one with a hole, the one of sentence 3 */
}

static void test_entities_that_a_dropped_word_joins_are_lost(void **state) {
    (void)state;
    read_good("a\tB-x\n\x01\tO\nb\tI-x\n");
    CHECK_LABELS(0, NO, 1, 2, NO);
    assert_int_equal(data.entities_total, 2);
    assert_int_equal(data.entities_lost, 2);
}

static void test_entities_behind_the_cut_are_lost(void **state) {
    (void)state;
    options.max_length = 6;
    read_good("a\tB-x\nb\tB-x\nb\tI-x\nb\tI-x\nc\tI-x\nc\tB-x\n");
    CHECK_IDS(0, CLS, A, B, B, B, SEP);
    CHECK_LABELS(0, NO, 0, 0, 1, 1, NO);
    assert_int_equal(data.num_truncated, 1);
    assert_int_equal(data.entities_total, 3);
    assert_int_equal(data.entities_lost, 2);
}

static void test_a_word_cut_inside_keeps_its_label(void **state) {
    (void)state;
    options.max_length = 5;
    read_good("a\tO\nabc\tB-x\n");
    CHECK_IDS(0, CLS, A, A, B_, SEP);
    CHECK_LABELS(0, NO, 0, 1, NO, NO);
    assert_int_equal(data.num_truncated, 1);
    assert_int_equal(data.entities_lost, 0);
}

static void test_what_fits_exactly_is_not_cut(void **state) {
    (void)state;
    options.max_length = 4;
    read_good("a\tO\nb\tO\n\x01\tO\n");
    CHECK_IDS(0, CLS, A, B, SEP);
    assert_int_equal(data.num_truncated, 0);
    read_good("a\tO\nb\tO\n\x01\tO\nc\tB-x\n");
    CHECK_IDS(0, CLS, A, B, SEP);
    assert_int_equal(data.num_truncated, 1);
    assert_int_equal(data.entities_lost, 1);
}

static void test_labels_behind_the_limit_count(void **state) {
    (void)state;
    options.limit = 1;
    read_good("a\tO\n\nb\tI-x\n\nc\tB-x\n");
    assert_int_equal(data.num_examples, 1);
    assert_int_equal(data.entities_total, 0);
    check_label_names("O B-x I-x");
    options.defines_labels = false;
    read_good("a\tB-x\n\nnot read\n");
    assert_int_equal(data.num_examples, 1);
    CHECK_LABELS(0, NO, 1, NO);
}

static void test_known_labels_keep_their_ids(void **state) {
    (void)state;
    read_good("a\tI-x\nb\tO\n");
    check_label_names("O I-x");
    read_good("a\tI-x\nb\tI-a\nc\tB-x\nc\tO\nc\tB-a\n");
    check_label_names("O I-x B-a I-a B-x");
    CHECK_LABELS(0, NO, 1, 3, 4, 0, 2, NO);
}

static void test_a_file_may_not_define_labels(void **state) {
    (void)state;
    read_good("a\tI-x\nb\tO\n");
    options.defines_labels = false;
    read_bad("a\tO\n\nb\tB-x\n", "3: label 'B-x' is not one of the task's: O, I-x");
    read_bad("a\tNN\n", "1: label 'NN' is not one");
}

static void test_a_failed_file_leaves_the_labels(void **state) {
    (void)state;
    read_good("a\tI-x\nb\tO\n");
    read_bad("a\tB-x\n\na\tI-y\nb", "4: expected a word and its label");
    check_label_names("O I-x");
}

static void test_lines_without_word_or_label_are_named(void **state) {
    (void)state;
    read_bad("a\tO\nb\n", "2: expected a word and its label, separated by a TAB or spaces: 'b'");
    read_bad("a\tO\nb", "2: expected");
    read_bad("a\t\n", "1: expected");
    read_bad("a\t \n", "1: expected");
    read_bad("a O\t\n", "1: expected");
    read_bad("\tO\n", "1: expected");
    read_bad(" O\n", "1: expected");
    read_bad("O \n", "1: expected");
    read_bad("\x1b[2J\n",
             "1: expected a word and its label, separated by a TAB or spaces: '\\x1B[2J'");
}

static void test_labels_must_be_chunk_tags(void **state) {
    (void)state;
    read_bad("a\tO\nb\tNN\n", "2: label 'NN' is not a chunk tag");
    read_bad("a\t0\n", "1: label '0' is not a chunk tag");
    read_bad("a\tB-\x07\n", "1: label 'B-\\x07' is not a chunk tag");
    read_bad("a\tB-\xff\n", "1: label 'B-\\xFF' is not a chunk tag");
    read_bad("a\tB-\xe2\x82", "1: label 'B-\\xE2\\x82' is not a chunk tag");
    read_bad("a\tB-\xc2\x85\n", "1: label 'B-\\xC2\\x85' is not a chunk tag");
    read_good("a\tB-\xc3\xa9\n");
    check_label_names("B-\xc3\xa9");
}

static void test_too_many_labels_are_refused(void **state) {
    (void)state;
    char *text = memory_allocate(20000, 1, "text");
    size_t used = 0;
    for (int i = 1; i <= 1025; ++i)
        used += (size_t)snprintf(text + used, 20000 - used, "a\tB-%d\n", i);
    read_bad(text, "1025: label 'B-1025' would be number 1025 of the task");
    *strrchr(text, 'a') = '\0';
    read_good(text);
    assert_int_equal(labels.count, 1024);
    memory_free(text);
}

static void test_files_without_sentence_are_refused(void **state) {
    (void)state;
    read_bad("", "1: the file ends without any example");
    read_bad("\n\n \n", "3: the file ends without any example");
    read_bad("-DOCSTART- -X- O\n\n", "2: the file ends without any example");
    read_bad_bytes("a\tO\n\nb\0\tO\n", 11, "3: holds a NUL byte");
}

static void test_sentence_of_many_words(void **state) {
    (void)state;
    const size_t num_words = 400000;
    char *text = memory_allocate(num_words * 6 + 1, 1, "text");
    for (size_t i = 0; i < num_words; ++i)
        memcpy(text + i * 6, "a\tB-x\n", 6);
    read_good(text);
    assert_int_equal(data.num_examples, 1);
    assert_int_equal(data.longest, 128);
    assert_int_equal(data.entities_total, num_words);
    assert_int_equal(data.entities_lost, num_words - 126);
    memset(text, 'a', num_words * 6);
    memcpy(text + num_words * 6 - 5, "\tB-x\n", 5);
    read_good(text);
    CHECK_IDS(0, CLS, UNK, SEP);
    memory_free(text);
}

static void test_many_sentences(void **state) {
    (void)state;
    const size_t count = 100000;
    char *text = memory_allocate(count * 7 + 1, 1, "text");
    for (size_t i = 0; i < count; ++i)
        memcpy(text + i * 7, i % 2 == 0 ? "a\tB-x\n\n" : "ab\t O\n\n", 7);
    read_good(text);
    assert_int_equal(data.num_examples, count);
    assert_int_equal(data.offsets[count], count / 2 * 7);
    assert_int_equal(data.entities_total, count / 2);
    CHECK_LABELS(count - 2, NO, 1, NO);
    CHECK_LABELS(count - 1, NO, 0, NO, NO);
    memory_free(text);
}

int main(void) {
#define COLA(name) cmocka_unit_test_setup_teardown(name, begin_cola, end_test)
#define CONLL(name) cmocka_unit_test_setup_teardown(name, begin_conll, end_test)
    const struct CMUnitTest tests[] = {
        COLA(test_rows_are_packed),
        COLA(test_quotes_are_text_and_columns_may_be_empty),
        COLA(test_line_ends_and_byte_order_mark),
        COLA(test_long_sequences_are_cut),
        COLA(test_length_without_room_is_refused),
        COLA(test_limit_takes_the_first),
        COLA(test_wrong_columns_are_named),
        COLA(test_unknown_label_lists_the_known),
        COLA(test_odd_bytes_are_printed_safely),
        COLA(test_printable_is_limited),
        COLA(test_files_without_content_are_refused),
        COLA(test_line_of_megabytes),
        CONLL(test_first_sub_word_carries_the_label),
        CONLL(test_labels_are_sorted),
        CONLL(test_first_and_last_column_count),
        CONLL(test_sentences_end_at_blank_lines),
        CONLL(test_several_types_and_none),
        CONLL(test_words_without_pieces_are_dropped),
        CONLL(test_entities_that_a_dropped_word_joins_are_lost),
        CONLL(test_entities_behind_the_cut_are_lost),
        CONLL(test_a_word_cut_inside_keeps_its_label),
        CONLL(test_what_fits_exactly_is_not_cut),
        CONLL(test_labels_behind_the_limit_count),
        CONLL(test_known_labels_keep_their_ids),
        CONLL(test_a_file_may_not_define_labels),
        CONLL(test_a_failed_file_leaves_the_labels),
        CONLL(test_lines_without_word_or_label_are_named),
        CONLL(test_labels_must_be_chunk_tags),
        CONLL(test_too_many_labels_are_refused),
        CONLL(test_files_without_sentence_are_refused),
        CONLL(test_sentence_of_many_words),
        CONLL(test_many_sentences),
    };
    return cmocka_run_group_tests_name("dataset", tests, make_folder, remove_folder);
}
