/* Everything that training changes on one stage, in one place, apart from the frozen model. */
#ifndef AUTOLORA_TRAIN_STATE_H
#define AUTOLORA_TRAIN_STATE_H

#include "io/checkpoint.h"
#include "io/json.h"
#include "model/stage.h"
#include "parallel/comm.h"
#include "train/evaluate.h"
#include "train/optimizer.h"

struct training_state {
    size_t step;       /* updates done in this phase */
    size_t num_tokens; /* seen in this phase */
    double seconds;    /* of this phase, up to the last checkpoint */
    double loss_train; /* at the last step */
    float *factors;    /* [factors.size] */
    struct adam factor_adam;
    /* The search. */
    double loss_validation; /* NAN: the last step had none */
    float *logits;          /* selection logits [selection_size] */
    struct adam selection_adam;
    float *d_logits;     /* the last hypergradient, [selection_size] */
    float *moments;      /* train/importance.h, [modules of the stage, moments_size] */
    size_t moments_size; /* 0: not wanted */
    /* Retraining. */
    bool owes_evaluation;  /* that of the last step is still to be made */
    struct evaluation dev; /* the last one; num_metrics 0: none */
    double best_score;
    size_t best_step;
};

/* All zero; `moments_size` of a module. */
struct training_state training_state_create(const struct stage *stage, size_t moments_size);
void training_state_free(struct training_state *state);

/* Writes the states of all stages as tensors by their names, and the numbers into `numbers`; the
 * file does not depend on the decomposition. writer, numbers: of rank 0, else NULL. A problem is
 * rank 0's alone. Collective. */
void training_state_write(const struct comm *comm, const struct stage *stage,
                          const struct training_state *state, struct checkpoint_writer *writer,
                          struct json *numbers, struct problem *problem);
/* Reads this rank's state from it. A problem (EXIT_DATA) may be this rank's alone. Collective. */
void training_state_read(const struct comm *comm, const struct stage *stage,
                         const struct checkpoint *checkpoint, const struct json *numbers,
                         struct training_state *state, struct problem *problem);

#endif
