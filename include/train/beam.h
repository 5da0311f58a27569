/* Beam search as pure logic: the caller computes log-probabilities, this keeps the beams. Token for
 * token what `generate` of the Python package transformers (version 5, do_sample=False,
 * early_stopping=False, repetition_penalty=1) gives; one beam is its greedy search.
 *
 *     struct beam_search *search = beam_search_create(&options, context, num_context);
 *     log-probabilities of the token after the context, for beam 0
 *     while (beam_search_step(search, log_probabilities))
 *         reorder the caches by beam_search_parents, log-probabilities after beam_search_tokens
 *     beam_search_best(search, &count)
 *
 * A step takes the best max(2, 1 + end tokens) * num_beams continuations of all beams. Those that
 * end, with an end token or as they have max_new_tokens, are hypotheses if they are among the first
 * num_beams, and compete by score / tokens^length_penalty, where score is the sum of
 * log-probabilities; the num_beams best are kept. The first num_beams others go on. The search ends
 * when num_beams hypotheses are kept and the best beam's score / tokens^length_penalty is not above
 * the worst of them. Arithmetic is in single precision as there; of equal scores the lower beam,
 * then the lower token id comes first. */
#ifndef AUTOLORA_TRAIN_BEAM_H
#define AUTOLORA_TRAIN_BEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BEAM_MAX_END_TOKENS = 8 };

struct beam_options {
    size_t num_beams, vocabulary_size, max_new_tokens; /* 1 or more each */
    double length_penalty;
    size_t no_repeat_ngram; /* no N tokens come twice in the same order; 0: they may */
    int32_t end_tokens[BEAM_MAX_END_TOKENS];
    size_t num_end_tokens;
};

struct beam_search;

/* context [num_context], borrowed: tokens before the text that no_repeat_ngram counts too. To
 * transformers that is the whole prompt; with none, as in microsoft/LoRA, a text may copy names
 * from its prompt. */
struct beam_search *beam_search_create(const struct beam_options *options, const int32_t *context,
                                       size_t num_context);
void beam_search_destroy(struct beam_search **search);

/* log_probabilities [num_beams, vocabulary_size] of the token that follows each beam; of the first
 * step only the first row is read, later those of beams that are alive. NaN counts as impossible.
 * Returns whether the search goes on. */
bool beam_search_step(struct beam_search *search, const float *log_probabilities);

/* Of the beams that go on after a step: how many are alive (the first ones), their last tokens, and
 * which beam each continues. [num_beams], also beyond the living (the values of beam 0). */
size_t beam_search_num_alive(const struct beam_search *search);
const int32_t *beam_search_tokens(const struct beam_search *search);
const size_t *beam_search_parents(const struct beam_search *search);

/* The best hypothesis so far with its end token, if it ended with one; *count 0 if there is none.
 * Owned by the search. */
const int32_t *beam_search_best(const struct beam_search *search, size_t *count);

#endif
