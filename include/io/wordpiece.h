/* A WordPiece vocabulary: its file, the hash table of its pieces, and the cutting of one word into
 * pieces. Used by the tokenizer only. */
#ifndef AUTOLORA_IO_WORDPIECE_H
#define AUTOLORA_IO_WORDPIECE_H

#include "base/report.h"
#include "io/json.h"
#include "io/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

enum {
    WORDPIECE_MAX_CHARACTERS = 100, /* a longer word is unknown, as in the Python package */
    WORDPIECE_MAX_BYTES = 4 * WORDPIECE_MAX_CHARACTERS,
};

struct wordpiece;

/* Reads one piece a line (LF or CR LF) from the file `path`; NULL and a problem (EXIT_DATA) if it
 * is empty or has a line that is empty, too long, no UTF-8 or there twice. */
struct wordpiece *wordpiece_create(const char *path, struct problem *problem);
/* The same with the vocabulary of tokenizer.json, whose ids must be 0, 1 and so on. */
struct wordpiece *wordpiece_create_from_json(const struct json *object, const char *path,
                                             struct problem *problem);
void wordpiece_destroy(struct wordpiece **wordpiece);

size_t wordpiece_size(const struct wordpiece *wordpiece);
/* Text of an id, NULL if out of range; id of a text, -1 if it is no piece. */
const char *wordpiece_text(const struct wordpiece *wordpiece, int32_t id);
int32_t wordpiece_find(const struct wordpiece *wordpiece, const char *text);

/* Appends the ids of a normalised word of up to WORDPIECE_MAX_BYTES bytes of valid UTF-8: the
 * longest piece first, from the left; `unknown` alone if some part of the word is no piece. */
void wordpiece_encode(const struct wordpiece *wordpiece, const char *word, size_t bytes,
                      int32_t unknown, struct token_list *list);

#endif
