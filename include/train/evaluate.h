/* Evaluation of a dataset: loss, and the task's metrics. */
#ifndef AUTOLORA_TRAIN_EVALUATE_H
#define AUTOLORA_TRAIN_EVALUATE_H

#include "train/trainer.h"

enum { EVALUATION_MAX_METRICS = 8 };

struct evaluation {
    double loss; /* mean over the labelled sequences or tokens */
    size_t num_metrics;
    struct {
        char name[32];
        double value;
    } metrics[EVALUATION_MAX_METRICS];
    size_t score; /* which metric is the task's score */
};

/* Sequence classification: matthews_correlation (the score) and accuracy. Token classification:
 * precision, recall, f1 (the score) of entities, and accuracy of tokens. Dropout is off. The result
 * is the same on every rank. Collective. */
struct evaluation evaluate_dataset(const struct trainer *trainer, struct pipeline *pipeline,
                                   const struct point *point, const struct dataset *dataset);

double evaluation_score(const struct evaluation *evaluation);
const char *evaluation_score_name(const struct evaluation *evaluation);

#endif
