/* Byte-level byte-pair encoding of one word (Sennrich et al. 2016, Radford et al. 2019; class BPE
 * of the Python package `tokenizers`). Used by io/bpe_tokenizer.c only. */
#ifndef AUTOLORA_IO_BPE_H
#define AUTOLORA_IO_BPE_H

#include "base/report.h"
#include "io/json.h"
#include "io/tokenizer.h"
#include "io/vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpe;

/* Reads the merges, which are pairs of pieces of the vocabulary in order of rank: a text of lines
 * "left right" behind an optional "#version" line, or the array of tokenizer.json, whose elements
 * are such lines or arrays of two. NULL and a problem (EXIT_DATA) if one is malformed or if a
 * piece, or what two make together, is not in the vocabulary. Both keep a copy of what they need.
 */
struct bpe *bpe_create_from_text(const struct vocabulary *vocabulary, const char *text, size_t size,
                                 const char *path, struct problem *problem);
struct bpe *bpe_create_from_json(const struct vocabulary *vocabulary, const struct json *merges,
                                 const char *path, struct problem *problem);
void bpe_destroy(struct bpe **bpe);

/* Whether each of the 256 bytes is a piece. Bytes that are none are left out. */
bool bpe_has_all_bytes(const struct bpe *bpe);

/* Appends the ids of a word of any bytes, length > 0. */
void bpe_encode(const struct bpe *bpe, const char *word, size_t length, struct token_list *list);

/* Writes the bytes that a piece stands for, at most strlen(piece), and returns how many; its own
 * bytes if it holds a character that stands for none. */
size_t bpe_piece_bytes(const char *piece, char *bytes);

#endif
