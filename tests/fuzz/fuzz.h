/* What the fuzzing harnesses share. Each one, fuzz_NAME.c, gives arbitrary bytes to one reader of
 * the program. It is linked with libFuzzer (make fuzz), or with replay.c, which gives it the inputs
 * that are kept (make check).
 *
 * Around each input: every block is freed again, and no more memory was in use at a time than
 * FUZZ_MULTIPLE times the input's size and FUZZ_CONSTANT bytes. */
#ifndef AUTOLORA_FUZZ_H
#define AUTOLORA_FUZZ_H

#include "base/memory.h"
#include "base/report.h"
#include "io/tokenizer.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FUZZ_MULTIPLE = 128, FUZZ_CONSTANT = 1 << 20 };

/* ---- a harness has both ---- */

/* Before the first input: what all inputs share. */
void fuzz_prepare(void);
/* One input. */
void fuzz_one(const char *bytes, size_t size);

/* ---- what it is made of ---- */

/* A piece of the input. */
struct part {
    const char *bytes;
    size_t size;
};
/* Cuts an input at lines of "=====" into `count` parts; missing ones have bytes NULL. */
void fuzz_cut(const char *bytes, size_t size, struct part *parts, size_t count);
/* The first byte of the part, which goes; 0 where there is none. */
unsigned fuzz_take_byte(struct part *part);
/* A copy that ends in a zero byte; free with memory_free. */
char *fuzz_text(struct part part);

/* A folder of this process in TMPDIR, and the path of a file in it (of the last few calls). */
const char *fuzz_folder(void);
const char *fuzz_path(const char *name);
/* Writes a file there; removes it where the part is missing. Its path as fuzz_path. */
const char *fuzz_put(const char *name, struct part part);

/* A file of so many bytes counts as a part of this input. */
void fuzz_count_file(size_t size);

/* Small vocabularies, as text: WordPiece's vocab.txt; vocab.json and merges.txt of all bytes. */
const char *fuzz_vocabulary(void);
struct tokenizer *fuzz_wordpiece_tokenizer(void);
struct tokenizer *fuzz_bpe_tokenizer(void);
/* Encodes the text and decodes the ids. */
void fuzz_use_tokenizer(const struct tokenizer *tokenizer, struct part text);

/* A reader that fails says why, one that does not says nothing. */
void fuzz_check(bool is_good, const struct problem *problem);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
