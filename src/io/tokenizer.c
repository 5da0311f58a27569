/* Finds the kind of a model directory's tokenizer and hands all calls on to it. */
#include "io/tokenizer.h"

#include "base/memory.h"
#include "io/bert_tokenizer.h"

struct tokenizer {
    struct bert_tokenizer *bert;
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

/* ---- tokenizers ---- */

struct tokenizer *tokenizer_create(const char *model_directory, struct problem *problem) {
    struct tokenizer *tokenizer = memory_allocate(1, sizeof(*tokenizer), "tokenizer");
    tokenizer->bert = bert_tokenizer_create(model_directory, problem);
    if (tokenizer->bert == NULL)
        tokenizer_destroy(&tokenizer);
    return tokenizer;
}

void tokenizer_destroy(struct tokenizer **tokenizer) {
    if (*tokenizer == NULL)
        return;
    bert_tokenizer_destroy(&(*tokenizer)->bert);
    memory_free(*tokenizer);
    *tokenizer = NULL;
}

size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer) {
    return bert_tokenizer_vocabulary_size(tokenizer->bert);
}

struct tokenizer_special tokenizer_special_ids(const struct tokenizer *tokenizer) {
    return bert_tokenizer_special_ids(tokenizer->bert);
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id) {
    return bert_tokenizer_piece(tokenizer->bert, id);
}

void tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                      struct token_list *list) {
    bert_tokenizer_encode(tokenizer->bert, text, length, list);
}

void tokenizer_encode_word(const struct tokenizer *tokenizer, const char *word, size_t length,
                           struct token_list *list) {
    bert_tokenizer_encode(tokenizer->bert, word, length, list);
}

char *tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                       bool is_skipping_special, size_t *length) {
    return bert_tokenizer_decode(tokenizer->bert, ids, count, is_skipping_special, length);
}
