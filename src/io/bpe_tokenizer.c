/* Text goes through three cuts: added tokens, words (io/pretokenizer.h), pieces (io/bpe.h). */
#include "io/bpe_tokenizer.h"

#include "base/memory.h"
#include "io/added_tokens.h"
#include "io/bpe.h"
#include "io/file.h"
#include "io/pretokenizer.h"
#include "io/utf8.h"
#include "io/vocabulary.h"

#include <string.h>

struct bpe_tokenizer {
    struct vocabulary vocabulary;
    struct added_tokens added;
    struct bpe *bpe;
    struct tokenizer_special special;
    bool has_prefix_space; /* before each part of the text between added tokens */
};

/* ---- special tokens ---- */

static bool find_special(struct bpe_tokenizer *tokenizer, const char *path,
                         struct problem *problem) {
    const struct vocabulary *vocabulary = &tokenizer->vocabulary;
    const int32_t begin = vocabulary_find(vocabulary, "<s>");
    const int32_t end = vocabulary_find(vocabulary, "</s>");
    const int32_t end_of_text = vocabulary_find(vocabulary, "<|endoftext|>");
    if (begin >= 0 && end >= 0)
        tokenizer->special =
            (struct tokenizer_special){.unknown = vocabulary_find(vocabulary, "<unk>"),
                                       .classify = begin,
                                       .separate = end,
                                       .pad = vocabulary_find(vocabulary, "<pad>"),
                                       .mask = vocabulary_find(vocabulary, "<mask>"),
                                       .separators_between = 2};
    else if (end_of_text >= 0)
        tokenizer->special = (struct tokenizer_special){.unknown = -1,
                                                        .classify = -1,
                                                        .separate = end_of_text,
                                                        .pad = -1,
                                                        .mask = -1,
                                                        .separators_between = 1};
    else
        return problem_set(problem, EXIT_DATA,
                           "%s: has neither <s> and </s> (RoBERTa) nor <|endoftext|> (GPT-2)",
                           path);
    return true;
}

/* Where no file says what is recognised in the text. */
static void add_special(struct bpe_tokenizer *tokenizer) {
    const struct tokenizer_special *special = &tokenizer->special;
    const int32_t ids[] = {special->classify, special->separate, special->unknown, special->pad,
                           special->mask};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i)
        if (ids[i] >= 0)
            added_tokens_add(&tokenizer->added,
                             &(struct added_token){.text = tokenizer->vocabulary.pieces[ids[i]],
                                                   .id = (size_t)ids[i],
                                                   .takes_left = ids[i] == special->mask,
                                                   .is_special = true});
}

static bool add_to_vocabulary(struct bpe_tokenizer *tokenizer, const char *path,
                              struct problem *problem) {
    for (size_t i = 0; i < tokenizer->added.count; ++i) {
        const struct added_token *token = &tokenizer->added.tokens[i];
        if (!vocabulary_add(&tokenizer->vocabulary, token->text, token->id, path, problem))
            return false;
    }
    return true;
}

/* ---- reading ---- */

static bool read_options(struct bpe_tokenizer *tokenizer, const char *model_directory,
                         bool has_added_tokens, struct problem *problem) {
    char *path = file_join(model_directory, "tokenizer_config.json");
    bool is_good = true;
    if (file_exists(path)) {
        struct json *options = json_read(path, problem);
        const struct json *prefix = json_get(options, "add_prefix_space");
        is_good = options != NULL;
        if (prefix != NULL && json_type(prefix) != JSON_BOOL)
            is_good =
                problem_set(problem, EXIT_DATA, "%s: add_prefix_space is not true or false", path);
        else if (prefix != NULL)
            tokenizer->has_prefix_space = json_is_true(prefix);
        if (is_good && !has_added_tokens)
            is_good = added_tokens_read(&tokenizer->added,
                                        json_get(options, "added_tokens_decoder"), path, problem);
        json_destroy(&options);
    }
    is_good = is_good && add_to_vocabulary(tokenizer, path, problem);
    memory_free(path);
    return is_good;
}

static bool read_vocabulary(struct bpe_tokenizer *tokenizer, const char *path,
                            struct problem *problem) {
    struct json *pieces = json_read(path, problem);
    const bool is_good =
        pieces != NULL && vocabulary_read(&tokenizer->vocabulary, pieces, path, problem);
    json_destroy(&pieces);
    return is_good;
}

static bool read_merges(struct bpe_tokenizer *tokenizer, const char *path,
                        struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    if (text != NULL)
        tokenizer->bpe = bpe_create_from_text(&tokenizer->vocabulary, text, size, path, problem);
    memory_free(text);
    return tokenizer->bpe != NULL;
}

struct bpe_tokenizer *bpe_tokenizer_create_from_files(const char *model_directory,
                                                      struct problem *problem) {
    struct bpe_tokenizer *tokenizer = memory_allocate(1, sizeof *tokenizer, "tokenizer");
    char *vocabulary_path = file_join(model_directory, "vocab.json");
    char *merges_path = file_join(model_directory, "merges.txt");
    const bool is_good = read_vocabulary(tokenizer, vocabulary_path, problem) &&
                         read_merges(tokenizer, merges_path, problem) &&
                         read_options(tokenizer, model_directory, false, problem) &&
                         find_special(tokenizer, vocabulary_path, problem);
    if (is_good && tokenizer->added.count == 0)
        add_special(tokenizer);
    memory_free(vocabulary_path);
    memory_free(merges_path);
    if (!is_good)
        bpe_tokenizer_destroy(&tokenizer);
    return tokenizer;
}

/* ---- reading tokenizer.json ---- */

static bool is_null(const struct json *node) {
    return node == NULL || json_type(node) == JSON_NULL;
}

static bool is_text(const struct json *node, const char *text) {
    return node != NULL && json_type(node) == JSON_STRING && strcmp(json_string(node), text) == 0;
}

static bool is_absent_or(const struct json *node, bool value) {
    return is_null(node) || (json_type(node) == JSON_BOOL && json_is_true(node) == value);
}

static bool is_absent_or_empty(const struct json *node) {
    return is_null(node) || is_text(node, "");
}

/* What the file asks for beyond byte-level BPE, NULL if nothing. */
static const char *unsupported_part(const struct json *root) {
    const struct json *model = json_get(root, "model"), *cut = json_get(root, "pre_tokenizer");
    const struct json *decoder = json_get(root, "decoder");
    if (!is_null(json_get(root, "normalizer")))
        return "normalizer";
    if (!is_text(json_get(cut, "type"), "ByteLevel") ||
        !is_absent_or(json_get(cut, "use_regex"), true))
        return "pre_tokenizer";
    if (!is_null(decoder) && !is_text(json_get(decoder, "type"), "ByteLevel"))
        return "decoder";
    if (!is_null(json_get(model, "dropout")))
        return "model.dropout";
    if (!is_absent_or_empty(json_get(model, "continuing_subword_prefix")))
        return "model.continuing_subword_prefix";
    if (!is_absent_or_empty(json_get(model, "end_of_word_suffix")))
        return "model.end_of_word_suffix";
    if (!is_absent_or(json_get(model, "byte_fallback"), false))
        return "model.byte_fallback";
    return is_absent_or(json_get(model, "ignore_merges"), false) ? NULL : "model.ignore_merges";
}

static bool check_parts(const struct json *root, const char *path, struct problem *problem) {
    const char *part = unsupported_part(root);
    return part == NULL ||
           problem_set(problem, EXIT_DATA,
                       "%s: %s is not that of a byte-level BPE tokenizer as GPT-2 and RoBERTa have",
                       path, part);
}

static bool read_model(struct bpe_tokenizer *tokenizer, const struct json *model, const char *path,
                       struct problem *problem) {
    if (!vocabulary_read(&tokenizer->vocabulary, json_get(model, "vocab"), path, problem))
        return false;
    tokenizer->bpe =
        bpe_create_from_json(&tokenizer->vocabulary, json_get(model, "merges"), path, problem);
    if (tokenizer->bpe == NULL)
        return false;
    return is_null(json_get(model, "unk_token")) || bpe_has_all_bytes(tokenizer->bpe) ||
           problem_set(problem, EXIT_DATA,
                       "%s: model.unk_token is not supported where a byte is no piece", path);
}

struct bpe_tokenizer *bpe_tokenizer_create_from_json(const char *model_directory,
                                                     const struct json *root, const char *path,
                                                     struct problem *problem) {
    struct bpe_tokenizer *tokenizer = memory_allocate(1, sizeof *tokenizer, "tokenizer");
    const struct json *prefix = json_get(json_get(root, "pre_tokenizer"), "add_prefix_space");
    tokenizer->has_prefix_space = prefix != NULL && json_is_true(prefix);
    if (!check_parts(root, path, problem) ||
        !read_model(tokenizer, json_get(root, "model"), path, problem) ||
        !added_tokens_read(&tokenizer->added, json_get(root, "added_tokens"), path, problem) ||
        !add_to_vocabulary(tokenizer, path, problem) ||
        !read_options(tokenizer, model_directory, true, problem) ||
        !find_special(tokenizer, path, problem))
        bpe_tokenizer_destroy(&tokenizer);
    return tokenizer;
}

void bpe_tokenizer_destroy(struct bpe_tokenizer **tokenizer) {
    if (*tokenizer == NULL)
        return;
    bpe_destroy(&(*tokenizer)->bpe);
    added_tokens_free(&(*tokenizer)->added);
    vocabulary_free(&(*tokenizer)->vocabulary);
    memory_free(*tokenizer);
    *tokenizer = NULL;
}

size_t bpe_tokenizer_vocabulary_size(const struct bpe_tokenizer *tokenizer) {
    return tokenizer->vocabulary.size;
}

struct tokenizer_special bpe_tokenizer_special_ids(const struct bpe_tokenizer *tokenizer) {
    return tokenizer->special;
}

const char *bpe_tokenizer_piece(const struct bpe_tokenizer *tokenizer, int32_t id) {
    return vocabulary_piece(&tokenizer->vocabulary, id);
}

/* ---- encoding ---- */

static void encode_words(const struct bpe_tokenizer *tokenizer, const char *text, size_t length,
                         struct token_list *list) {
    for (size_t at = 0; at < length;) {
        const size_t bytes = pretokenizer_next(text + at, length - at);
        bpe_encode(tokenizer->bpe, text + at, bytes, list);
        at += bytes;
    }
}

/* Text without added tokens, length > 0. */
static void encode_part(const struct bpe_tokenizer *tokenizer, const char *text, size_t length,
                        bool is_word, struct token_list *list) {
    if (!(is_word || tokenizer->has_prefix_space) || *text == ' ') {
        encode_words(tokenizer, text, length, list);
        return;
    }
    char *copy = memory_allocate(length + 1, 1, "text");
    copy[0] = ' ';
    memcpy(copy + 1, text, length);
    encode_words(tokenizer, copy, length + 1, list);
    memory_free(copy);
}

/* Finds the added tokens of one kind: first those that are not normalized, between them the
 * others. */
static void encode_text(const struct bpe_tokenizer *tokenizer, bool is_normalized, const char *text,
                        size_t length, bool is_word, struct token_list *list) {
    size_t from = 0;
    while (from < length) {
        size_t start = length, stop = length;
        const struct added_token *token =
            added_tokens_next(&tokenizer->added, is_normalized, text, length, from, &start, &stop);
        if (start > from && is_normalized)
            encode_part(tokenizer, text + from, start - from, is_word, list);
        else if (start > from)
            encode_text(tokenizer, true, text + from, start - from, is_word, list);
        if (token != NULL)
            token_list_append(list, (int32_t)token->id);
        from = stop;
    }
}

void bpe_tokenizer_encode(const struct bpe_tokenizer *tokenizer, const char *text, size_t length,
                          bool is_word, struct token_list *list) {
    if (utf8_is_valid(text, length)) {
        encode_text(tokenizer, false, text, length, is_word, list);
        return;
    }
    char *valid = utf8_replace_invalid(text, length, &length);
    encode_text(tokenizer, false, valid, length, is_word, list);
    memory_free(valid);
}

/* ---- decoding ---- */

static bool is_special(const struct bpe_tokenizer *tokenizer, int32_t id) {
    for (size_t i = 0; i < tokenizer->added.count; ++i)
        if (tokenizer->added.tokens[i].is_special && tokenizer->added.tokens[i].id == (size_t)id)
            return true;
    return false;
}

char *bpe_tokenizer_decode(const struct bpe_tokenizer *tokenizer, const int32_t *ids, size_t count,
                           bool is_skipping_special, size_t *length) {
    size_t capacity = 64, used = 0;
    char *bytes = memory_allocate(capacity, 1, "text");
    for (size_t i = 0; i < count; ++i) {
        const char *piece = bpe_tokenizer_piece(tokenizer, ids[i]);
        if (piece == NULL || (is_skipping_special && is_special(tokenizer, ids[i])))
            continue;
        if (used + strlen(piece) > capacity) {
            capacity = 2 * (used + strlen(piece));
            bytes = memory_resize(bytes, capacity, 1, "text");
        }
        used += bpe_piece_bytes(piece, bytes + used);
    }
    char *text = utf8_replace_invalid(bytes, used, length);
    memory_free(bytes);
    return text;
}
