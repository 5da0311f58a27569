/* The pipeline: passes of a batch over all stages, 1F1B, one microbatch travelling while the next
 * is computed. Every function is collective over the stages' communicator; all ranks give the same
 * batch. */
#ifndef AUTOLORA_TRAIN_PIPELINE_H
#define AUTOLORA_TRAIN_PIPELINE_H

#include "base/timer.h"
#include "model/stage.h"
#include "parallel/layout.h"
#include "train/batch.h"

#include <stdbool.h>
#include <stddef.h>

struct pipeline;

struct pipeline_options {
    struct capacity capacity; /* of one microbatch (batch_capacity) */
    size_t largest_count;     /* microbatches of the largest batch (batch_largest_count) */
    bool keeps_tangents;      /* room for pipeline_tangent: activations of a whole batch */
    int num_threads;
    struct timer_tree *timers; /* borrowed; NULL: none */
};

/* `stage` is this rank's and is borrowed. */
struct pipeline *pipeline_create(const struct comms *comms, const struct stage *stage,
                                 const struct pipeline_options *options);
void pipeline_destroy(struct pipeline **pipeline);

/* Loss of the batch (mean over its labels) on every rank, and this stage's gradients: factors
 * [factors.size] and, unless gradient->selection is NULL, d loss / d q [selection_size]. Sums over
 * microbatches run in their order. With `keep`, what pipeline_tangent needs stays until the next
 * pass with keep. */
double pipeline_gradient(struct pipeline *pipeline, const struct point *point,
                         const struct batch *batch, bool keep, struct gradient *gradient);

/* After pipeline_gradient with keep at the same point and batch: the derivative of d loss / d q
 * along `direction` (of the factors), [selection_size]. */
void pipeline_tangent(struct pipeline *pipeline, const struct point *point, const float *direction,
                      const struct batch *batch, float *t_d_selection);

/* Forward only: loss on every rank; in the last stage `consume` is called with the logits [rows,
 * labels] of each microbatch. */
typedef void (*pipeline_consumer)(void *context, const struct batch *batch, size_t microbatch,
                                  const float *logits);
double pipeline_evaluate(struct pipeline *pipeline, const struct point *point,
                         const struct batch *batch, pipeline_consumer consume, void *context);

/* Norm of a vector in the factors' layout over all stages: entry by entry in the model's order, in
 * double precision, so that it does not depend on the decomposition. */
double pipeline_norm(const struct pipeline *pipeline, const float *factors);

struct timer_tree *pipeline_timers(const struct pipeline *pipeline);
const struct stage *pipeline_stage(const struct pipeline *pipeline);
const struct comms *pipeline_comms(const struct pipeline *pipeline);

#endif
