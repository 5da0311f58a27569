/* Everything that training changes on one stage, in one place, apart from the frozen model. */
#ifndef AUTOLORA_TRAIN_STATE_H
#define AUTOLORA_TRAIN_STATE_H

#include "model/stage.h"
#include "train/optimizer.h"

struct training_state {
    size_t step;    /* updates done in this phase */
    float *factors; /* [factors.size] */
    struct adam factor_adam;
    float *logits; /* selection logits [selection_size] */
    struct adam selection_adam;
};

/* Fresh factors (draw: see parameter_table_initialize); all logits at `initial`. */
struct training_state training_state_create(const struct stage *stage, uint64_t seed, uint64_t draw,
                                            double initial);
void training_state_free(struct training_state *state);

#endif
