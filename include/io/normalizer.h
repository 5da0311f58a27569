/* Text normalisation of BERT (class BertNormalizer of the Python package `tokenizers`), one code
 * point at a time: control characters removed, white space unified, ideographs set apart, accents
 * stripped (canonical decomposition without non-spacing marks), lower-cased. */
#ifndef AUTOLORA_IO_NORMALIZER_H
#define AUTOLORA_IO_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct normalizer {
    bool is_lower_casing;
    bool is_stripping_accents;
    bool is_spacing_ideographs;
};

enum normal_kind {
    NORMAL_WORD,        /* belongs to a word */
    NORMAL_PUNCTUATION, /* a word of its own */
    NORMAL_SPACE,       /* ends a word */
    NORMAL_BARRIER,     /* no character; marks before and after it keep their places */
};

/* One element of normalised text. */
struct normal_character {
    enum normal_kind kind;
    int32_t code_point;
    /* Canonical combining class. Characters of a class other than 0 that follow each other must be
     * sorted by it (stable); always 0 where accents are not stripped. */
    uint8_t combining_class;
};

enum { NORMALIZER_MAX_CHARACTERS = 8 };

/* Writes what becomes of one code point of the raw text (a Unicode scalar value) and returns how
 * many elements that is; 0 means that the code point is removed. Thread-safe. */
size_t normalizer_apply(const struct normalizer *normalizer, int32_t code_point,
                        struct normal_character characters[NORMALIZER_MAX_CHARACTERS]);

/* Canonical combining class of a character that normalizer_apply has written. */
uint8_t normalizer_combining_class(int32_t code_point);

#endif
