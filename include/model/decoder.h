/* A causal model one token at a time: the keys and values of what came before are kept. Works on a
 * group of prompts with `num_beams` texts each: text r continues prompt r / num_beams. Knows no
 * MPI; each stage has a decoder for its own blocks. */
#ifndef AUTOLORA_MODEL_DECODER_H
#define AUTOLORA_MODEL_DECODER_H

#include "model/stage.h"

struct decoder_options {
    size_t num_prompts, num_beams; /* at most, in a group */
    size_t prompt_tokens;          /* at most, of all prompts of a group */
    size_t max_new_tokens;
};

struct decoder;

struct decoder *decoder_create(const struct stage *stage, const struct decoder_options *options);
void decoder_destroy(struct decoder **decoder);

/* Starts a group: keeps the keys and values of its prompts, of which stage_forward has just been
 * done on this slot. */
void decoder_start(struct decoder *decoder, const struct microbatch *prompts, struct slot *slot);

/* The rows of one step: `count` texts that go on, their last tokens, and the texts that each
 * continues (itself, or the beam that it was copied from; not read in the first step). */
struct decoder_rows {
    size_t count;
    const size_t *texts, *parents; /* [count] */
    const int32_t *tokens;         /* [count] */
};

/* x [count, hidden] of this token for each row in place: from the stage before, or, in the first
 * stage, whatever; through this stage's blocks. */
void decoder_step(struct decoder *decoder, const struct point *point,
                  const struct decoder_rows *rows, float *x);

#endif
