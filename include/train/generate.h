/* Generation: beam search (train/beam.h) over the pipeline. Contexts are taken in groups of
 * `prompts_at_once`; with several stages as many groups are under way, so that each stage has one
 * to work on, and replicas share the groups. What is generated depends neither on the number of
 * stages and replicas nor of threads, but for rounding in the products. */
#ifndef AUTOLORA_TRAIN_GENERATE_H
#define AUTOLORA_TRAIN_GENERATE_H

#include "io/dataset_lm.h"
#include "model/stage.h"
#include "parallel/layout.h"
#include "train/beam.h"

struct generation_options {
    struct beam_options beam; /* vocabulary_size is set from the model */
    size_t prompts_at_once;
    int num_threads;
};

/* Whether each context leaves room for max_new_tokens among the model's positions; else EXIT_DATA.
 * Not collective. */
bool generate_check(const struct architecture *architecture, const struct beam_options *beam,
                    const struct lm_references *references, struct problem *problem);

/* The best text of each context, without its end token. Owns its arrays. */
struct generated {
    size_t count, num_tokens;
    size_t *offsets; /* [count + 1] into tokens */
    int32_t *tokens;
};
void generated_free(struct generated *generated);

/* Texts for all contexts; on the world's rank 0 (elsewhere `generated` is empty). False and a
 * problem (EXIT_DATA), the same on every rank, if generate_check has one. Collective. */
bool generate_texts(const struct comms *comms, const struct stage *stage, const struct point *point,
                    const struct generation_options *options,
                    const struct lm_references *references, struct generated *generated,
                    struct problem *problem);

/* For a plan: takes the memory of generate_texts on this rank, calls `look` and frees it. Not
 * collective. */
void generate_rehearse(const struct comms *comms, const struct stage *stage,
                       const struct generation_options *options,
                       const struct lm_references *references, void (*look)(void *context),
                       void *context);

#endif
