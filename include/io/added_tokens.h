/* Tokens that are found in the text before it is cut into words (class AddedVocabulary of the
 * Python package `tokenizers`). Used by the tokenizers only. */
#ifndef AUTOLORA_IO_ADDED_TOKENS_H
#define AUTOLORA_IO_ADDED_TOKENS_H

#include "base/report.h"
#include "io/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct added_token {
    char *text;
    size_t length, id;
    bool takes_left, takes_right; /* lstrip, rstrip: with the white space on that side */
    bool is_normalized;           /* found after those that are not, in what is left of the text */
    bool is_special;
};

/* Starts as {0}, freed with added_tokens_free. */
struct added_tokens {
    struct added_token *tokens; /* [count] */
    size_t count, capacity;
    bool begins[2][256]; /* [is_normalized][byte] */
};

void added_tokens_free(struct added_tokens *added);
/* Copies the text, which must not be empty. */
void added_tokens_add(struct added_tokens *added, const struct added_token *token);

/* Reads the array `added_tokens` of tokenizer.json or the object `added_tokens_decoder` of
 * tokenizer_config.json, whose members are named by their ids; NULL holds none. False and a problem
 * (EXIT_DATA) if it is malformed or asks for single_word, which is not supported. */
bool added_tokens_read(struct added_tokens *added, const struct json *list, const char *path,
                       struct problem *problem);

/* The first token at or after `from` in valid UTF-8, of those that begin at the same place the
 * longest; NULL if there is none. It takes the bytes from *start (at least `from`) to *stop. */
const struct added_token *added_tokens_next(const struct added_tokens *added, bool is_normalized,
                                            const char *text, size_t length, size_t from,
                                            size_t *start, size_t *stop);

#endif
