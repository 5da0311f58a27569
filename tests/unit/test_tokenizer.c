/* Tokenizer: each rule with a small vocabulary, malformed files, and the stored ids of the Python
 * package: AUTOLORA_FIXTURES/tokenizer, by default tests/fixtures/tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPECIAL "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

static const char small_vocabulary[] =
    SPECIAL "a\nb\n##b\nab\n##c\nun\n##aff\n##able\n##ab\nunaff\nthe\nThe\nnaive\ni\n.\n,\n[\n]\n"
            "sep\nSEP\n\xe4\xb8\xad\n\xc3\xa9\n\xe8\xb1\x88\n\xcf\x83\n##\xcf\x83\ni\xcc\x87\n$\n";

/* ---- a model directory of its own for each test ---- */

static char directory[] = "/tmp/test_tokenizer_XXXXXX";

static int make_directory(void **state) {
    (void)state;
    memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static void remove_file(const char *name) {
    char *path = file_join(directory, name);
    unlink(path);
    memory_free(path);
}

static int remove_directory(void **state) {
    (void)state;
    remove_file("vocab.txt");
    remove_file("tokenizer_config.json");
    return rmdir(directory) == 0 && memory_blocks_now() == 0 ? 0 : -1;
}

static void write_bytes(const char *name, const char *text, size_t size) {
    struct problem problem = {0};
    char *path = file_join(directory, name);
    assert_true(file_write_atomically(path, text, size, &problem));
    memory_free(path);
}

static void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

/* options: the text of tokenizer_config.json or NULL. */
static struct tokenizer *create(const char *vocabulary, const char *options) {
    write_text("vocab.txt", vocabulary);
    if (options != NULL)
        write_text("tokenizer_config.json", options);
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(directory, &problem);
    assert_string_equal(problem.text, "");
    assert_non_null(tokenizer);
    return tokenizer;
}

static void expect_bytes(const struct tokenizer *tokenizer, const char *text, size_t length,
                         const char *expected) {
    struct token_list list = {0};
    char pieces[4096] = "";
    tokenizer_encode(tokenizer, text, length, &list);
    for (size_t i = 0; i < list.count; ++i) {
        if (i > 0)
            strcat(pieces, " ");
        strcat(pieces, tokenizer_piece(tokenizer, list.ids[i]));
    }
    token_list_free(&list);
    assert_string_equal(pieces, expected);
}

static void expect(const struct tokenizer *tokenizer, const char *text, const char *expected) {
    expect_bytes(tokenizer, text, strlen(text), expected);
}

/* ---- rules ---- */

static void test_ids_and_pieces(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    const struct tokenizer_special special = tokenizer_special_ids(tokenizer);
    assert_int_equal(special.pad, 0);
    assert_int_equal(special.unknown, 1);
    assert_int_equal(special.classify, 2);
    assert_int_equal(special.separate, 3);
    assert_int_equal(special.mask, 4);
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 32);
    assert_string_equal(tokenizer_piece(tokenizer, 7), "##b");
    assert_string_equal(tokenizer_piece(tokenizer, 31), "$");
    assert_null(tokenizer_piece(tokenizer, 32));
    assert_null(tokenizer_piece(tokenizer, -1));
    tokenizer_destroy(&tokenizer);
    assert_null(tokenizer);
    tokenizer_destroy(&tokenizer);
}

static void test_longest_piece_first(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer, "ab", "ab");
    expect(tokenizer, "abb", "ab ##b");
    expect(tokenizer, "unaffable", "unaff ##able");
    expect(tokenizer, "unab", "un ##ab");
    expect(tokenizer, "unabx", "[UNK]"); /* a rest without a piece makes the whole word unknown */
    expect(tokenizer, "ab xx b", "ab [UNK] b");
    expect(tokenizer, "aff", "[UNK]"); /* only known inside a word */
    tokenizer_destroy(&tokenizer);
}

static void test_encode_appends(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    struct token_list list = {0};
    token_list_append(&list, 77);
    for (int i = 0; i < 300; ++i)
        tokenizer_encode(tokenizer, "a b", 3, &list);
    assert_int_equal(list.count, 601);
    assert_int_equal(list.ids[0], 77);
    assert_int_equal(list.ids[599], 5);
    assert_int_equal(list.ids[600], 6);
    token_list_free(&list);
    assert_int_equal(list.capacity, 0);
    tokenizer_destroy(&tokenizer);
}

static void test_spaces_and_controls(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer, "", "");
    expect(tokenizer, " \t\r\n\xe3\x80\x80\xc2\xa0\xe2\x80\xa8", "");
    expect_bytes(tokenizer, "\0\1\x7f\xc2\x85\xe2\x80\x8b\xee\x80\x80", 11, "");
    expect(tokenizer,
           "  a\tb\xe3\x80\x80"
           "b ",
           "a b b");
    expect_bytes(tokenizer,
                 "a\0\x1b\xe2\x80\x8b\xc2\x85\xef\xbb\xbf\xee\x80\x80"
                 "b",
                 15, "ab");            /* removed, not a space */
    expect(tokenizer, "a\v\fb", "ab"); /* these two are control characters */
    expect(tokenizer,
           "a\xef\xbf\xbd"
           "b",
           "ab"); /* U+FFFD */
    tokenizer_destroy(&tokenizer);
}

static void test_punctuation(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer, "a.b,,", "a . b , ,");
    expect(tokenizer, "a$b", "a $ b"); /* ASCII symbols count as punctuation */
    expect(tokenizer,
           "a\xe2\x82\xac"
           "b",
           "[UNK]"); /* U+20AC does not */
    expect(tokenizer,
           "a\xe3\x80\x82"
           "b",
           "a [UNK] b"); /* U+3002 does */
    expect(tokenizer,
           "a\xe2\x89\xa0"
           "b",
           "a [UNK] b"); /* U+2260 decomposes into "=" and a mark */
    tokenizer_destroy(&tokenizer);
}

static void test_ideographs(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer,
           "a\xe4\xb8\xad"
           "b",
           "a \xe4\xb8\xad b");
    expect(tokenizer, "a\xef\xa4\x80", "a \xe8\xb1\x88"); /* U+F900 decomposes */
    tokenizer_destroy(&tokenizer);
    tokenizer = create(small_vocabulary, "{\"tokenize_chinese_chars\": false}");
    expect(tokenizer,
           "a\xe4\xb8\xad"
           "b",
           "[UNK]");
    expect(tokenizer, "\xe4\xb8\xad", "\xe4\xb8\xad");
    tokenizer_destroy(&tokenizer);
}

static void test_case_and_accents(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer, "THE NA\xc3\x8fVE nai\xcc\x88ve", "the naive naive");
    expect(tokenizer, "\xc4\xb0", "i");                           /* U+0130 */
    expect(tokenizer, "\xce\xa3\xce\xa3", "\xcf\x83 ##\xcf\x83"); /* no final sigma */
    tokenizer_destroy(&tokenizer);

    tokenizer = create(small_vocabulary, "{\"do_lower_case\": false}");
    expect(tokenizer, "The the \xc3\xa9 THE", "The the \xc3\xa9 [UNK]");
    tokenizer_destroy(&tokenizer);

    tokenizer = create(small_vocabulary, "{\"strip_accents\": false}");
    expect(tokenizer, "\xc3\x89 The \xc4\xb0", "\xc3\xa9 the i\xcc\x87");
    tokenizer_destroy(&tokenizer);

    tokenizer = create(small_vocabulary, "{\"do_lower_case\": false, \"strip_accents\": true}");
    expect(tokenizer, "The na\xc3\xafve", "The naive");
    tokenizer_destroy(&tokenizer);

    tokenizer = create(small_vocabulary, "{\"do_lower_case\": true, \"strip_accents\": null}");
    expect(tokenizer, "NA\xc3\x8fVE", "naive");
    tokenizer_destroy(&tokenizer);
}

/* Marks that are kept are sorted by combining class (U+302E: 224, U+11446: 7), but neither across a
 * mark of class 0 (U+034F), though it is stripped, nor across white space. */
static void test_order_of_marks(void **state) {
    (void)state;
    static const char nukta[] = "\xf0\x91\x91\x86", dot[] = "\xe3\x80\xae", joiner[] = "\xcd\x8f";
    char *vocabulary =
        memory_format(SPECIAL "a\n##%s%s\n##%s%s\n%s\n", nukta, dot, dot, nukta, nukta);
    char *sorted = memory_format("a ##%s%s", nukta, dot);
    char *unsorted = memory_format("a ##%s%s", dot, nukta);
    struct tokenizer *tokenizer = create(vocabulary, NULL);
    char *text = memory_format("a%s%s", nukta, dot);
    expect(tokenizer, text, sorted);
    memory_free(text);
    text = memory_format("a%s\xcc\x81\xe2\x80\x8b%s", dot, nukta);
    expect(tokenizer, text, sorted);
    memory_free(text);
    text = memory_format("a%s%s%s", dot, joiner, nukta);
    expect(tokenizer, text, unsorted);
    memory_free(text);
    text = memory_format("xxxxxxxx%s a%s%s", joiner, dot, nukta);
    char *second = memory_format("[UNK] %s", sorted);
    expect(tokenizer, text, second);
    memory_free(second);
    memory_free(text);
    text = memory_format("a %s", nukta);
    char *apart = memory_format("a %s", nukta);
    expect(tokenizer, text, apart);
    memory_free(apart);
    memory_free(text);
    memory_free(unsorted);
    memory_free(sorted);
    tokenizer_destroy(&tokenizer);
    memory_free(vocabulary);
}

static void test_special_tokens_in_text(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer, "a[SEP]b", "a [SEP] b");
    expect(tokenizer, "[[SEP]]", "[ [SEP] ]");
    expect(tokenizer, "[CLS][MASK][PAD][UNK]", "[CLS] [MASK] [PAD] [UNK]");
    expect(tokenizer, "[sep] [SEP", "[ sep ] [ sep"); /* as written only */
    expect(tokenizer, "[SE\xcc\x81P]", "[ sep ]");    /* before normalisation */
    expect(tokenizer,
           "[S\xff"
           "EP]",
           "[ sep ]");                            /* a bad byte is a character */
    expect_bytes(tokenizer, "[SEP]", 4, "[ sep"); /* not beyond the text */
    tokenizer_destroy(&tokenizer);

    tokenizer = create("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[\n]\nmask\n", NULL);
    assert_int_equal(tokenizer_special_ids(tokenizer).mask, -1);
    expect(tokenizer, "[MASK]", "[ mask ]");
    tokenizer_destroy(&tokenizer);
}

/* Expected texts by decoders.WordPiece(prefix="##", cleanup=True) of the Python package. */
static void expect_text(const struct tokenizer *tokenizer, const char *text, bool is_skipping,
                        const char *expected) {
    struct token_list list = {0};
    size_t length = 0;
    tokenizer_encode(tokenizer, text, strlen(text), &list);
    token_list_append(&list, -1);
    token_list_append(&list, INT32_MAX);
    char *decoded = tokenizer_decode(tokenizer, list.ids, list.count, is_skipping, &length);
    assert_string_equal(decoded, expected);
    assert_int_equal(length, strlen(expected));
    memory_free(decoded);
    token_list_free(&list);
}

static void test_decoding(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(SPECIAL "a\nb\n##b\n.\n##.\n'\ns\n's\n##'s\n", NULL);
    expect_text(tokenizer, "", false, "");
    expect_text(tokenizer, "abb ab . a,b", false, "abb ab. a [UNK] b");
    expect_text(tokenizer, "[CLS]abb b[SEP]", false, "[CLS] abb b [SEP]");
    expect_text(tokenizer, "[CLS]abb b[SEP]", true, "abb b");
    expect_text(tokenizer, "a's", false, "a ' s"); /* the clean-up sees one piece at a time */
    const int32_t ids[] = {7, 5, 9, 12, 13};
    size_t length = 0;
    char *decoded = tokenizer_decode(tokenizer, ids, 5, true, &length);
    assert_string_equal(decoded, "##b a.'s's");
    assert_int_equal(length, 10);
    memory_free(decoded);
    tokenizer_destroy(&tokenizer);
}

static void test_words_of_a_sentence(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    struct token_list list = {0};
    tokenizer_encode_word(tokenizer, "unaffable.", 10, &list);
    assert_int_equal(list.count, 3);
    assert_string_equal(tokenizer_piece(tokenizer, list.ids[1]), "##able");
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
}

static void test_long_words(void **state) {
    (void)state;
    char text[400];
    struct tokenizer *tokenizer = create(SPECIAL "a\n##a\n##b\n\xcf\x83\n##\xcf\x83\n", NULL);
    struct token_list list = {0};
    memset(text, 'a', sizeof(text));
    tokenizer_encode(tokenizer, text, 100, &list);
    assert_int_equal(list.count, 100);
    list.count = 0;
    tokenizer_encode(tokenizer, text, 101, &list);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.ids[0], 1);
    list.count = 0;
    for (size_t i = 0; i < 100; ++i) /* characters count, not bytes */
        memcpy(text + 2 * i, "\xcf\x83", 2);
    tokenizer_encode(tokenizer, text, 200, &list);
    assert_int_equal(list.count, 100);
    list.count = 0;
    for (size_t i = 0; i < 99; ++i) /* stripped marks do not */
        memcpy(text + 3 * i, "a\xcc\x81", 3);
    tokenizer_encode(tokenizer, text, 297, &list);
    assert_int_equal(list.count, 99);
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
}

static void test_invalid_utf8(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    expect(tokenizer,
           "a\xff"
           "b",
           "ab");
    expect(tokenizer,
           "a\xed\xa0\x80"
           "b",
           "ab"); /* a surrogate */
    expect(tokenizer,
           "a\xc0\xae"
           "b",
           "ab"); /* an overlong "." */
    expect(tokenizer,
           "a\xf4\x90\x80\x80"
           "b",
           "ab"); /* beyond U+10FFFF */
    expect(tokenizer,
           "a\xe4\xb8"
           "b",
           "ab");                                       /* cut off by a character */
    expect_bytes(tokenizer, "ab\xe4\xb8\xad", 4, "ab"); /* and by the end of the text */
    tokenizer_destroy(&tokenizer);
}

/* ---- files ---- */

static void test_line_ends(void **state) {
    (void)state;
    struct tokenizer *tokenizer = create("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n##b", NULL);
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 6);
    expect(tokenizer, "ab", "a ##b");
    tokenizer_destroy(&tokenizer);
}

static void expect_problem(const char *words) {
    struct problem problem = {0};
    assert_null(tokenizer_create(directory, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    if (strstr(problem.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem.text, words);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_bad_vocabularies(void **state) {
    (void)state;
    expect_problem("looked for vocab.txt");
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "is empty"},
        {SPECIAL "a\n\nb\n", "line 7 is empty"},
        {SPECIAL "a\r\n\r\n", "line 7 is empty"},
        {SPECIAL "a\nb\na\n", "lines 6 and 8 are the same: \"a\""},
        {SPECIAL "a\n\xff\n", "line 7 is not UTF-8"},
        {SPECIAL "a\n\xed\xa0\x80\n", "line 7 is not UTF-8"},
        {SPECIAL "a\rb\n", "line 6 holds a carriage return"},
        {"[PAD]\n[CLS]\n[SEP]\n[MASK]\na\n", "the piece [UNK] is missing"},
        {"[PAD]\n[UNK]\n[SEP]\n[MASK]\na\n", "the piece [CLS] is missing"},
        {"[PAD]\n[UNK]\n[CLS]\n[MASK]\na\n", "the piece [SEP] is missing"},
        {"[UNK]\n[CLS]\n[SEP]\n[MASK]\na", "the piece [PAD] is missing"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        write_text("vocab.txt", bad[i].text);
        expect_problem(bad[i].words);
    }
    write_bytes("vocab.txt", SPECIAL "a\nb\0c\n", sizeof(SPECIAL "a\nb\0c\n") - 1);
    expect_problem("line 7 holds a zero byte");

    char line[1101];
    memset(line, 'x', 1100);
    line[1100] = '\0';
    char *text = memory_format("%sa\n%s\n", SPECIAL, line);
    write_text("vocab.txt", text);
    memory_free(text);
    expect_problem("line 7 has 1100 bytes");
}

static void test_bad_options(void **state) {
    (void)state;
    write_text("vocab.txt", small_vocabulary);
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "not valid JSON"},
        {"{", "not valid JSON"},
        {"[]", "is not a JSON object"},
        {"{\"do_lower_case\": 1}", "do_lower_case must be true or false"},
        {"{\"do_lower_case\": null}", "do_lower_case must be true or false"},
        {"{\"strip_accents\": \"yes\"}", "strip_accents must be true, null or false"},
        {"{\"tokenize_chinese_chars\": {}}", "tokenize_chinese_chars must be"},
        {"{\"cls_token\": \"<s>\"}", "cls_token must be \"[CLS]\""},
        {"{\"unk_token\": {\"content\": \"<unk>\"}}", "unk_token must be \"[UNK]\""},
        {"{\"pad_token\": 0}", "pad_token must be \"[PAD]\""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        write_text("tokenizer_config.json", bad[i].text);
        expect_problem(bad[i].words);
    }
    struct tokenizer *tokenizer =
        create(small_vocabulary, "{\"cls_token\": \"[CLS]\", \"mask_token\": null, "
                                 "\"pad_token\": {\"content\": \"[PAD]\"}, \"other\": [1]}");
    tokenizer_destroy(&tokenizer);
}

/* ---- the ids of the Python package ---- */

static char *fixture_path(const char *name) {
    const char *root = getenv("AUTOLORA_FIXTURES");
    return memory_format("%s/tokenizer/%s", root != NULL ? root : "tests/fixtures", name);
}

static struct json *read_fixture(const char *name) {
    struct problem problem = {0};
    size_t size;
    char *path = fixture_path(name);
    char *text = file_read(path, &size, &problem);
    assert_string_equal(problem.text, "");
    struct json *root = json_parse(text, size, path, EXIT_DATA, &problem);
    assert_string_equal(problem.text, "");
    memory_free(text);
    memory_free(path);
    return root;
}

static struct tokenizer *create_with_fixture(const struct json *options) {
    struct problem problem = {0};
    size_t size;
    char *path = fixture_path("vocab.txt");
    char *vocabulary = file_read(path, &size, &problem);
    memory_free(path);
    assert_string_equal(problem.text, "");
    char *text = options != NULL ? json_print(options, true) : NULL;
    struct tokenizer *tokenizer = create(vocabulary, text);
    memory_free(text);
    memory_free(vocabulary);
    return tokenizer;
}

static bool has_ids(const struct token_list *list, const struct json *ids) {
    if (list->count != json_count(ids))
        return false;
    const struct json *id = json_first(ids);
    for (size_t i = 0; i < list->count; ++i, id = json_next(id))
        if (json_number(id) != list->ids[i])
            return false;
    return true;
}

/* Decodes hexadecimal into `bytes`, which has room for half the characters. */
static size_t decode_hex(const char *hex, char *bytes) {
    const size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; ++i) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (char)strtoul(digits, NULL, 16);
    }
    return length;
}

static void test_stored_cases(void **state) {
    (void)state;
    struct json *root = read_fixture("cases.json");
    size_t column = 0, num_cases = 0;
    for (const struct json *setting = json_first(json_get(root, "settings")); setting != NULL;
         setting = json_next(setting), ++column) {
        struct tokenizer *tokenizer = create_with_fixture(setting);
        struct token_list list = {0};
        for (const struct json *one = json_first(json_get(root, "cases")); one != NULL;
             one = json_next(one), ++num_cases) {
            const char *hex = json_string(json_get(one, "text"));
            char *text = memory_allocate(strlen(hex) / 2, 1, "text"); /* exact: finds overreads */
            list.count = 0;
            tokenizer_encode(tokenizer, text, decode_hex(hex, text), &list);
            const struct json *ids = json_first(json_get(one, "ids"));
            for (size_t i = 0; i < column; ++i)
                ids = json_next(ids);
            if (!has_ids(&list, ids))
                fail_msg("setting %zu, text %s: other ids than stored", column, hex);
            memory_free(text);
        }
        token_list_free(&list);
        tokenizer_destroy(&tokenizer);
    }
    json_destroy(&root);
    assert_int_equal(column, 4);
    assert_true(num_cases > 4 * 500);
}

static size_t put_utf8(uint32_t code, char *bytes) {
    const size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; --i, code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)(lead[length] | code);
    return length;
}

static void test_stored_code_points(void **state) {
    (void)state;
    struct json *root = read_fixture("code_points.json");
    struct tokenizer *tokenizer = create_with_fixture(NULL);
    struct token_list list = {0};
    size_t num_code_points = 0;
    for (const struct json *run = json_first(json_get(root, "runs")); run != NULL;
         run = json_next(run)) {
        const struct json *first = json_first(run), *last = json_next(first);
        for (uint32_t code = (uint32_t)json_number(first); code <= (uint32_t)json_number(last);
             ++code, ++num_code_points) {
            char text[8] = "a";
            const size_t length = 1 + put_utf8(code, text + 1);
            text[length] = 'b';
            list.count = 0;
            tokenizer_encode(tokenizer, text, length + 1, &list);
            if (!has_ids(&list, json_next(last)))
                fail_msg("U+%04X: other ids than stored", code);
        }
    }
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
    json_destroy(&root);
    assert_int_equal(num_code_points, 0x110000 - 0x800);
}

static void test_threads_share_a_tokenizer(void **state) {
    (void)state;
    static const char text[] = "The na\xc3\xafve unaffable \xe4\xb8\xad[SEP] abb.";
    struct tokenizer *tokenizer = create(small_vocabulary, NULL);
    struct token_list expected = {0};
    tokenizer_encode(tokenizer, text, sizeof(text) - 1, &expected);
    int num_wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : num_wrong)
    for (int i = 0; i < 1000; ++i) {
        struct token_list list = {0};
        tokenizer_encode(tokenizer, text, sizeof(text) - 1, &list);
        num_wrong += list.count != expected.count ||
                     memcmp(list.ids, expected.ids, list.count * sizeof(*list.ids)) != 0;
        token_list_free(&list);
    }
    assert_int_equal(num_wrong, 0);
    token_list_free(&expected);
    tokenizer_destroy(&tokenizer);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_ids_and_pieces),
        TEST(test_longest_piece_first),
        TEST(test_encode_appends),
        TEST(test_spaces_and_controls),
        TEST(test_punctuation),
        TEST(test_ideographs),
        TEST(test_case_and_accents),
        TEST(test_order_of_marks),
        TEST(test_special_tokens_in_text),
        TEST(test_decoding),
        TEST(test_words_of_a_sentence),
        TEST(test_long_words),
        TEST(test_invalid_utf8),
        TEST(test_line_ends),
        TEST(test_bad_vocabularies),
        TEST(test_bad_options),
        TEST(test_stored_cases),
        TEST(test_stored_code_points),
        TEST(test_threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
