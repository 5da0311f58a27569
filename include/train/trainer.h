/* What both phases, search and retraining, are given. */
#ifndef AUTOLORA_TRAIN_TRAINER_H
#define AUTOLORA_TRAIN_TRAINER_H

#include "base/timer.h"
#include "io/dataset.h"
#include "io/progress.h"
#include "io/trace.h"
#include "parallel/layout.h"
#include "train/optimizer.h"
#include "train/pipeline.h"

#include <stddef.h>
#include <stdint.h>

/* Phases in the upper bits of the step that keys random numbers, so that no two phases draw the
 * same ones. */
enum phase { PHASE_SEARCH = 1, PHASE_RETRAIN = 2 };

/* What a plan looks at where a phase has taken its memory. */
typedef void (*rehearsal_look)(void *context, enum phase phase, const struct stage *stage,
                               size_t num_steps);

struct text_evaluation;
struct checkpoints;
struct training_state;

struct trainer {
    struct comms comms;
    size_t grid_row, grid_rows; /* of the stages' process grid; 0, 1: none */
    uint64_t seed;
    struct optimizer_options optimizer;
    size_t microbatch_tokens;
    int num_threads;
    const struct dataset *train; /* D_train and D_val together */
    size_t num_own_validation; /* its last examples are the user's own D_val; 0: to be split off */
    const struct dataset *dev, *other_dev,
        *test;                    /* NULL where absent; other_dev: MNLI's mismatched */
    const struct glue_task *glue; /* NULL: the task is none of GLUE's */
    const struct label_set *labels;
    const struct text_evaluation *texts; /* train/evaluate_texts.h; NULL: nothing is generated */
    struct trace *trace;                 /* on rank 0, else NULL */
    struct progress *progress;           /* on rank 0, else NULL */
    struct checkpoints *checkpoints;     /* train/checkpoints.h; NULL: none */
    size_t trace_every;
    struct timer_tree *timers; /* NULL: none */
    size_t timeline_step;      /* the iteration of each phase whose timeline is recorded; 0: none */
};

/* The step that keys random numbers. */
uint64_t phase_step(enum phase phase, size_t step);

/* Tokens of the longest example of the datasets that are there. */
size_t trainer_longest(const struct trainer *trainer);

/* Takes away what no batch needs: one is at most the largest dataset. */
void trainer_limit_batch(struct trainer *trainer);

/* A pipeline whose slots hold any batch of the trainer's data. Collective. */
struct pipeline *trainer_pipeline(const struct trainer *trainer, const struct stage *stage,
                                  bool keeps_tangents);
struct batch *trainer_batch(const struct trainer *trainer);

/* What a gradient of this norm is multiplied by: clipping. */
double trainer_gradient_scale(const struct trainer *trainer, double norm);

/* One update of the factors by AdamW with clipping; returns the gradient's norm before clipping.
 * Where that is not finite the factors stay as they are. Collective. */
double trainer_update_factors(const struct trainer *trainer, const struct pipeline *pipeline,
                              double rate, const float *gradient, struct adam *adam,
                              float *factors);

/* False on every rank, with EXIT_NUMERICS, if the loss (the same on all ranks) of these factors is
 * not finite. Collective. */
bool trainer_check_loss(double loss, const struct pipeline *pipeline, const float *factors,
                        const char *phase, const char *what, size_t step, struct problem *problem);

/* After a step: false with EXIT_NUMERICS if the gradient, the hypergradient, or what the update has
 * made of the factors and the selection logits is not finite. Such a state is not to be saved. The
 * problem may be this rank's alone. Not collective. */
bool trainer_check_state(const struct stage *stage, const struct training_state *state,
                         const float *gradient, const char *phase, struct problem *problem);

/* Around iteration `step` of a phase: its timeline, of all ranks, goes to the trace if it is the
 * one to be recorded. Collective. */
void trainer_start_timeline(const struct trainer *trainer, size_t step);
void trainer_stop_timeline(const struct trainer *trainer, const char *phase, size_t step,
                           struct problem *problem);

/* Flushes the trace, where this rank has it: at flush_seconds, or now, at the end of a phase and
 * before long work. */
void trainer_flush_trace(const struct trainer *trainer, bool is_now, struct problem *problem);

#endif
