/* Evaluation of a dataset: loss, and the task's metrics. */
#ifndef AUTOLORA_TRAIN_EVALUATE_H
#define AUTOLORA_TRAIN_EVALUATE_H

#include "train/trainer.h"

enum { EVALUATION_MAX_METRICS = 8 };

struct evaluation {
    double loss; /* mean over the labelled sequences or tokens, without label smoothing */
    size_t num_metrics;
    struct {
        char name[32];
        double value;
    } metrics[EVALUATION_MAX_METRICS];
    size_t score; /* which metric is the task's score */
};

/* What a model says about a dataset, in its order. */
struct predictions {
    int32_t *labels; /* [num_examples] or, token task, [tokens] */
    float *scores;   /* [num_examples] in a regression, whose labels are 0; else NULL */
};
void predictions_free(struct predictions *predictions);

/* Predictions for a dataset, labelled or not, on every rank; the dataset must fit the pipeline.
 * Returns the mean loss over what is labelled. Dropout is off. Ends early, with part of the
 * predictions, if the run is asked to stop. Free with predictions_free. Collective. */
double evaluate_predict(const struct trainer *trainer, struct pipeline *pipeline,
                        const struct point *point, const struct dataset *dataset,
                        struct predictions *predictions);

/* A GLUE task's metrics are those of io/glue.h; where it has two and the benchmark means them, the
 * score is their mean, listed as a third metric such as accuracy_and_f1. Token classification:
 * precision, recall, f1 (the score) of entities, and accuracy of tokens. Language modelling: the
 * negative loss (the score), so that more is better, and the perplexity, both of a token. The
 * result is the same on every rank; without metrics if the run was asked to stop meanwhile
 * (checkpoints_is_stopping). Collective. */
struct evaluation evaluate_dataset(const struct trainer *trainer, struct pipeline *pipeline,
                                   const struct point *point, const struct dataset *dataset);

/* The same of always giving one answer: the training set's most frequent label, or, in a
 * regression, its mean target. The loss is that of a regression only. Not collective. */
struct constant_answer {
    int32_t label;
    float score;
};
struct constant_answer evaluate_constant_answer(const struct dataset *train,
                                                const struct label_set *labels);
struct evaluation evaluate_constant(const struct glue_task *glue, const struct label_set *labels,
                                    const struct dataset *dataset, struct constant_answer answer);

void evaluation_add(struct evaluation *evaluation, const char *name, double value);

double evaluation_score(const struct evaluation *evaluation);
const char *evaluation_score_name(const struct evaluation *evaluation);

#endif
