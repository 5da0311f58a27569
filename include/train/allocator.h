/* AdaLoRA (Zhang et al. 2023): which components of all modules together stay, and the penalty that
 * keeps them orthogonal. Follows the authors' code, as the peft package does, in what the paper
 * leaves open. The stage has singular values. */
#ifndef AUTOLORA_TRAIN_ALLOCATOR_H
#define AUTOLORA_TRAIN_ALLOCATOR_H

#include "io/checkpoint.h"
#include "model/stage.h"
#include "parallel/comm.h"

#include <stdbool.h>
#include <stddef.h>

/* The total rank at step t: initial up to `first`, target from `last` on, and between them
 *     floor(target + (initial - target) (1 - (t - first) / (last - first))^3). */
struct allocation_schedule {
    size_t initial, target; /* total ranks of the model */
    size_t first, last;     /* steps */
    size_t every;           /* between the two, masks are set at multiples of this step */
};
size_t allocation_budget(const struct allocation_schedule *schedule, size_t step);

struct allocator_options {
    struct allocation_schedule schedule;
    double beta1, beta2; /* decay of the averages of sensitivity and of its uncertainty */
};

struct allocator;

/* Borrows the stage. Collective. */
struct allocator *allocator_create(const struct comm *comm, const struct stage *stage,
                                   const struct allocator_options *options);
void allocator_destroy(struct allocator **allocator);

/* After update `step` (from 0): the importance of all components from the new factors and the
 * gradient, times gradient_scale, that led to them; at the schedule's steps the singular values of
 * the components outside of the budget are set to 0. They may come back until step `last`, from
 * which on importance and choice stay. Ties: the module, then the component, of lower number.
 * Collective. */
void allocator_update(struct allocator *allocator, size_t step, const float *gradient,
                      double gradient_scale, float *factors);

/* Importance of each component [modules of the model * components], the same on every rank. */
const double *allocator_scores(const struct allocator *allocator);
/* Whether it was kept by the last mask. */
const bool *allocator_kept(const struct allocator *allocator);
/* Singular values of all components, [modules of the model * components], on rank 0 alone.
 * Collective. */
void allocator_singular_values(const struct allocator *allocator, const float *factors,
                               float *values);
/* Components kept in each module of the model. */
void allocator_ranks(const struct allocator *allocator, size_t *ranks);

/* Its state, to a checkpoint (writer: of rank 0, else NULL) and back, when allocator_create has
 * made it anew. A problem may be one rank's alone. Collective. */
void allocator_write(const struct allocator *allocator, struct checkpoint_writer *writer,
                     struct problem *problem);
void allocator_read(struct allocator *allocator, const struct checkpoint *checkpoint,
                    struct problem *problem);

/* weight / n times the sum of ||X X^T - I|| (Frobenius) over the n matrices X [rank, width] that
 * are A or B of a module; adds its gradient. The same on every rank. Collective. */
double orthogonality_penalty(const struct comm *comm, const struct stage *stage, double weight,
                             const float *factors, float *gradient);

#endif
