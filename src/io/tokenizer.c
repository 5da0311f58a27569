/* Finds the kind of a model directory's tokenizer and hands all calls on to it. */
#include "io/tokenizer.h"

#include "base/memory.h"
#include "io/bert_tokenizer.h"
#include "io/bpe_tokenizer.h"
#include "io/file.h"
#include "io/json.h"

#include <string.h>

struct tokenizer { /* one of: */
    struct bert_tokenizer *bert;
    struct bpe_tokenizer *bpe;
};

/* ---- lists of ids ---- */

void token_list_append(struct token_list *list, int32_t id) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity < 32 ? 64 : 2 * list->capacity;
        list->ids = memory_resize(list->ids, list->capacity, sizeof(*list->ids), "token ids");
    }
    list->ids[list->count++] = id;
}

void token_list_free(struct token_list *list) {
    memory_free(list->ids);
    *list = (struct token_list){0};
}

/* ---- finding the kind ---- */

/* The type of a model; older files leave it out. */
static const char *model_type(const struct json *model) {
    const struct json *type = json_get(model, "type");
    if (type != NULL && json_type(type) == JSON_STRING)
        return json_string(type);
    return json_get(model, "merges") != NULL ? "BPE" : "WordPiece";
}

static bool read_json(struct tokenizer *tokenizer, const char *model_directory, const char *path,
                      struct problem *problem) {
    struct json *root = json_read(path, problem);
    if (root == NULL)
        return false;
    const struct json *model = json_get(root, "model");
    if (model == NULL)
        problem_set(problem, EXIT_DATA, "%s: has no member \"model\"", path);
    else if (strcmp(model_type(model), "BPE") == 0)
        tokenizer->bpe = bpe_tokenizer_create_from_json(model_directory, root, path, problem);
    else if (strcmp(model_type(model), "WordPiece") == 0)
        tokenizer->bert = bert_tokenizer_create_from_json(model_directory, root, path, problem);
    else
        problem_set(problem, EXIT_DATA, "%s: model.type is \"%.100s\", not BPE or WordPiece", path,
                    model_type(model));
    json_destroy(&root);
    return tokenizer->bpe != NULL || tokenizer->bert != NULL;
}

static bool has_file(const char *directory, const char *name) {
    char *path = file_join(directory, name);
    const bool exists = file_exists(path);
    memory_free(path);
    return exists;
}

static bool read_directory(struct tokenizer *tokenizer, const char *directory,
                           struct problem *problem) {
    if (has_file(directory, "vocab.txt")) {
        tokenizer->bert = bert_tokenizer_create_from_files(directory, problem);
        return tokenizer->bert != NULL;
    }
    if (has_file(directory, "tokenizer.json")) {
        char *path = file_join(directory, "tokenizer.json");
        const bool is_good = read_json(tokenizer, directory, path, problem);
        memory_free(path);
        return is_good;
    }
    if (has_file(directory, "vocab.json") && has_file(directory, "merges.txt")) {
        tokenizer->bpe = bpe_tokenizer_create_from_files(directory, problem);
        return tokenizer->bpe != NULL;
    }
    return problem_set(problem, EXIT_DATA,
                       "%s: no tokenizer found: looked for vocab.txt (WordPiece), tokenizer.json, "
                       "vocab.json with merges.txt (byte-level BPE)",
                       directory);
}

struct tokenizer *tokenizer_create(const char *model_directory, struct problem *problem) {
    struct tokenizer *tokenizer = memory_allocate(1, sizeof(*tokenizer), "tokenizer");
    if (!read_directory(tokenizer, model_directory, problem))
        tokenizer_destroy(&tokenizer);
    return tokenizer;
}

void tokenizer_destroy(struct tokenizer **tokenizer) {
    if (*tokenizer == NULL)
        return;
    bert_tokenizer_destroy(&(*tokenizer)->bert);
    bpe_tokenizer_destroy(&(*tokenizer)->bpe);
    memory_free(*tokenizer);
    *tokenizer = NULL;
}

/* ---- handing on ---- */

size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer) {
    return tokenizer->bpe != NULL ? bpe_tokenizer_vocabulary_size(tokenizer->bpe)
                                  : bert_tokenizer_vocabulary_size(tokenizer->bert);
}

struct tokenizer_special tokenizer_special_ids(const struct tokenizer *tokenizer) {
    return tokenizer->bpe != NULL ? bpe_tokenizer_special_ids(tokenizer->bpe)
                                  : bert_tokenizer_special_ids(tokenizer->bert);
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id) {
    return tokenizer->bpe != NULL ? bpe_tokenizer_piece(tokenizer->bpe, id)
                                  : bert_tokenizer_piece(tokenizer->bert, id);
}

void tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                      struct token_list *list) {
    if (tokenizer->bpe != NULL)
        bpe_tokenizer_encode(tokenizer->bpe, text, length, false, list);
    else
        bert_tokenizer_encode(tokenizer->bert, text, length, list);
}

void tokenizer_encode_word(const struct tokenizer *tokenizer, const char *word, size_t length,
                           struct token_list *list) {
    if (tokenizer->bpe != NULL)
        bpe_tokenizer_encode(tokenizer->bpe, word, length, true, list);
    else
        bert_tokenizer_encode(tokenizer->bert, word, length, list);
}

char *tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                       bool is_skipping_special, size_t *length) {
    return tokenizer->bpe != NULL
               ? bpe_tokenizer_decode(tokenizer->bpe, ids, count, is_skipping_special, length)
               : bert_tokenizer_decode(tokenizer->bert, ids, count, is_skipping_special, length);
}
