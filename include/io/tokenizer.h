/* WordPiece tokenizer, equal to Hugging Face's BertTokenizerFast (Devlin et al. 2019; the Python
 * package `tokenizers`, classes BertNormalizer, BertPreTokenizer and WordPiece). */
#ifndef AUTOLORA_IO_TOKENIZER_H
#define AUTOLORA_IO_TOKENIZER_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Reads the tokenizer of a model directory: `vocab.txt` (one piece a line; the line number is the
 * id) and the options do_lower_case, strip_accents, tokenize_chinese_chars of
 * `tokenizer_config.json` where that file exists (defaults: true, null = as do_lower_case, true).
 * NULL and a problem (EXIT_DATA) if something is missing or inconsistent. Not collective. */
struct tokenizer *tokenizer_create(const char *model_directory, struct problem *problem);
void tokenizer_destroy(struct tokenizer **tokenizer);

size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer);

/* Ids of the special tokens of this vocabulary (-1: it has none), and how sequences are made with
 * them: [CLS] a [SEP] b [SEP] with token types 0 and 1 (BERT), <s> a </s></s> b </s> without
 * (RoBERTa). */
struct tokenizer_special {
    int32_t unknown, classify /* [CLS], <s> */, separate /* [SEP], </s> */, pad, mask;
    size_t separators_between; /* a and b: 1 or 2 */
    bool has_token_types;
};
struct tokenizer_special tokenizer_special_ids(const struct tokenizer *tokenizer);

/* Piece of an id ("##ing"); NULL if out of range. Owned by the tokenizer. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id);

/* A growing list of ids; starts as {0}, freed with token_list_free. */
struct token_list {
    int32_t *ids;
    size_t count, capacity;
};
void token_list_append(struct token_list *list, int32_t id);
void token_list_free(struct token_list *list);

/* Appends the ids of `length` bytes of UTF-8 text, without special tokens. Invalid UTF-8 is read as
 * Python's bytes.decode("utf-8", "replace") would read it. A word without any piece becomes the
 * unknown token, so does a word of more than 100 characters. Text of control characters or
 * white space only appends nothing. Special-token strings in the text ("[SEP]") are recognised
 * as Hugging Face does. Thread-safe. */
void tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                      struct token_list *list);

#endif
