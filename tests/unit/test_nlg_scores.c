/* Tokens and scores of generated texts against the public scorers' (tests/fixtures/nlg_scores,
 * written by tests/oracle/nlg_scores.py), their rules at the edges, and the files for e2e-metrics.
 */
#include "train/nlg_scores.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/nlg_files.h"
#include "train/nlg_tokens.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef AUTOLORA_FIXTURES
#define AUTOLORA_FIXTURES "tests/fixtures"
#endif

enum { MAX_TEXTS = 256 };

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
    char *path =
        file_join(folder != NULL ? folder : AUTOLORA_FIXTURES, "nlg_scores/reference.json");
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

static void check_close(const char *name, const char *score, double value, double expected) {
    if (!(fabs(value - expected) <= 1e-10))
        fail_msg("%s, %s: %.12g, expected %.12g", name, score, value, expected);
}

/* ---- tokens ---- */

static void check_tokens(const struct json *node, const char *tokenizer, char *tokens) {
    const char *expected = json_string(json_get(node, tokenizer));
    if (strcmp(tokens, expected) != 0)
        fail_msg("%s of \"%s\":\n  %s\nexpected\n  %s", tokenizer,
                 json_string(json_get(node, "text")), tokens, expected);
    memory_free(tokens);
}

static void tokens_are_those_of_the_public_tokenizers(void **state) {
    (void)state;
    struct json *root = load_reference();
    struct nlg_treebank *treebank = nlg_treebank_create();
    size_t count = 0;
    for (const struct json *node = json_first(json_get(root, "tokens")); node != NULL;
         node = json_next(node), ++count) {
        const char *text = json_string(json_get(node, "text"));
        const char *next =
            json_next(node) != NULL ? json_string(json_get(json_next(node), "text")) : NULL;
        check_tokens(node, "mteval", nlg_tokenize_mteval(text));
        check_tokens(node, "words", nlg_tokenize_words(text));
        check_tokens(node, "treebank", nlg_treebank_tokenize(treebank, text, next));
    }
    assert_true(count >= 20);
    nlg_treebank_destroy(&treebank);
    json_destroy(&root);
}

static void any_bytes_are_tokenized(void **state) {
    (void)state;
    struct nlg_treebank *treebank = nlg_treebank_create();
    uint32_t random = 1;
    for (size_t round = 0; round < 300; ++round) {
        char text[65] = {0};
        for (size_t i = 0; i < round % 64; ++i) {
            random = random * 1664525u + 1013904223u;
            text[i] = (char)(1 + (random >> 16) % 255);
        }
        memory_free(nlg_tokenize_mteval(text));
        memory_free(nlg_tokenize_words(text));
        memory_free(nlg_treebank_tokenize(treebank, text, round % 2 == 0 ? text : NULL));
    }
    char *tokens = nlg_treebank_tokenize(treebank, "caf\xC3 x\xFF", NULL);
    assert_string_equal(tokens, "caf x"); /* U+FFFD is no letter there */
    memory_free(tokens);
    nlg_treebank_destroy(&treebank);
}

static void the_next_text_decides_on_a_last_initial(void **state) {
    (void)state;
    struct nlg_treebank *treebank = nlg_treebank_create();
    const char *const expected[] = {"about 25 l.", "about 25 l", "about 25 l."};
    const char *const next[] = {NULL, "The Mill", "Next to it"};
    for (size_t i = 0; i < 3; ++i) {
        char *tokens = nlg_treebank_tokenize(treebank, "About 25 L. ", next[i]);
        assert_string_equal(tokens, expected[i]);
        memory_free(tokens);
    }
    nlg_treebank_destroy(&treebank);
}

/* ---- scores ---- */

struct texts {
    const char *hypotheses[MAX_TEXTS], *references[MAX_TEXTS];
    size_t offsets[MAX_TEXTS + 1], count;
};

static struct texts read_texts(const struct json *node) {
    struct texts texts = {0};
    size_t num_references = 0;
    for (const struct json *text = json_first(json_get(node, "hypotheses")); text != NULL;
         text = json_next(text))
        texts.hypotheses[texts.count++] = json_string(text);
    size_t group = 0;
    for (const struct json *list = json_first(json_get(node, "references")); list != NULL;
         list = json_next(list)) {
        for (const struct json *text = json_first(list); text != NULL; text = json_next(text)) {
            assert_true(num_references < MAX_TEXTS);
            texts.references[num_references++] = json_string(text);
        }
        texts.offsets[++group] = num_references;
    }
    assert_true(group == texts.count && group > 0);
    return texts;
}

static void scores_are_those_of_the_public_scorers(void **state) {
    (void)state;
    struct json *root = load_reference();
    size_t count = 0;
    for (const struct json *node = json_first(json_get(root, "cases")); node != NULL;
         node = json_next(node), ++count) {
        const char *name = json_string(json_get(node, "name"));
        const struct texts texts = read_texts(node);
        const struct nlg_scores scores =
            nlg_scores_compute(texts.hypotheses, texts.references, texts.offsets, texts.count);
        check_close(name, "BLEU", scores.bleu, json_number(json_get(node, "bleu")));
        check_close(name, "NIST", scores.nist, json_number(json_get(node, "nist")));
        check_close(name, "ROUGE-L", scores.rouge_l, json_number(json_get(node, "rouge_l")));
        check_close(name, "CIDEr", scores.cider, json_number(json_get(node, "cider")));
        check_close(name, "BLEU of words",
                    nlg_bleu_words(texts.hypotheses, texts.references, texts.offsets, texts.count),
                    json_number(json_get(node, "bleu_words")));
    }
    assert_true(count >= 10);
    json_destroy(&root);
}

static void nothing_scores_zero(void **state) {
    (void)state;
    const size_t offsets[] = {0};
    const struct nlg_scores scores = nlg_scores_compute(NULL, NULL, offsets, 0);
    assert_true(scores.bleu == 0 && scores.nist == 0 && scores.rouge_l == 0 && scores.cider == 0);
    assert_true(nlg_bleu_words(NULL, NULL, offsets, 0) == 0);
}

static void only_empty_hypotheses(void **state) {
    (void)state;
    const char *const hypotheses[] = {"", " \n "}, *const references[] = {"a b c d e", "f g h i j"};
    const size_t offsets[] = {0, 1, 2};
    const struct nlg_scores scores = nlg_scores_compute(hypotheses, references, offsets, 2);
    assert_true(scores.bleu < 1e-4 && scores.nist == 0 && scores.rouge_l == 0 && scores.cider == 0);
    assert_true(nlg_bleu_words(hypotheses, references, offsets, 2) == 0);
}

static void line_feeds_are_spaces(void **state) {
    (void)state;
    const char *const lines[] = {"a kid -\nfriendly pub\nin town", "x"};
    const char *const spaces[] = {"a kid - friendly pub in town", "x"};
    const char *const references[] = {"a kid - friendly pub in the town", "x y z"};
    const size_t offsets[] = {0, 1, 2};
    const struct nlg_scores a = nlg_scores_compute(lines, references, offsets, 2);
    const struct nlg_scores b = nlg_scores_compute(spaces, references, offsets, 2);
    assert_memory_equal(&a, &b, sizeof a);
}

static void references_beyond_the_sixth_are_left_out_for_webnlg(void **state) {
    (void)state;
    const char *const hypotheses[] = {"one two three four five"};
    const char *const references[] = {
        "a", "b", "c", "d", "e", "f g h i j", "One two three four five six"};
    const size_t six[] = {0, 6}, seven[] = {0, 7}, last[] = {0, 1};
    assert_true(nlg_bleu_words(hypotheses, references, six, 1) == 0);
    assert_true(nlg_bleu_words(hypotheses, references, seven, 1) == 0);
    check_close("last alone", "BLEU", nlg_bleu_words(hypotheses, references + 6, last, 1),
                exp(-0.2));
}

/* ---- files ---- */

static char *folder;

static int make_folder(void **state) {
    folder = memory_copy_string("/tmp/autolora-nlg-XXXXXX");
    return mkdtemp(folder) != NULL ? remember_blocks(state) : -1;
}

static int remove_folder(void **state) {
    const int result = check_blocks(state);
    char *command = memory_format("%s/file", folder);
    unlink(command);
    memory_free(command);
    const int removed = rmdir(folder);
    memory_free(folder);
    return result != 0 ? result : removed;
}

static void check_file(const char *path, const char *expected) {
    struct problem problem = {0};
    size_t size;
    char *text = file_read(path, &size, &problem);
    assert_non_null(text);
    assert_string_equal(text, expected);
    memory_free(text);
}

static void equal_contexts_are_one_group(void **state) {
    (void)state;
    const char *const contexts[] = {"b", "a", "b", "", "a", "b"};
    const char *const completions[] = {"1", "2", "3", "4", "5", "6"};
    struct nlg_groups groups = nlg_groups_create(contexts, completions, 6);
    assert_int_equal(groups.count, 3);
    const size_t first[] = {0, 1, 3}, offsets[] = {0, 3, 5, 6};
    assert_memory_equal(groups.first, first, sizeof first);
    assert_memory_equal(groups.offsets, offsets, sizeof offsets);
    const char *const expected[] = {"1", "3", "6", "2", "5", "4"};
    for (size_t i = 0; i < 6; ++i)
        assert_string_equal(groups.references[i], expected[i]);
    nlg_groups_destroy(&groups);
    groups = nlg_groups_create(NULL, NULL, 0);
    assert_int_equal(groups.count, 0);
    nlg_groups_destroy(&groups);
}

static void files_have_the_layout_of_e2e_metrics(void **state) {
    (void)state;
    char *path = file_join(folder, "file");
    struct problem problem = {0};
    const char *const hypotheses[] = {" one\ntwo ", "",
                                      "caf\xC3\xA9\xE2\x80\xA8x\xE2\x80\xA9y\xFF"};
    assert_true(nlg_write_hypotheses(path, hypotheses, 3, &problem));
    check_file(path, "one two\n\ncaf\xC3\xA9 x y\xEF\xBF\xBD\n");
    const char *const references[] = {"a", " ", "b\r\nc", "d"};
    const size_t offsets[] = {0, 3, 4};
    assert_true(nlg_write_references(path, references, offsets, 2, &problem));
    check_file(path, "a\nb  c\n\nd\n\n");
    memory_free(path);
}

static void a_text_without_references_is_a_problem(void **state) {
    (void)state;
    char *path = file_join(folder, "file");
    struct problem problem = {0};
    const char *const references[] = {"a", " ", "\n"};
    const size_t offsets[] = {0, 1, 3};
    assert_false(nlg_write_references(path, references, offsets, 2, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    assert_non_null(strstr(problem.text, "all 2 references of text 2 are empty"));
    assert_false(file_exists(path));
    memory_free(path);
}

#define leak_test(test) cmocka_unit_test_setup_teardown(test, remember_blocks, check_blocks)
#define file_test(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        leak_test(tokens_are_those_of_the_public_tokenizers),
        leak_test(any_bytes_are_tokenized),
        leak_test(the_next_text_decides_on_a_last_initial),
        leak_test(scores_are_those_of_the_public_scorers),
        leak_test(nothing_scores_zero),
        leak_test(only_empty_hypotheses),
        leak_test(line_feeds_are_spaces),
        leak_test(references_beyond_the_sixth_are_left_out_for_webnlg),
        leak_test(equal_contexts_are_one_group),
        file_test(files_have_the_layout_of_e2e_metrics),
        file_test(a_text_without_references_is_a_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
