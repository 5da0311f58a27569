/* Byte-level BPE: a small vocabulary that the tests write, malformed files, and a text with the
 * real vocabularies of GPT-2 and RoBERTa where AUTOLORA_DATA (by default ../shared/data) has them.
 * All expected pieces and ids come from the Python package `tokenizers` 0.23. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "io/bpe.h"
#include "io/file.h"
#include "io/pretokenizer.h"
#include "io/tokenizer.h"
#include "io/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#define GPT2 "<|endoftext|>\n"
#define ROBERTA "<s>\n<pad>\n</s>\n<unk>\n<mask>\n"

/* U+0120 stands for the blank, U+00E2 U+0122 for the bytes e2 80, U+00CA for ca. */
static const char merges[] = "t h\nth e\n\xc4\xa0 the\ni n\nin g\n\xc4\xa0 w\na b\nb c\nab c\n"
                             "\xc4\xa0 \xc4\xa0\n' s\n\xc3\xa2 \xc4\xa2\na \xc3\x8a\nl o\nlo w\n"
                             "\xc4\xa0 low\ne r\n";

static char directory[] = "/tmp/test_tokenizer_bpe_XXXXXX";

static int make_directory(void **state) {
    (void)state;
    memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json",
                                        "tokenizer_config.json", "vocab.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        char *path = file_join(directory, names[i]);
        unlink(path);
        memory_free(path);
    }
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

/* ---- the vocabulary: special tokens, the 256 bytes, what merges make, one that none makes ---- */

static void append_piece(char *json, size_t *id, const char *piece, size_t length) {
    char *end = json + strlen(json);
    end += sprintf(end, "%s\"", *id == 0 ? "{" : ", ");
    for (size_t i = 0; i < length; ++i) {
        if (piece[i] == '"' || piece[i] == '\\')
            *end++ = '\\';
        if (piece[i] != ' ')
            *end++ = piece[i];
    }
    sprintf(end, "\": %zu", (*id)++);
}

static void append_lines(char *json, size_t *id, const char *lines) {
    for (const char *end; (end = strchr(lines, '\n')) != NULL; lines = end + 1)
        append_piece(json, id, lines, (size_t)(end - lines));
}

static void append_bytes(char *json, size_t *id) {
    for (int32_t character = '!'; character < 0x144; ++character) {
        utf8proc_uint8_t bytes[4];
        const size_t length = (size_t)utf8proc_encode_char(character, bytes);
        if (character < 0x7f || (character > 0xa0 && character != 0xad))
            append_piece(json, id, (const char *)bytes, length);
    }
}

static char *vocabulary_json(const char *special) {
    char *json = memory_allocate(10000, 1, "test");
    size_t id = 0;
    append_lines(json, &id, special);
    append_bytes(json, &id);
    append_lines(json, &id, merges);
    append_lines(json, &id, "unused\nthe<\n");
    strcat(json, "}");
    return json;
}

static void write_files(const char *special) {
    char *json = vocabulary_json(special);
    char *lines = memory_format("#version: 0.2\n%s", merges);
    write_text("vocab.json", json);
    write_text("merges.txt", lines);
    memory_free(lines);
    memory_free(json);
}

/* head: what stands before the model; options: what stands in it besides. */
static void write_json(const char *special, const char *head, const char *options) {
    char *pieces = vocabulary_json(special), *list = memory_allocate(2000, 1, "test");
    for (const char *line = merges, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        sprintf(list + strlen(list), "%s\"%.*s\"", line == merges ? "" : ", ", (int)(end - line),
                line);
    }
    char *json = memory_format("{%s, \"model\": {%s\"vocab\": %s, \"merges\": [%s]}}", head,
                               options, pieces, list);
    write_text("tokenizer.json", json);
    memory_free(json);
    memory_free(list);
    memory_free(pieces);
}

static struct tokenizer *create(void) {
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(directory, &problem);
    assert_string_equal(problem.text, "");
    assert_non_null(tokenizer);
    return tokenizer;
}

static void expect_problem(const char *words) {
    struct problem problem = {0};
    assert_null(tokenizer_create(directory, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    if (strstr(problem.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem.text, words);
}

/* ---- encoding ---- */

struct text_case {
    const char *text;
    size_t length;
    const char *pieces;
};

static void expect_pieces(const struct tokenizer *tokenizer, bool is_word,
                          const struct text_case *one) {
    struct token_list list = {0};
    char pieces[1000] = "";
    (is_word ? tokenizer_encode_word : tokenizer_encode)(tokenizer, one->text, one->length, &list);
    for (size_t i = 0; i < list.count; ++i)
        sprintf(pieces + strlen(pieces), "%s%s", i == 0 ? "" : " ",
                tokenizer_piece(tokenizer, list.ids[i]));
    token_list_free(&list);
    assert_string_equal(pieces, one->pieces);
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static void expect_all(const struct tokenizer *tokenizer, bool is_word,
                       const struct text_case *cases, size_t count) {
    for (size_t i = 0; i < count; ++i)
        expect_pieces(tokenizer, is_word, &cases[i]);
}

static const struct text_case gpt2_cases[] = {
    {"the low thelower", 16, "the Ġlow Ġthe low er"},
    {"ababc", 5, "ab abc"},
    {"abc bc aabcc", 12, "abc Ġ bc Ġ a abc c"},
    {"  the   low \011\011w  ", 17, "Ġ Ġthe ĠĠ Ġlow Ġ ĉ ĉ w ĠĠ"},
    {"the's thes 'sing", 16, "the 's Ġthe s Ġ ' s ing"},
    {"lo12ing!?the", 12, "lo 1 2 ing ! ? the"},
    {"", 0, ""},
    {"unused", 6, "u n u s e d"}, /* a piece that no merge makes */
    {"low<|endoftext|>the", 19, "low <|endoftext|> the"},
    {"<|endoftext|> low", 17, "<|endoftext|> Ġlow"},
    {"a\377b", 3, "a ï ¿ ½ b"},
    {"the\342\200low\342\200", 10, "the ï ¿ ½ low ï ¿ ½"},
    {"a\355\240\200\360\237\230", 7, "a ï ¿ ½ ï ¿ ½ ï ¿ ½ ï ¿ ½"},
    {"a\312\213b", 4, "aÊ ĭ b"},  /* U+028B is a letter */
    {"a\314\201b", 4, "a Ì ģ b"}, /* U+0301 is none */
    {"\343\200\200\302\240the", 8, "ã Ģ Ģ Â ł the"},
    {"the\015\012\015\012low", 10, "the č Ċ č Ċ low"},
    {"a\000b", 3, "a Ā b"},
};

static const struct text_case roberta_cases[] = {
    {"a  <mask> b<s>low</s>", 21, "a <mask> Ġ b <s> low </s>"},
    {"<mask><mask>", 12, "<mask> <mask>"},
    {"a\343\200\200\011<mask>the", 14, "a <mask> the"},
    {"<s> <mask", 9, "<s> Ġ < m a s k"},
    {"the<mask>", 9, "the <mask>"},
    {"<unk><pad>x", 11, "<unk> <pad> x"},
};

static const struct text_case word_cases[] = {
    {"the", 3, "Ġthe"},
    {"'s", 2, "Ġ ' s"},
    {" low", 4, "Ġlow"},
    {"<mask>", 6, "<mask>"},
    {"a<s>the", 7, "Ġ a <s> Ġthe"},
    {"\011w", 2, "Ġ ĉ w"},
    {"", 0, ""},
};

static void test_gpt2(void **state) {
    (void)state;
    write_files(GPT2);
    struct tokenizer *tokenizer = create();
    expect_all(tokenizer, false, gpt2_cases, COUNT_OF(gpt2_cases));
    const struct tokenizer_special special = tokenizer_special_ids(tokenizer);
    assert_int_equal(special.separate, 0);
    assert_int_equal(special.classify, -1);
    assert_int_equal(special.pad, -1);
    assert_int_equal(special.mask, -1);
    assert_false(special.has_token_types);
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 1 + 256 + 17 + 2);
    assert_null(tokenizer_piece(tokenizer, -1));
    assert_null(tokenizer_piece(tokenizer, 276));
    assert_string_equal(tokenizer_piece(tokenizer, 274), "unused");
    tokenizer_destroy(&tokenizer);
}

static void test_roberta(void **state) {
    (void)state;
    write_files(ROBERTA);
    struct tokenizer *tokenizer = create();
    expect_all(tokenizer, false, roberta_cases, COUNT_OF(roberta_cases));
    expect_all(tokenizer, true, word_cases, COUNT_OF(word_cases));
    const struct tokenizer_special special = tokenizer_special_ids(tokenizer);
    assert_int_equal(special.classify, 0);
    assert_int_equal(special.pad, 1);
    assert_int_equal(special.separate, 2);
    assert_int_equal(special.unknown, 3);
    assert_int_equal(special.mask, 4);
    assert_int_equal(special.separators_between, 2);
    assert_false(special.has_token_types);
    tokenizer_destroy(&tokenizer);
    write_text("tokenizer_config.json", "{\"add_prefix_space\": true}");
    tokenizer = create();
    expect_all(tokenizer, false, word_cases, COUNT_OF(word_cases));
    tokenizer_destroy(&tokenizer);
}

/* ---- tokenizer.json and options ---- */

#define BYTE_LEVEL "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}"

static void test_tokenizer_json(void **state) {
    (void)state;
    write_json(GPT2,
               BYTE_LEVEL ", \"added_tokens\": ["
                          "{\"id\": 0, \"content\": \"<|endoftext|>\", \"special\": true}, "
                          "{\"id\": 276, \"content\": \"low th\", \"normalized\": true}, "
                          "{\"id\": 271, \"content\": \"low\", \"rstrip\": true, "
                          "\"normalized\": true}, {\"id\": 300, \"content\": \"er \"}]",
               "");
    struct tokenizer *tokenizer = create();
    expect_all(tokenizer, false,
               (const struct text_case[]){{"a low  b", 8, "a Ġ low b"},
                                          {"a low theing", 12, "a Ġ low th e ing"},
                                          {"low er th", 9, "low er  th"}},
               3);
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 301);
    assert_null(tokenizer_piece(tokenizer, 299));
    tokenizer_destroy(&tokenizer);
    write_json(GPT2, "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}",
               "");
    tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"the", 3, "Ġthe"});
    tokenizer_destroy(&tokenizer);
    write_text("tokenizer_config.json", "{\"add_prefix_space\": false}");
    tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"the", 3, "the"});
    tokenizer_destroy(&tokenizer);
}

static void test_word_piece_json(void **state) {
    (void)state;
    static const char head[] =
        "{\"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": %s}, "
        "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
        "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
        "\"continuing_subword_prefix\": \"##\", "
        "\"max_input_chars_per_word\": 100, \"vocab\": %s}}";
    static const char *const pieces = "{\"low\": 4, \"##er\": 5, \"[PAD]\": 0, \"[UNK]\": 1, "
                                      "\"[CLS]\": 2, \"[SEP]\": 3, \"the\": 6, \"\xc3\xa9\": 7}";
    char *json = memory_format(head, "true", pieces);
    write_text("tokenizer.json", json);
    memory_free(json);
    struct tokenizer *tokenizer = create();
    expect_pieces(tokenizer, false,
                  &(const struct text_case){"Lower the[SEP]", 14, "low ##er the [SEP]"});
    assert_true(tokenizer_special_ids(tokenizer).has_token_types);
    tokenizer_destroy(&tokenizer);
    json = memory_format(head, "false", pieces);
    write_text("tokenizer.json", json);
    memory_free(json);
    tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"The \xc3\xa9", 6, "[UNK] \xc3\xa9"});
    tokenizer_destroy(&tokenizer);
    json = memory_format(head, "true", "{\"[PAD]\": 0, \"[UNK]\": 2}");
    write_text("tokenizer.json", json);
    memory_free(json);
    expect_problem("no piece of id 1");
    json = memory_format(head, "true", "{\"[PAD]\": 0, \"a\\nb\": 1}");
    write_text("tokenizer.json", json);
    memory_free(json);
    expect_problem("line end");
}

static void test_kinds(void **state) {
    (void)state;
    expect_problem("looked for vocab.txt (WordPiece), tokenizer.json, vocab.json with merges.txt");
    write_text("vocab.json", "{}");
    expect_problem("looked for");
    write_files(GPT2);
    struct tokenizer *tokenizer = create();
    tokenizer_destroy(&tokenizer);
    write_text("tokenizer.json", "[]");
    expect_problem("has no member \"model\"");
    write_text("tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}");
    expect_problem("\"Unigram\", not BPE or WordPiece");
    write_text("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
    tokenizer = create();
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 4);
    tokenizer_destroy(&tokenizer);
}

/* ---- decoding ---- */

static void expect_text(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                        bool is_skipping, const char *expected, size_t expected_length) {
    size_t length = 0;
    char *text = tokenizer_decode(tokenizer, ids, count, is_skipping, &length);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, length + 1);
    memory_free(text);
}

static void test_decoding(void **state) {
    (void)state;
    write_files(ROBERTA);
    struct tokenizer *tokenizer = create();
    struct token_list list = {0};
    const char text[] = "<s>the l\xc3\xb6w\0 <mask>\t\xf0\x9f\x98\x80</s>";
    tokenizer_encode(tokenizer, text, sizeof text - 1, &list);
    const char kept[] = "<s>the l\xc3\xb6w\0<mask>\t\xf0\x9f\x98\x80</s>";
    const char skipped[] = "the l\xc3\xb6w\0\t\xf0\x9f\x98\x80";
    token_list_append(&list, 100000);
    expect_text(tokenizer, list.ids, list.count, false, kept, sizeof kept - 1);
    expect_text(tokenizer, list.ids, list.count, true, skipped, sizeof skipped - 1);
    expect_text(tokenizer, NULL, 0, false, "", 0);
    list.count = 0;
    tokenizer_encode(tokenizer, "\xf0\x9f\x98\x80", 4, &list); /* without its last byte */
    expect_text(tokenizer, list.ids, 3, false, "\xef\xbf\xbd", 3);
    expect_text(tokenizer, list.ids + 1, 3, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 9);
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
}

/* Each byte has its own character. */
static void test_bytes(void **state) {
    (void)state;
    write_files(GPT2);
    struct tokenizer *tokenizer = create();
    bool is_seen[256] = {false};
    for (int32_t id = 1; id <= 256; ++id) {
        char bytes[10];
        assert_int_equal(bpe_piece_bytes(tokenizer_piece(tokenizer, id), bytes), 1);
        assert_false(is_seen[(unsigned char)bytes[0]]);
        is_seen[(unsigned char)bytes[0]] = true;
    }
    expect_pieces(tokenizer, false,
                  &(const struct text_case){"\302\255\177\302\240", 5, "Â Ń ġ Â ł"});
    tokenizer_destroy(&tokenizer);
}

/* ---- long words, merged by one rule and by the naive one ---- */

/* How many pieces a word of the letters a, b, c has: the best pair of the whole word is merged
 * again and again. */
static size_t naive_count(const char *word, size_t length) {
    static const char rules[][4] = {"abX", "bcY", "XcZ"}; /* left, right, both */
    char symbols[1000];
    memcpy(symbols, word, length);
    for (;;) {
        size_t best = COUNT_OF(rules), at = 0;
        for (size_t i = 0; i + 1 < length; ++i)
            for (size_t rank = 0; rank < best; ++rank)
                if (memcmp(symbols + i, rules[rank], 2) == 0) {
                    best = rank;
                    at = i;
                }
        if (best == COUNT_OF(rules))
            return length;
        symbols[at] = rules[best][2];
        memmove(symbols + at + 1, symbols + at + 2, length - at - 2);
        --length;
    }
}

static void test_long_words(void **state) {
    (void)state;
    write_files(GPT2);
    struct tokenizer *tokenizer = create();
    struct token_list list = {0};
    char word[1000];
    uint32_t number = 1;
    for (size_t i = 0; i < sizeof word; ++i) {
        number = number * 1664525u + 1013904223u;
        word[i] = (char)('a' + (number >> 16) % 3);
    }
    for (size_t length = 1; length < 200; ++length) {
        list.count = 0;
        tokenizer_encode(tokenizer, word, length, &list);
        assert_int_equal(list.count, naive_count(word, length));
        expect_text(tokenizer, list.ids, list.count, false, memcpy((char[200]){0}, word, length),
                    length);
    }
    list.count = 0;
    tokenizer_encode(tokenizer, word, sizeof word, &list);
    assert_int_equal(list.count, naive_count(word, sizeof word));
    char *huge = memory_allocate(3000000, 1, "test"); /* n log n: well below a second */
    memset(huge, 'a', 3000000);
    list.count = 0;
    tokenizer_encode(tokenizer, huge, 3000000, &list);
    assert_int_equal(list.count, 3000000);
    memory_free(huge);
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
}

/* ---- malformed files ---- */

static void test_bad_vocabularies(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "not valid JSON"},
        {"[\"a\"]", "expected a vocabulary"},
        {"{}", "expected a vocabulary"},
        {"{\"a\": 0, \"b\": 0}", "\"a\" and \"b\" have the id 0"},
        {"{\"a\": 0, \"a\": 1}", "given twice"},
        {"{\"a\": -1}", "no whole number"},
        {"{\"a\": 1.5}", "no whole number"},
        {"{\"a\": \"0\"}", "no whole number"},
        {"{\"a\": null}", "no whole number"},
        {"{\"a\": 4100}", "more than 4099"},
        {"{\"a\": 16777216}", "too many for its pieces"},
        {"{\"a\": 1e300}", "no whole number"},
        {"{\"a\xff\": 0}", "not UTF-8"},
        {"{\"a\\u0000b\": 0}", "zero character"},
        {"{\"a\\ud800\": 0}", "not valid JSON"},
        {"{\"a\": 0, \"b\": 1, \"c\": 2}", "\"ab\" is not in the vocabulary"},
        {"{\"a\": 0, \"b\": 1, \"ab\": 7}", "has neither <s> and </s>"},
    };
    write_text("merges.txt", "a b\n");
    for (size_t i = 0; i < COUNT_OF(bad); ++i) {
        write_text("vocab.json", bad[i].text);
        expect_problem(bad[i].words);
    }
}

static void test_bad_merges(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"#version: 0.2\nt h\nt\n", "merge 2 is not two pieces"},
        {"t h e\n", "merge 1 is not two pieces"},
        {"\n", "merge 1 is not two pieces"},
        {"t zz\n", "merge 1: \"zz\" is not in the vocabulary"},
        {"zz t\n", "\"zz\" is not"},
        {"t t\n", "\"tt\" is not"},
        {"t \xff\n", "is not in the vocabulary"},
        {" \n", "\"\" is not"},
    };
    write_files(GPT2);
    for (size_t i = 0; i < COUNT_OF(bad); ++i) {
        write_text("merges.txt", bad[i].text);
        expect_problem(bad[i].words);
    }
    write_bytes("merges.txt", "t \0\n", 4);
    expect_problem("is not in the vocabulary");
    write_text("merges.txt",
               ""); /* bytes alone; Windows' line ends; the last rank of a pair counts */
    struct tokenizer *tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"the", 3, "t h e"});
    tokenizer_destroy(&tokenizer);
    write_text("merges.txt", "#version: 0.2\r\na b\r\nb c\r\na b");
    tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"abc", 3, "a bc"});
    tokenizer_destroy(&tokenizer);
}

/* A byte that is no piece is left out; ids may have gaps. */
static void test_gaps(void **state) {
    (void)state;
    write_text("vocab.json", "{\"<|endoftext|>\": 9, \"a\": 2, \"b\": 5, \"ab\": 7}");
    write_text("merges.txt", "a b\n");
    struct tokenizer *tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"axb x", 5, "ab"});
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), 10);
    expect_text(tokenizer, (const int32_t[]){0, 7, 9, 1}, 4, true, "ab", 2);
    tokenizer_destroy(&tokenizer);
}

static void test_bad_json(void **state) {
    (void)state;
    static const struct {
        const char *head, *options, *words;
    } bad[] = {
        {"\"pre_tokenizer\": null", "", "pre_tokenizer is not that of"},
        {"\"pre_tokenizer\": {\"type\": \"Sequence\"}", "", "pre_tokenizer is not"},
        {"\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"use_regex\": false}", "", "pre_tokenizer"},
        {BYTE_LEVEL ", \"normalizer\": {\"type\": \"NFC\"}", "", "normalizer is not"},
        {BYTE_LEVEL ", \"decoder\": {\"type\": \"WordPiece\"}", "", "decoder is not"},
        {BYTE_LEVEL, "\"dropout\": 0.1, ", "model.dropout"},
        {BYTE_LEVEL, "\"continuing_subword_prefix\": \"##\", ", "model.continuing_subword_prefix"},
        {BYTE_LEVEL, "\"end_of_word_suffix\": \"</w>\", ", "model.end_of_word_suffix"},
        {BYTE_LEVEL, "\"byte_fallback\": true, ", "model.byte_fallback"},
        {BYTE_LEVEL, "\"ignore_merges\": true, ", "model.ignore_merges"},
        {BYTE_LEVEL ", \"added_tokens\": 1", "", "the added tokens are a number"},
        {BYTE_LEVEL ", \"added_tokens\": [1]", "", "no content or no id"},
        {BYTE_LEVEL ", \"added_tokens\": [{\"content\": \"x\"}]", "", "no content or no id"},
        {BYTE_LEVEL ", \"added_tokens\": [{\"id\": 1, \"content\": \"<x>\"}]", "", "have the id 1"},
        {BYTE_LEVEL ", \"added_tokens\": [{\"id\": 900, \"content\": \"the\"}]", "", "has the ids"},
        {BYTE_LEVEL ", \"added_tokens\": [{\"id\": 1e15, \"content\": \"q!\"}]", "", "more than"},
        {BYTE_LEVEL ", \"added_tokens\": [{\"id\": 900, \"content\": \"q!\", \"lstrip\": 1}]", "",
         "lstrip of an added token"},
        {BYTE_LEVEL
         ", \"added_tokens\": [{\"id\": 900, \"content\": \"q!\", \"single_word\": true}]",
         "", "single_word, which is not supported"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); ++i) {
        write_json(GPT2, bad[i].head, bad[i].options);
        expect_problem(bad[i].words);
    }
    static const char *const bad_merges[] = {"null",      "{}",           "[1]",
                                             "[[\"a\"]]", "[[\"a\", 1]]", "[[\"a\", \"b\", \"c\"]]",
                                             "[\"ab\"]",  "[\"a zz\"]"};
    for (size_t i = 0; i < COUNT_OF(bad_merges); ++i) {
        char *json = memory_format("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"b\": 1, "
                                   "\"ab\": 2}, \"merges\": %s}}",
                                   bad_merges[i]);
        write_text("tokenizer.json", json);
        memory_free(json);
        expect_problem("merge");
    }
    write_files(GPT2);
    write_text("tokenizer.json", "{\"model\": {\"type\": 7, \"merges\": []}}");
    expect_problem("pre_tokenizer");
}

static void test_bad_options(void **state) {
    (void)state;
    write_files(GPT2);
    write_text("tokenizer_config.json", "{\"add_prefix_space\": 1}");
    expect_problem("add_prefix_space is not true or false");
    write_text("tokenizer_config.json",
               "{\"added_tokens_decoder\": {\"x\": {\"content\": \"q!\"}}}");
    expect_problem("no content or no id");
    write_text("tokenizer_config.json", "{");
    expect_problem("not valid JSON");
    write_text("tokenizer_config.json",
               "{\"added_tokens_decoder\": {\"276\": {\"content\": \"q!\", \"lstrip\": true}}}");
    struct tokenizer *tokenizer = create();
    expect_pieces(tokenizer, false, &(const struct text_case){"a q!b", 5, "a q! b"});
    tokenizer_destroy(&tokenizer);
}

/* ---- parts ---- */

static void test_replacement(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected; /* "?" for U+FFFD */
    } cases[] = {
        {"abc", "abc"},
        {"\x80\xbf", "??"},
        {"\xc0\x80\xc1\xbf", "????"},
        {"\xe2\x82z", "?z"},
        {"\xe0\x9f\xbf", "???"},
        {"\xed\xa0\x80", "???"},
        {"\xf0\x90\x80", "?"},
        {"\xf0\x8f\x80\x80", "????"},
        {"\xf4\x90\x80\x80", "????"},
        {"\xf5\xff", "??"},
        {"12345678\xf1\x80\x80\xe1\x80\xc3", "12345678???"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); ++i) {
        size_t length, count = 0;
        char *text = utf8_replace_invalid(cases[i].text, strlen(cases[i].text), &length);
        char found[100] = "";
        for (size_t at = 0; at < length; ++count) {
            const bool is_mark = strncmp(text + at, "\xef\xbf\xbd", 3) == 0;
            found[count] = is_mark ? '?' : text[at];
            at += is_mark ? 3 : 1;
        }
        assert_string_equal(found, cases[i].expected);
        assert_true(utf8_is_valid(text, length));
        memory_free(text);
    }
}

/* Characters whose category changed with Unicode 16 and later, or differs between libraries. */
static void test_kinds_of_characters(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes; /* of the first word */
    } cases[] = {
        {"a\xea\x9f\x8b", 4},     /* U+A7CB, a letter of Unicode 16 */
        {"a\xea\x9f\x8e", 1},     /* U+A7CE, of Unicode 17 */
        {"1\xf0\x90\xb5\x80", 5}, /* U+10D40, a digit of Unicode 16 */
        {"1\xe2\x85\xa7", 4},     /* U+2167, a numeral */
        {"a\xcc\x81", 1},         /* U+0301, a mark */
        {"!\xcc\x81\xe2\x80\x8d", 6},
        {" \xe4\xb8\xad\xe6\x96\x87 ", 7},
        {"\xc2\x85 a", 2},
        {"\xc2\x85\xe3\x80\x80", 5},
        {"'re", 3},
        {"'r", 1},
        {"'Re", 1},
        {" ", 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); ++i)
        assert_int_equal(pretokenizer_next(cases[i].text, strlen(cases[i].text)), cases[i].bytes);
}

/* ---- real vocabularies ---- */

static void expect_real(const char *name, const int32_t *ids, size_t count, const char *expected) {
    static const char text[] =
        "Hello world, it's 2024!  \xf0\x9f\x98\x80 na\xc3\xafve <|endoftext|> x<mask>";
    const char *data = getenv("AUTOLORA_DATA");
    char *path = memory_format("%s/tokenizers/%s", data != NULL ? data : "../shared/data", name);
    struct problem problem = {0};
    if (!file_exists(path)) {
        print_message("skipped: there is no %s (AUTOLORA_DATA)\n", path);
        memory_free(path);
        skip();
    }
    struct tokenizer *tokenizer = tokenizer_create(path, &problem);
    assert_string_equal(problem.text, "");
    struct token_list list = {0};
    tokenizer_encode(tokenizer, text, sizeof text - 1, &list);
    assert_int_equal(list.count, count);
    assert_memory_equal(list.ids, ids, count * sizeof *ids);
    expect_text(tokenizer, list.ids, list.count, true, expected, strlen(expected));
    token_list_free(&list);
    tokenizer_destroy(&tokenizer);
    memory_free(path);
}

static void test_real_gpt2(void **state) {
    (void)state;
    static const int32_t ids[] = {15496, 995,   11,  340,   338,  48609, 0,     220, 30325,
                                  222,   41492, 220, 50256, 2124, 27,    27932, 29};
    expect_real("gpt2", ids, COUNT_OF(ids),
                "Hello world, it's 2024!  \xf0\x9f\x98\x80 na\xc3\xafve  x<mask>");
}

static void test_real_roberta(void **state) {
    (void)state;
    static const int32_t ids[] = {31414, 232,   6,     24,    18,    15294, 328,
                                  1437,  17841, 7471,  39300, 28696, 15483, 1397,
                                  1116,  29015, 15483, 15698, 3023,  50264};
    expect_real("roberta", ids, COUNT_OF(ids),
                "Hello world, it's 2024!  \xf0\x9f\x98\x80 na\xc3\xafve <|endoftext|> x");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_gpt2),
        TEST(test_roberta),
        TEST(test_tokenizer_json),
        TEST(test_word_piece_json),
        TEST(test_kinds),
        TEST(test_decoding),
        TEST(test_bytes),
        TEST(test_long_words),
        TEST(test_bad_vocabularies),
        TEST(test_bad_merges),
        TEST(test_gaps),
        TEST(test_bad_json),
        TEST(test_bad_options),
        TEST(test_replacement),
        TEST(test_kinds_of_characters),
        TEST(test_real_gpt2),
        TEST(test_real_roberta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
