/* Evaluation of language modelling by what it generates. */
#ifndef AUTOLORA_TRAIN_EVALUATE_TEXTS_H
#define AUTOLORA_TRAIN_EVALUATE_TEXTS_H

#include "io/tokenizer.h"
#include "train/evaluate.h"
#include "train/generate.h"

struct text_evaluation {
    struct generation_options options;
    const struct tokenizer *tokenizer; /* rank 0 */
    const char *output_dir;
    const struct lm_references *dev, *test; /* test without contexts: none */
};

/* Generates a text for each context, writes texts and references into the output directory as
 * generated-SPLIT.txt and references-SPLIT.txt (io/nlg_files.h), and adds bleu (the score), nist,
 * rouge_l and cider to the evaluation. Does nothing where there are no contexts. False and a
 * problem, the same on every rank. Collective. */
bool evaluate_texts(const struct text_evaluation *texts, const struct comms *comms,
                    const struct stage *stage, const struct point *point, const char *split,
                    const struct lm_references *references, struct evaluation *evaluation,
                    struct problem *problem);

/* Writes a text for each context into a file, a line each. False and a problem, the same on every
 * rank. Collective. */
bool texts_generate(const struct text_evaluation *texts, const struct comms *comms,
                    const struct stage *stage, const struct point *point,
                    const struct lm_references *contexts, const char *path,
                    struct problem *problem);

#endif
