/* BERT's tokenizer: text normalised, cut into words and these into WordPiece's pieces (Devlin et
 * al. 2019; the Python package `tokenizers`, classes BertNormalizer, BertPreTokenizer and
 * WordPiece). Used by io/tokenizer.c only, whose header says what the functions do. */
#ifndef AUTOLORA_IO_BERT_TOKENIZER_H
#define AUTOLORA_IO_BERT_TOKENIZER_H

#include "base/report.h"
#include "io/json.h"
#include "io/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bert_tokenizer;

/* Reads `vocab.txt` (one piece a line; the line number is the id) and the options do_lower_case,
 * strip_accents, tokenize_chinese_chars of `tokenizer_config.json` where that file exists
 * (defaults: true, null = as do_lower_case, true). NULL and a problem (EXIT_DATA) if something is
 * missing or inconsistent. */
struct bert_tokenizer *bert_tokenizer_create_from_files(const char *model_directory,
                                                        struct problem *problem);

/* The same with the vocabulary and the defaults of the options from `tokenizer.json`, whose root
 * and path are given. A problem if it asks for anything else than BERT's tokenizer. */
struct bert_tokenizer *bert_tokenizer_create_from_json(const char *model_directory,
                                                       const struct json *root, const char *path,
                                                       struct problem *problem);
void bert_tokenizer_destroy(struct bert_tokenizer **tokenizer);

size_t bert_tokenizer_vocabulary_size(const struct bert_tokenizer *tokenizer);
struct tokenizer_special bert_tokenizer_special_ids(const struct bert_tokenizer *tokenizer);
const char *bert_tokenizer_piece(const struct bert_tokenizer *tokenizer, int32_t id);

/* A word without any piece becomes the unknown token, so does a word of more than 100 characters.
 * Text of control characters or white space only appends nothing. */
void bert_tokenizer_encode(const struct bert_tokenizer *tokenizer, const char *text, size_t length,
                           struct token_list *list);

/* Words separated by a space, but for those that begin with one of . ? ! , n't 'm 's 've 're. */
char *bert_tokenizer_decode(const struct bert_tokenizer *tokenizer, const int32_t *ids,
                            size_t count, bool is_skipping_special, size_t *length);

#endif
