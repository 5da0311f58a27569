/* One pass over the text collects a word at a time, normalised, in a buffer of fixed size. A word
 * that does not fit is unknown whatever it holds, so encoding allocates nothing but the list. */
#include "io/bert_tokenizer.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/normalizer.h"
#include "io/wordpiece.h"

#include <string.h>
#include <utf8proc.h>

enum { UNKNOWN, CLASSIFY, SEPARATE, PAD, MASK, NUM_SPECIAL };

struct special_token {
    const char *text, *option;
    bool is_required;
    int32_t id; /* -1: not in the vocabulary */
};

struct bert_tokenizer {
    struct normalizer normalizer;
    struct wordpiece *wordpiece;
    struct special_token special[NUM_SPECIAL];
    struct normal_character ascii[128];
    bool is_ascii_kept[128];
};

/* The word being collected. */
struct word {
    size_t characters; /* may exceed WORDPIECE_MAX_CHARACTERS, text then stays as it is */
    size_t bytes;
    size_t barrier; /* no mark moves to before this byte */
    char text[WORDPIECE_MAX_BYTES];
};

static const struct special_token special_tokens[NUM_SPECIAL] = {
    [UNKNOWN] = {"[UNK]", "unk_token", true, -1},  [CLASSIFY] = {"[CLS]", "cls_token", true, -1},
    [SEPARATE] = {"[SEP]", "sep_token", true, -1}, [PAD] = {"[PAD]", "pad_token", true, -1},
    [MASK] = {"[MASK]", "mask_token", false, -1},
};

/* ---- reading ---- */

static bool find_special(struct bert_tokenizer *tokenizer, const char *path,
                         struct problem *problem) {
    memcpy(tokenizer->special, special_tokens, sizeof(special_tokens));
    for (size_t i = 0; i < NUM_SPECIAL; ++i) {
        struct special_token *special = &tokenizer->special[i];
        special->id = wordpiece_find(tokenizer->wordpiece, special->text);
        if (special->id < 0 && special->is_required)
            return problem_set(problem, EXIT_DATA, "%s: the piece %s is missing", path,
                               special->text);
    }
    return true;
}

/* A member that is true or false; keeps *value if absent, and if null where that is allowed. */
static bool read_switch(const struct json *options, const char *name, bool is_null_allowed,
                        const char *path, bool *value, struct problem *problem) {
    const struct json *member = json_get(options, name);
    if (member == NULL || (is_null_allowed && json_type(member) == JSON_NULL))
        return true;
    if (json_type(member) != JSON_BOOL)
        return problem_set(problem, EXIT_DATA, "%s: %s must be true%s or false, not a %s", path,
                           name, is_null_allowed ? ", null" : "", json_type_name(member));
    *value = json_is_true(member);
    return true;
}

/* A file that names other special tokens (RoBERTa's "<s>") belongs to another tokenizer. */
static bool check_special_names(const struct json *options, const char *path,
                                struct problem *problem) {
    for (size_t i = 0; i < NUM_SPECIAL; ++i) {
        const struct special_token *special = &special_tokens[i];
        const struct json *member = json_get(options, special->option);
        if (member != NULL && json_type(member) == JSON_OBJECT)
            member = json_get(member, "content");
        if (member == NULL || json_type(member) == JSON_NULL)
            continue;
        if (json_type(member) != JSON_STRING || strcmp(json_string(member), special->text) != 0)
            return problem_set(problem, EXIT_DATA, "%s: %s must be \"%s\"", path, special->option,
                               special->text);
    }
    return true;
}

static bool read_members(const struct json *options, const char *path,
                         struct normalizer *normalizer, struct problem *problem) {
    if (json_type(options) != JSON_OBJECT)
        return problem_set(problem, EXIT_DATA, "%s: is not a JSON object", path);
    if (!check_special_names(options, path, problem) ||
        !read_switch(options, "do_lower_case", false, path, &normalizer->is_lower_casing, problem))
        return false;
    if (json_get(options, "do_lower_case") != NULL)
        normalizer->is_stripping_accents = normalizer->is_lower_casing;
    return read_switch(options, "strip_accents", true, path, &normalizer->is_stripping_accents,
                       problem) &&
           read_switch(options, "tokenize_chinese_chars", false, path,
                       &normalizer->is_spacing_ideographs, problem);
}

static bool read_options(struct normalizer *normalizer, const char *path, struct problem *problem) {
    if (!file_exists(path))
        return true;
    struct json *options = json_read(path, problem);
    const bool is_good = options != NULL && read_members(options, path, normalizer, problem);
    json_destroy(&options);
    return is_good;
}

static void tabulate_ascii(struct bert_tokenizer *tokenizer) {
    for (int32_t i = 0; i < 128; ++i) {
        struct normal_character characters[NORMALIZER_MAX_CHARACTERS];
        tokenizer->is_ascii_kept[i] = normalizer_apply(&tokenizer->normalizer, i, characters) == 1;
        if (tokenizer->is_ascii_kept[i])
            tokenizer->ascii[i] = characters[0];
    }
}

/* What both ways of reading share: takes the vocabulary, which is NULL after a problem. */
static struct bert_tokenizer *create(struct wordpiece *wordpiece, struct normalizer normalizer,
                                     const char *model_directory, const char *vocabulary_path,
                                     struct problem *problem) {
    struct bert_tokenizer *tokenizer = memory_allocate(1, sizeof(*tokenizer), "tokenizer");
    tokenizer->wordpiece = wordpiece;
    tokenizer->normalizer = normalizer;
    char *options_path = file_join(model_directory, "tokenizer_config.json");
    const bool is_good = wordpiece != NULL && find_special(tokenizer, vocabulary_path, problem) &&
                         read_options(&tokenizer->normalizer, options_path, problem);
    memory_free(options_path);
    if (is_good)
        tabulate_ascii(tokenizer);
    else
        bert_tokenizer_destroy(&tokenizer);
    return tokenizer;
}

struct bert_tokenizer *bert_tokenizer_create_from_files(const char *model_directory,
                                                        struct problem *problem) {
    char *path = file_join(model_directory, "vocab.txt");
    struct wordpiece *wordpiece = wordpiece_create(path, problem);
    struct bert_tokenizer *tokenizer =
        create(wordpiece, (struct normalizer){true, true, true}, model_directory, path, problem);
    memory_free(path);
    return tokenizer;
}

/* ---- reading tokenizer.json ---- */

static bool is_text(const struct json *node, const char *text) {
    return node != NULL && json_type(node) == JSON_STRING && strcmp(json_string(node), text) == 0;
}

static bool is_known_token(const struct json *token) {
    for (size_t i = 0; i < NUM_SPECIAL; ++i)
        if (is_text(json_get(token, "content"), special_tokens[i].text))
            return true;
    return false;
}

/* What the file asks for beyond BERT's tokenizer, NULL if nothing. */
static const char *unsupported_part(const struct json *root) {
    const struct json *model = json_get(root, "model"), *normalizer = json_get(root, "normalizer");
    const struct json *clean = json_get(normalizer, "clean_text");
    size_t longest = 0;
    if (!is_text(json_get(normalizer, "type"), "BertNormalizer") ||
        (clean != NULL && !json_is_true(clean)))
        return "normalizer";
    if (!is_text(json_get(json_get(root, "pre_tokenizer"), "type"), "BertPreTokenizer"))
        return "pre_tokenizer";
    if (!is_text(json_get(model, "unk_token"), special_tokens[UNKNOWN].text))
        return "model.unk_token";
    if (!is_text(json_get(model, "continuing_subword_prefix"), "##"))
        return "model.continuing_subword_prefix";
    if (!json_size(json_get(model, "max_input_chars_per_word"), &longest) ||
        longest != WORDPIECE_MAX_CHARACTERS)
        return "model.max_input_chars_per_word";
    for (const struct json *token = json_first(json_get(root, "added_tokens")); token != NULL;
         token = json_next(token))
        if (!is_known_token(token))
            return "added_tokens";
    return NULL;
}

/* The options under the names that tokenizer.json has for them. */
static bool read_normalizer(const struct json *node, const char *path,
                            struct normalizer *normalizer, struct problem *problem) {
    *normalizer = (struct normalizer){true, true, true};
    if (!read_switch(node, "lowercase", false, path, &normalizer->is_lower_casing, problem))
        return false;
    normalizer->is_stripping_accents = normalizer->is_lower_casing;
    return read_switch(node, "strip_accents", true, path, &normalizer->is_stripping_accents,
                       problem) &&
           read_switch(node, "handle_chinese_chars", false, path,
                       &normalizer->is_spacing_ideographs, problem);
}

struct bert_tokenizer *bert_tokenizer_create_from_json(const char *model_directory,
                                                       const struct json *root, const char *path,
                                                       struct problem *problem) {
    const char *part = unsupported_part(root);
    if (part != NULL) {
        problem_set(problem, EXIT_DATA, "%s: %s is not that of BERT's tokenizer", path, part);
        return NULL;
    }
    struct normalizer normalizer;
    if (!read_normalizer(json_get(root, "normalizer"), path, &normalizer, problem))
        return NULL;
    struct wordpiece *wordpiece =
        wordpiece_create_from_json(json_get(json_get(root, "model"), "vocab"), path, problem);
    return create(wordpiece, normalizer, model_directory, path, problem);
}

void bert_tokenizer_destroy(struct bert_tokenizer **tokenizer) {
    if (*tokenizer == NULL)
        return;
    wordpiece_destroy(&(*tokenizer)->wordpiece);
    memory_free(*tokenizer);
    *tokenizer = NULL;
}

size_t bert_tokenizer_vocabulary_size(const struct bert_tokenizer *tokenizer) {
    return wordpiece_size(tokenizer->wordpiece);
}

struct tokenizer_special bert_tokenizer_special_ids(const struct bert_tokenizer *tokenizer) {
    const struct special_token *special = tokenizer->special;
    return (struct tokenizer_special){.unknown = special[UNKNOWN].id,
                                      .classify = special[CLASSIFY].id,
                                      .separate = special[SEPARATE].id,
                                      .pad = special[PAD].id,
                                      .mask = special[MASK].id,
                                      .separators_between = 1,
                                      .has_token_types = true};
}

const char *bert_tokenizer_piece(const struct bert_tokenizer *tokenizer, int32_t id) {
    return wordpiece_text(tokenizer->wordpiece, id);
}

/* ---- encoding ---- */

static void word_finish(const struct bert_tokenizer *tokenizer, struct word *word,
                        struct token_list *list) {
    if (word->characters > WORDPIECE_MAX_CHARACTERS)
        token_list_append(list, tokenizer->special[UNKNOWN].id);
    else
        wordpiece_encode(tokenizer->wordpiece, word->text, word->bytes,
                         tokenizer->special[UNKNOWN].id, list);
    word->characters = word->bytes = word->barrier = 0;
}

static inline void word_append_ascii(struct word *word, char byte) {
    if (word->characters++ < WORDPIECE_MAX_CHARACTERS)
        word->text[word->bytes++] = byte;
}

static bool is_character_start(char byte) {
    return ((unsigned char)byte & 0xc0) != 0x80;
}

/* Where a character of this combining class belongs: behind those of no higher class. */
static size_t mark_position(const struct word *word, uint8_t combining_class) {
    size_t at = word->bytes;
    while (at > word->barrier) {
        size_t before = at - 1;
        while (!is_character_start(word->text[before]))
            --before;
        int32_t code_point;
        utf8proc_iterate((const utf8proc_uint8_t *)word->text + before,
                         (utf8proc_ssize_t)(at - before), &code_point);
        if (normalizer_combining_class(code_point) <= combining_class)
            break;
        at = before;
    }
    return at;
}

static void word_append(struct word *word, const struct normal_character *character) {
    if (word->characters++ >= WORDPIECE_MAX_CHARACTERS)
        return;
    utf8proc_uint8_t bytes[4];
    const size_t count = (size_t)utf8proc_encode_char(character->code_point, bytes);
    size_t at = word->bytes;
    if (character->combining_class != 0) {
        at = mark_position(word, character->combining_class);
        memmove(word->text + at + count, word->text + at, word->bytes - at);
    }
    memcpy(word->text + at, bytes, count);
    word->bytes += count;
}

static void add_code_point(const struct bert_tokenizer *tokenizer, int32_t code_point,
                           struct word *word, struct token_list *list) {
    struct normal_character characters[NORMALIZER_MAX_CHARACTERS];
    const size_t count = normalizer_apply(&tokenizer->normalizer, code_point, characters);
    for (size_t i = 0; i < count; ++i) {
        switch (characters[i].kind) {
        case NORMAL_WORD:
            word_append(word, &characters[i]);
            break;
        case NORMAL_PUNCTUATION:
            word_finish(tokenizer, word, list);
            word_append(word, &characters[i]);
            word_finish(tokenizer, word, list);
            break;
        case NORMAL_SPACE:
            word_finish(tokenizer, word, list);
            break;
        case NORMAL_BARRIER:
            word->barrier = word->bytes;
            break;
        }
    }
}

/* The special token that the text begins with, or NULL. */
static const struct special_token *match_special(const struct bert_tokenizer *tokenizer,
                                                 const char *text, size_t length) {
    for (size_t i = 0; i < NUM_SPECIAL; ++i) {
        const struct special_token *special = &tokenizer->special[i];
        const size_t bytes = strlen(special->text);
        if (special->id >= 0 && bytes <= length && memcmp(text, special->text, bytes) == 0)
            return special;
    }
    return NULL;
}

/* Punctuation and white space of ASCII; returns the number of bytes used. */
static size_t add_ascii_separator(const struct bert_tokenizer *tokenizer, const char *text,
                                  size_t length, struct word *word, struct token_list *list) {
    const struct normal_character *character = &tokenizer->ascii[(unsigned char)*text];
    word_finish(tokenizer, word, list);
    if (character->kind == NORMAL_SPACE)
        return 1;
    if (*text == '[') {
        const struct special_token *special = match_special(tokenizer, text, length);
        if (special != NULL) {
            token_list_append(list, special->id);
            return strlen(special->text);
        }
    }
    wordpiece_encode(tokenizer->wordpiece, text, 1, tokenizer->special[UNKNOWN].id, list);
    return 1;
}

void bert_tokenizer_encode(const struct bert_tokenizer *tokenizer, const char *text, size_t length,
                           struct token_list *list) {
    struct word word;
    word.characters = word.bytes = word.barrier = 0;
    for (size_t at = 0; at < length;) {
        const unsigned char byte = (unsigned char)text[at];
        if (byte < 0x80) {
            const struct normal_character *character = &tokenizer->ascii[byte];
            if (!tokenizer->is_ascii_kept[byte]) {
                ++at;
            } else if (character->kind == NORMAL_WORD) {
                word_append_ascii(&word, (char)character->code_point);
                ++at;
            } else {
                at += add_ascii_separator(tokenizer, text + at, length - at, &word, list);
            }
            continue;
        }
        int32_t code_point;
        const utf8proc_ssize_t used = utf8proc_iterate(
            (const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &code_point);
        if (used <= 0) { /* what Python replaces by U+FFFD, which normalisation removes */
            ++at;
            continue;
        }
        add_code_point(tokenizer, code_point, &word, list);
        at += (size_t)used;
    }
    word_finish(tokenizer, &word, list);
}

/* ---- decoding ---- */

static bool is_special(const struct bert_tokenizer *tokenizer, int32_t id) {
    for (size_t i = 0; i < NUM_SPECIAL; ++i)
        if (tokenizer->special[i].id == id)
            return true;
    return false;
}

/* Whether the package's clean-up removes the space before this word. */
static bool is_joined(const char *word) {
    static const char *const beginnings[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; ++i)
        if (strncmp(word, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

char *bert_tokenizer_decode(const struct bert_tokenizer *tokenizer, const int32_t *ids,
                            size_t count, bool is_skipping_special, size_t *length) {
    char *text = memory_allocate(1, 1, "text");
    size_t capacity = 1, used = 0;
    for (size_t i = 0; i < count; ++i) {
        const char *piece = bert_tokenizer_piece(tokenizer, ids[i]);
        if (piece == NULL || (is_skipping_special && is_special(tokenizer, ids[i])))
            continue;
        const bool is_first = used == 0, is_inside = strncmp(piece, "##", 2) == 0;
        if (is_inside && !is_first)
            piece += 2;
        const bool has_space = !is_first && !is_inside && !is_joined(piece);
        const size_t bytes = strlen(piece);
        if (used + bytes + 2 > capacity) {
            capacity = 2 * (used + bytes + 2);
            text = memory_resize(text, capacity, 1, "text");
        }
        if (has_space)
            text[used++] = ' ';
        memcpy(text + used, piece, bytes + 1);
        used += bytes;
    }
    *length = used;
    return text;
}
