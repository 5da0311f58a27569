/* Retraining: adapters at the chosen ranks, on training and validation data together. */
#ifndef AUTOLORA_TRAIN_RETRAIN_H
#define AUTOLORA_TRAIN_RETRAIN_H

#include "base/report.h"
#include "io/checkpoint.h"
#include "train/evaluate.h"

#include <stdbool.h>
#include <stddef.h>

enum retrain_scaling {
    SCALING_ALPHA_OVER_RANK, /* s = lora_alpha / rank of the module (the paper) */
    SCALING_ALPHA_OVER_K     /* s = lora_alpha / adapter.rank, the same for all modules, as in the
                                search */
};

/* Keys retrain.*. */
struct retrain_options {
    double epochs;
    size_t steps;              /* 0: from epochs */
    double learning_rate;      /* 0: optimizer.learning_rate */
    int scaling;               /* enum retrain_scaling */
    bool evaluates_each_epoch; /* key "evaluate_every_epoch" */
};

struct retrain_result {
    size_t num_steps, num_tokens;
    double seconds, loss_train; /* at the last step */
    /* After the last step; num_metrics 0 where there is no such split. */
    struct evaluation dev, other_dev, test;
    double best_score; /* best dev score of any evaluation, for information only */
    size_t best_step;
};

/* What a method adds to the training; every function is collective over trainer->comms.world. */
struct retrain_extension {
    void *context;
    /* Adds to the gradient of the loss. */
    void (*add_gradient)(void *context, const float *factors, float *gradient);
    /* After update `step` (from 0) along gradient_scale times the gradient. A problem, on failing
     * output, may be this rank's alone. */
    void (*after_update)(void *context, size_t step, const float *gradient, double gradient_scale,
                         float *factors, struct problem *problem);
    /* Its own state, to a checkpoint (writer: of rank 0, else NULL) and back. */
    void (*write)(void *context, struct checkpoint_writer *writer, struct problem *problem);
    void (*read)(void *context, const struct checkpoint *checkpoint, struct problem *problem);
    /* After the last update: the model as it will be used, with its factors, in place of the one
     * that was trained. They stay with the context. False and a problem, the same on every rank. */
    bool (*finish)(void *context, const float *factors, const struct stage **stage,
                   const float **used_factors, struct problem *problem);
};

/* Updates of the whole training. */
size_t retrain_num_steps(const struct trainer *trainer, const struct retrain_options *options);

/* Trains the factors [stage->factors.size] (stage without selection variables) from where they are,
 * on the whole training set, D_val included; evaluates on dev after each epoch and at the end. The
 * result's metrics are of the factors that it leaves. False and a problem, the same on every rank,
 * on a non-finite loss or failing output. extension: NULL for none. Collective over
 * trainer->comms.world.
 */
bool retrain_run(const struct trainer *trainer, const struct retrain_options *options,
                 const struct retrain_extension *extension, const struct stage *stage,
                 float *factors, struct retrain_result *result, struct problem *problem);

/* For a plan: takes the memory that retrain_run takes on this rank, calls `look` and frees it. Not
 * collective. */
void retrain_rehearse(const struct trainer *trainer, const struct retrain_options *options,
                      const struct stage *stage, rehearsal_look look, void *context);

#endif
