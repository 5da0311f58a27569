/* Pieces and their ids, as vocab.json and tokenizer.json give them. Used by the tokenizers only. */
#ifndef AUTOLORA_IO_VOCABULARY_H
#define AUTOLORA_IO_VOCABULARY_H

#include "base/report.h"
#include "io/json.h"
#include "io/text_table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts as {0}, freed with vocabulary_free. */
struct vocabulary {
    char **pieces; /* [size]; NULL where no piece has the id */
    size_t size, capacity;
    size_t num_listed; /* pieces of the object that was read */
    struct text_table ids;
};

/* Reads an object of pieces and ids; gaps between the ids are allowed. False and a problem
 * (EXIT_DATA) if it is none, if an id is no whole number, far larger than the number of pieces or
 * 2^24, or is given twice. `path` names the file in messages. */
bool vocabulary_read(struct vocabulary *vocabulary, const struct json *object, const char *path,
                     struct problem *problem);
void vocabulary_free(struct vocabulary *vocabulary);

/* Adds one more piece, or checks that a piece which is there has this id. */
bool vocabulary_add(struct vocabulary *vocabulary, const char *piece, size_t id, const char *path,
                    struct problem *problem);

/* -1 if the text is no piece; NULL if no piece has the id. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *piece);
const char *vocabulary_piece(const struct vocabulary *vocabulary, int32_t id);

#endif
