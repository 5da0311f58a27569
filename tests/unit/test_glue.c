/* GLUE's files: the columns of every task, pairs and their cutting, test files, submissions. The
 * vocabulary is three letters, each as the begin of a word and as a continuation. */
#include "data_folder.h"
#include "io/dataset.h"
#include "io/dataset_share.h"
#include "io/glue.h"
#include "io/submission.h"

enum { UNK = 1, CLS = 2, SEP = 3, A = 5, B = 6, C = 7, NO = -100 };

static const char VOCABULARY[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##a\n##b\n##c\n";
static const char *const NAMES[] = {"cola", "sst2", "mrpc", "rte", "stsb",
                                    "qnli", "qqp",  "mnli", "wnli"};
enum { NUM_TASKS = sizeof NAMES / sizeof *NAMES };

/* What a test reads; fresh for each. */
static struct dataset data;
static struct label_set labels;
static struct problem problem;
static struct dataset_options options;
static size_t blocks_before;

static int make_folder(void **state) {
    (void)state;
    return make_data_folder(VOCABULARY);
}

static int begin_test(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    problem = (struct problem){0};
    return 0;
}

static int end_test(void **state) {
    (void)state;
    dataset_free(&data);
    label_set_free(&labels);
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static void choose(const char *name, bool is_unlabelled) {
    const struct glue_task *task = glue_find(name);
    assert_non_null(task);
    options = (struct dataset_options){.kind = TASK_SEQUENCE_CLASSIFICATION,
                                       .glue = task,
                                       .path = path,
                                       .max_length = 128,
                                       .is_unlabelled = is_unlabelled};
    label_set_free(&labels);
    label_set_add_glue(&labels, task);
}

static bool read_text(const char *text) {
    write_bytes(path, text, strlen(text));
    dataset_free(&data);
    problem = (struct problem){0};
    return dataset_read(&data, &options, tokenizer, &labels, &problem);
}

static void read_good(const char *text) {
    if (!read_text(text))
        fail_msg("%s", problem.text);
}

static void read_bad(const char *text, const char *message) {
    assert_false(read_text(text));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    char *expected = memory_format("%s:%s", path, message);
    if (strncmp(problem.text, expected, strlen(expected)) != 0)
        fail_msg("got:      %s\nexpected: %s", problem.text, expected);
    memory_free(expected);
    assert_int_equal(data.num_examples, 0);
    assert_null(data.targets);
    assert_null(data.indices);
}

/* The tokens of an example as one text: "CLS a SEP b SEP", those of type 1 with a ' behind. */
static void check_example(size_t example, const char *expected) {
    static const char *const names[] = {"PAD", "UNK", "CLS", "SEP", "MASK", "a",
                                        "b",   "c",   "##a", "##b", "##c"};
    char text[512] = "";
    size_t used = 0;
    assert_true(example < data.num_examples);
    for (size_t i = data.offsets[example]; i < data.offsets[example + 1]; ++i)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s", used > 0 ? " " : "",
                                 names[data.token_ids[i]], data.type_ids[i] == 1 ? "'" : "");
    assert_string_equal(text, expected);
}

/* ---- the table ---- */

static void test_table(void **state) {
    (void)state;
    for (size_t i = 0; i < NUM_TASKS; ++i) {
        const struct glue_task *task = glue_find(NAMES[i]);
        assert_non_null(task);
        assert_string_equal(task->name, NAMES[i]);
        assert_true(task->num_metrics >= 1 && task->num_metrics <= GLUE_MAX_METRICS);
        assert_non_null(task->sentences[0]);
        assert_non_null(task->label);
        assert_non_null(task->dev_file);
        assert_non_null(task->dev_split);
        assert_non_null(task->submission_file);
        assert_true((task->other_dev_file != NULL) == (strcmp(NAMES[i], "mnli") == 0));
        assert_true(glue_is_regression(task) == (strcmp(NAMES[i], "stsb") == 0));
        assert_true(task->score == NULL || task->num_metrics == 2);
    }
    assert_null(glue_find("ner"));
    assert_null(glue_find(""));
    assert_int_equal(glue_num_labels(glue_find("mnli")), 3);
    assert_string_equal(glue_metric_name(GLUE_SPEARMAN), "spearman");
}

/* ---- the files ---- */

/* Rows as the original download has them: what was given as a and b, and the label. */
static void check_layout(const char *name, const char *text, const char *first, int label) {
    choose(name, false);
    read_good(text);
    check_example(0, first);
    assert_int_equal(data.labels[0], label);
}

static void test_layout_of_every_task(void **state) {
    (void)state;
    check_layout("cola", "gj04\t0\t*\ta\ngj04\t1\t\tb\n", "CLS a SEP", 0);
    check_layout("sst2", "sentence\tlabel\na \t1\n", "CLS a SEP", 1);
    check_layout("mrpc",
                 "\xEF\xBB\xBFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\ta\tb\r\n",
                 "CLS a SEP b' SEP'", 1);
    check_layout("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n",
                 "CLS a SEP b' SEP'", 1);
    check_layout("stsb",
                 "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\t"
                 "score\n0\tg\tf\ty\t1\tnone\tnone\ta\tb\t3.800\n",
                 "CLS a SEP b' SEP'", 0);
    assert_true(data.targets[0] == 3.8f);
    check_layout("qnli", "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n",
                 "CLS a SEP b' SEP'", 0);
    check_layout("qqp", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n9\t1\t2\ta\tb\t1\n",
                 "CLS a SEP b' SEP'", 1);
    check_layout("mnli",
                 "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
                 "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
                 "0\t1\t1n\tg\tc\tc\tc\tc\ta\tb\tneutral\tcontradiction\n",
                 "CLS a SEP b' SEP'", 2);
    check_layout("wnli", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t0\n", "CLS a SEP b' SEP'",
                 0);
}

static void test_columns_are_found_by_name(void **state) {
    (void)state;
    choose("rte", false);
    read_good("label\tmore\tsentence2\tsentence1\nentailment\tx\tb\ta\n");
    check_example(0, "CLS a SEP b' SEP'");
    read_bad("index\tsentence1\tsentence\tlabel\n",
             "1: the header has no column 'sentence2', which task rte needs; it has: index, "
             "sentence1, sentence, label");
    read_bad("index\tsentence1\tsentence2\n0\ta\tb\n", "1: the header has no column 'label'");
    read_bad("0\ta\tb\tentailment\n", "1: the header has no column 'sentence1'");
    read_bad("\n", "1: the header has no column");
    read_bad("index\tsentence1\tsentence2\tlabel\n", "1: the file ends without any example");
    char wide[512] = "sentence1\tsentence2\tlabel";
    for (int i = 0; i < 62; ++i)
        memcpy(wide + strlen(wide), "\tx", 3);
    read_bad(wide, "1: the header has 65 columns, more than 64");
    memset(wide, 'x', sizeof wide - 1);
    for (size_t i = 20; i < sizeof wide - 1; i += 21)
        wide[i] = '\t';
    wide[sizeof wide - 1] = '\0';
    read_bad(wide, "1: the header has no column 'sentence1'");
    assert_non_null(strstr(problem.text, ", ..."));
}

static void test_quotes_are_text(void **state) {
    (void)state;
    choose("mrpc", false);
    read_good("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
              "1\t7\t8\t\" a\tb \"\n0\t7\t8\t\"a\tb\"\n");
    assert_int_equal(data.num_examples, 2);
    check_example(0, "CLS UNK a SEP b' UNK' SEP'");
    check_example(1, "CLS UNK a SEP b' UNK' SEP'");
}

static void test_rows_of_other_lengths(void **state) {
    (void)state;
    static const char header[] = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n";
    char text[512];
    choose("qqp", false);
    snprintf(text, sizeof text, "%s1\t1\t2\ta\tb\t0\n2\t1\t2\ta\n\n3\t1\t2\tb\tc\t1\n4\t1\t2",
             header);
    read_good(text);
    assert_int_equal(data.num_examples, 2);
    assert_int_equal(data.num_skipped, 3);
    check_example(1, "CLS b SEP c' SEP'");
    assert_int_equal(data.labels[1], 1);
    snprintf(text, sizeof text, "%s1\t1\t2\ta\tb\t0\t\n", header);
    read_bad(text, "2: expected 6 columns separated by TABs (id, qid1, qid2, question1, question2, "
                   "is_duplicate), found 7");
    snprintf(text, sizeof text, "%s1\n2\n", header);
    read_bad(text, "3: the file ends without any example");
    choose("wnli", false);
    read_bad("index\tsentence1\tsentence2\tlabel\n0\ta\tb\t0\n1\ta\tb\n",
             "3: expected 4 columns separated by TABs (index, sentence1, sentence2, label), found "
             "3");
}

static void test_labels(void **state) {
    (void)state;
    choose("mnli", false);
    read_bad("sentence1\tsentence2\tgold_label\na\tb\t-\n",
             "2: label '-' is not one of the task's: entailment, neutral, contradiction");
    choose("sst2", false);
    read_bad("sentence\tlabel\na\tentailment\n", "2: label 'entailment' is not one of");
}

static void test_scores(void **state) {
    (void)state;
    choose("stsb", false);
    assert_int_equal(labels.count, 1);
    read_good("sentence1\tsentence2\tscore\na\tb\t0\na\tb\t4.75\na\tb\t-1e-1\n");
    assert_true(data.targets[0] == 0 && data.targets[1] == 4.75f && data.targets[2] == -0.1f);
    assert_int_equal(data.labels[2], 0);
    static const char *const bad[] = {"",   "x",     "nan", "inf", "1e99", "0x10",
                                      "1 ", "1.2.3", " 1",  "1e",  "3,8",  "infinity"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        char text[128], message[64];
        snprintf(text, sizeof text, "sentence1\tsentence2\tscore\na\tb\t1\na\tb\t%s\n", bad[i]);
        snprintf(message, sizeof message, "3: score '%s' is not a number", bad[i]);
        read_bad(text, message);
    }
}

static void test_limit(void **state) {
    (void)state;
    choose("stsb", false);
    options.limit = 1;
    read_good("sentence1\tsentence2\tscore\na\tb\t1\nnot read\n");
    assert_int_equal(data.num_examples, 1);
    choose("sst2", false);
    options.limit = 2;
    read_good("sentence\tlabel\na\t1\nb\t0");
    assert_int_equal(data.num_examples, 2);
}

/* ---- pairs ---- */

static void check_cut(size_t max_length, const char *a, const char *b, const char *expected,
                      bool is_cut) {
    char text[512];
    snprintf(text, sizeof text, "sentence1\tsentence2\tlabel\n%s\t%s\t0\n", a, b);
    choose("wnli", false);
    options.max_length = max_length;
    read_good(text);
    check_example(0, expected);
    assert_int_equal(data.num_truncated, is_cut);
}

static void test_the_longer_one_is_cut_first(void **state) {
    (void)state;
    check_cut(8, "a a a", "b b", "CLS a a a SEP b' b' SEP'", false);
    check_cut(7, "a a a", "b b", "CLS a a SEP b' b' SEP'", true);
    check_cut(7, "a a a a a", "b", "CLS a a a SEP b' SEP'", true);
    check_cut(7, "a", "b b b b b", "CLS a SEP b' b' b' SEP'", true);
    check_cut(6, "a a a", "b b b", "CLS a SEP b' b' SEP'", true); /* the odd token is b's */
    check_cut(6, "a a a a", "b b b", "CLS a a SEP b' SEP'", true);
    check_cut(6, "a a a", "b b b b", "CLS a SEP b' b' SEP'", true);
    check_cut(7, "a a a a a", "b b b", "CLS a a SEP b' b' SEP'", true);
    check_cut(4, "a a", "b b", "CLS SEP b' SEP'", true);
    check_cut(5, "a a a", "", "CLS a a SEP SEP'", true);
    check_cut(5, "", "b b b", "CLS SEP b' b' SEP'", true);
    check_cut(128, "", "", "CLS SEP SEP'", false);
}

static void test_length_without_room_is_refused(void **state) {
    (void)state;
    choose("wnli", false);
    options.max_length = 3;
    assert_false(read_text("sentence1\tsentence2\tlabel\na\tb\t0\n"));
    assert_int_equal(problem.exit_code, EXIT_USAGE);
    assert_non_null(strstr(problem.text, "make 4"));
}

static void test_appending(void **state) {
    (void)state;
    choose("stsb", false);
    read_good("sentence1\tsentence2\tscore\na\tb\t1\na\tb\t2\n");
    struct dataset more = data;
    data = (struct dataset){0};
    read_good("sentence1\tsentence2\tscore\nc\tb\t3\n");
    dataset_append(&data, &more);
    assert_int_equal(data.num_examples, 3);
    assert_true(data.targets[0] == 3 && data.targets[1] == 1 && data.targets[2] == 2);
    check_example(2, "CLS a SEP b' SEP'");
    dataset_free(&more);
}

/* ---- test files ---- */

static void test_unlabelled_files(void **state) {
    (void)state;
    choose("cola", true);
    read_good("index\tsentence\n0\ta\n7\tb\n");
    assert_int_equal(data.num_examples, 2);
    check_example(0, "CLS a SEP");
    assert_int_equal(data.labels[1], NO);
    assert_int_equal(data.indices[1], 7);
    assert_null(data.targets);
    choose("qqp", true);
    read_good("id\tquestion1\tquestion2\n5\ta\tb\n");
    assert_int_equal(data.indices[0], 5);
    read_bad("id\tquestion1\tquestion2\n5\ta\n", "2: expected 3 columns"); /* none is left out */
    choose("mrpc", true);
    read_good("index\t#1 ID\t#2 ID\t#1 String\t#2 String\n3\t1\t2\ta\tb\n");
    check_example(0, "CLS a SEP b' SEP'");
    choose("stsb", true);
    read_good("index\tsentence1\tsentence2\n4294967295\ta\tb\n");
    assert_int_equal(data.indices[0], UINT32_MAX);
    assert_null(data.targets);
    assert_int_equal(data.labels[0], NO);
}

static void test_unlabelled_files_without_index(void **state) {
    (void)state;
    choose("cola", true);
    read_good("s\t1\t\ta\ns\t0\t*\tb\n"); /* its labelled layout */
    check_example(1, "CLS b SEP");
    assert_int_equal(data.indices[1], 1);
    assert_int_equal(data.labels[0], NO);
    choose("sst2", true);
    read_good("sentence\tlabel\na\tany\nb\tany\n");
    assert_int_equal(data.indices[0], 0);
    assert_int_equal(data.indices[1], 1);
}

static void test_bad_indices(void **state) {
    (void)state;
    static const char *const bad[] = {"",   "x",  "-1", "1.5", "4294967296", "99999999999999999999",
                                      " 1", "+1", "1x"};
    choose("cola", true);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        char text[128], message[64];
        snprintf(text, sizeof text, "index\tsentence\n%s\ta\n", bad[i]);
        snprintf(message, sizeof message, "2: index '%s' is not a whole number", bad[i]);
        read_bad(text, message);
    }
}

/* ---- submissions ---- */

static void check_submission(const int32_t *predicted, const float *scores, const char *expected) {
    char *text = submission_text(options.glue, &data, predicted, scores);
    assert_string_equal(text, expected);
    memory_free(text);
}

static void test_submissions(void **state) {
    (void)state;
    const int32_t predicted[] = {1, 0, 2};
    choose("rte", true);
    read_good("index\tsentence1\tsentence2\n0\ta\tb\n9\ta\tb\n");
    check_submission(predicted, NULL, "index\tprediction\n0\tnot_entailment\n9\tentailment\n");
    choose("mnli", true);
    read_good("index\tsentence1\tsentence2\n0\ta\tb\n1\ta\tb\n2\ta\tb\n");
    check_submission(predicted, NULL,
                     "index\tprediction\n0\tneutral\n1\tentailment\n2\tcontradiction\n");
    choose("cola", true);
    read_good("index\tsentence\n0\ta\n1\tb\n");
    check_submission(predicted, NULL, "index\tprediction\n0\t1\n1\t0\n");
    const int32_t none[] = {0, 0, 0};
    const float scores[] = {-0.25f, 2.7182817f, 5.5f};
    choose("stsb", true);
    read_good("index\tsentence1\tsentence2\n0\ta\tb\n1\ta\tb\n2\ta\tb\n");
    check_submission(none, scores, "index\tprediction\n0\t0.000\n1\t2.718\n2\t5.000\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_test, end_test)
    const struct CMUnitTest tests[] = {
        TEST(test_table),
        TEST(test_layout_of_every_task),
        TEST(test_columns_are_found_by_name),
        TEST(test_quotes_are_text),
        TEST(test_rows_of_other_lengths),
        TEST(test_labels),
        TEST(test_scores),
        TEST(test_limit),
        TEST(test_the_longer_one_is_cut_first),
        TEST(test_length_without_room_is_refused),
        TEST(test_appending),
        TEST(test_unlabelled_files),
        TEST(test_unlabelled_files_without_index),
        TEST(test_bad_indices),
        TEST(test_submissions),
    };
    return cmocka_run_group_tests_name("glue", tests, make_folder, remove_folder);
}
