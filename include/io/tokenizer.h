/* Text to token ids and back, equal to Hugging Face's Python package `tokenizers`: BERT's WordPiece
 * and the byte-level BPE of GPT-2 and RoBERTa. */
#ifndef AUTOLORA_IO_TOKENIZER_H
#define AUTOLORA_IO_TOKENIZER_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Reads the tokenizer of a model directory: `vocab.txt` (io/bert_tokenizer.h), else
 * `tokenizer.json` (WordPiece or byte-level BPE), else `vocab.json` with `merges.txt`
 * (io/bpe_tokenizer.h); some options are taken from `tokenizer_config.json`. NULL and a problem
 * (EXIT_DATA) if something is missing or inconsistent. Not collective. */
struct tokenizer *tokenizer_create(const char *model_directory, struct problem *problem);
void tokenizer_destroy(struct tokenizer **tokenizer);

size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer);

/* Ids of the special tokens of this vocabulary (-1: it has none), and how sequences are made with
 * them: [CLS] a [SEP] b [SEP] with token types 0 and 1 (BERT), <s> a </s></s> b </s> without
 * (RoBERTa). GPT-2 has <|endoftext|> alone, as `separate`. */
struct tokenizer_special {
    int32_t unknown, classify /* [CLS], <s> */, separate /* [SEP], </s> */, pad, mask;
    size_t separators_between; /* a and b: 1 or 2 */
    bool has_token_types;
};
struct tokenizer_special tokenizer_special_ids(const struct tokenizer *tokenizer);

/* Piece of an id ("##ing"), with a character for each byte if byte-level ("\u0120the"); NULL if no
 * piece has the id. Owned by the tokenizer. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id);

/* A growing list of ids; starts as {0}, freed with token_list_free. */
struct token_list {
    int32_t *ids;
    size_t count, capacity;
};
void token_list_append(struct token_list *list, int32_t id);
void token_list_free(struct token_list *list);

/* Appends the ids of `length` bytes of UTF-8 text, without special tokens around it. Invalid UTF-8
 * is read as Python's bytes.decode("utf-8", "replace") would read it. Strings of special tokens in
 * the text ("[SEP]") are recognised as Hugging Face does. Thread-safe. */
void tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                      struct token_list *list);

/* The same for one word of a sentence that is given as words: byte-level BPE reads a space before
 * it (add_prefix_space), WordPiece makes no difference. */
void tokenizer_encode_word(const struct tokenizer *tokenizer, const char *word, size_t length,
                           struct token_list *list);

/* Text of `count` ids as the package's decode() gives it, in valid UTF-8: *length bytes (a zero
 * byte may be among them) and a '\0'. Ids out of range are left out, special tokens where that is
 * asked for. Free with memory_free. Thread-safe. */
char *tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                       bool is_skipping_special, size_t *length);

#endif
