/* The byte-level BPE tokenizers of GPT-2 and RoBERTa (Radford et al. 2019, Liu et al. 2019; the
 * Python package `tokenizers`, classes ByteLevel and BPE). Used by io/tokenizer.c only, whose
 * header says what the functions do. */
#ifndef AUTOLORA_IO_BPE_TOKENIZER_H
#define AUTOLORA_IO_BPE_TOKENIZER_H

#include "base/report.h"
#include "io/json.h"
#include "io/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpe_tokenizer;

/* Reads `vocab.json` and `merges.txt`. A vocabulary with <s> and </s> is RoBERTa's, another one
 * must have <|endoftext|> and is GPT-2's; their special tokens are recognised in the text, <mask>
 * with the white space before it. `tokenizer_config.json`, where it exists, may give
 * add_prefix_space (default: false) and added_tokens_decoder, which then replaces the special
 * tokens in the text. */
struct bpe_tokenizer *bpe_tokenizer_create_from_files(const char *model_directory,
                                                      struct problem *problem);

/* The same from `tokenizer.json`, whose root and path are given; its added_tokens are those
 * recognised in the text. A problem if it asks for anything else than byte-level BPE. Of
 * `tokenizer_config.json` only add_prefix_space is read. */
struct bpe_tokenizer *bpe_tokenizer_create_from_json(const char *model_directory,
                                                     const struct json *root, const char *path,
                                                     struct problem *problem);
void bpe_tokenizer_destroy(struct bpe_tokenizer **tokenizer);

size_t bpe_tokenizer_vocabulary_size(const struct bpe_tokenizer *tokenizer);
struct tokenizer_special bpe_tokenizer_special_ids(const struct bpe_tokenizer *tokenizer);
const char *bpe_tokenizer_piece(const struct bpe_tokenizer *tokenizer, int32_t id);

/* is_word: a blank is read before the text unless it begins with one. */
void bpe_tokenizer_encode(const struct bpe_tokenizer *tokenizer, const char *text, size_t length,
                          bool is_word, struct token_list *list);
char *bpe_tokenizer_decode(const struct bpe_tokenizer *tokenizer, const int32_t *ids, size_t count,
                           bool is_skipping_special, size_t *length);

#endif
