/* Adam and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), learning-rate schedules, clipping.
 */
#ifndef AUTOLORA_TRAIN_OPTIMIZER_H
#define AUTOLORA_TRAIN_OPTIMIZER_H

#include "model/parameters.h"

#include <stddef.h>

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };

/* Keys optimizer.*: how the factors are trained in both phases. */
struct optimizer_options {
    double learning_rate;
    double beta1, beta2, epsilon;
    double weight_decay;    /* decoupled */
    double max_grad_norm;   /* 0: no clipping */
    int schedule;           /* enum schedule_kind */
    double warmup_fraction; /* of the steps of the phase: linear from 0 */
    size_t batch_size;      /* sequences of one update */
};

/* Learning rate of update `step` (from 0) of `num_steps`. */
double schedule_rate(enum schedule_kind kind, double peak, double warmup_fraction, size_t step,
                     size_t num_steps);

/* State of one Adam: both moments and the number of updates done. */
struct adam {
    float *first, *second; /* [size] */
    size_t size, num_updates;
};
struct adam adam_create(size_t size);
void adam_free(struct adam *adam);

/* How one update is made. */
struct adam_step {
    double rate, beta1, beta2, epsilon;
    double decay;          /* weight decay */
    int is_decoupled;      /* AdamW; else added to the gradient (L2) */
    double gradient_scale; /* multiplies the gradient first: clipping */
};

/* values -= ... Entries of `table` without weight decay get none; table NULL: all decay alike.
 * Element-wise, so the result does not depend on how the vector is split among stages. */
void adam_update(struct adam *adam, const struct adam_step *step,
                 const struct parameter_table *table, const float *gradient, float *values);

#endif
