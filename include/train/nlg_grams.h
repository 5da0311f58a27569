/* The n-grams of many texts as numbers: equal n-grams of all texts have the same number, n-grams of
 * different length different ones. */
#ifndef AUTOLORA_TRAIN_NLG_GRAMS_H
#define AUTOLORA_TRAIN_NLG_GRAMS_H

#include <stddef.h>
#include <stdint.h>

enum nlg_split {
    NLG_SPLIT_EMPTY, /* at spaces; an empty text is one empty word */
    NLG_SPLIT_SPACE, /* at all white space; an empty text has no words */
};

#define NLG_NO_GRAM UINT32_MAX

struct nlg_span { /* n-grams of one length in the order of the text */
    const uint32_t *grams;
    size_t count;
};

struct nlg_grams;
struct nlg_grams *nlg_grams_create(size_t max_order);
void nlg_grams_destroy(struct nlg_grams **grams);
/* Appends a text, whose number is how many there were. Spans of before are invalid then. */
void nlg_grams_add(struct nlg_grams *grams, const char *tokens, enum nlg_split split);

size_t nlg_grams_count(const struct nlg_grams *grams); /* all numbers are below */
size_t nlg_grams_words(const struct nlg_grams *grams, size_t text);
/* The n-grams of order + 1 words, order < max_order. */
struct nlg_span nlg_grams_span(const struct nlg_grams *grams, size_t text, size_t order);
/* The n-gram without its last word; NLG_NO_GRAM for a word. */
uint32_t nlg_grams_start(const struct nlg_grams *grams, uint32_t gram);

#endif
