/* Checkpoints of a run: when one is written, which are kept, which is read again; and when the run
 * stops. Their files are io/checkpoint_files.h's; they hold the texts "input", "data",
 * "provenance", "state" and, behind the choice of ranks, "output" (train/method.h), and the tensors
 * of train/state.h. */
#ifndef AUTOLORA_TRAIN_CHECKPOINTS_H
#define AUTOLORA_TRAIN_CHECKPOINTS_H

#include "io/checkpoint.h"
#include "train/state.h"
#include "train/trainer.h"

struct checkpoints;

struct checkpoints_options {
    const char *directory, *input_text, *data_text, *provenance;
    size_t every;         /* iterations from one to the next; 0: not by their number */
    double every_seconds; /* 0: not by time */
    size_t keep;          /* newest ones */
    double end;           /* MPI_Wtime by which the run has to be over; INFINITY: never */
};

struct checkpoints *checkpoints_create(const struct comms *comms,
                                       const struct checkpoints_options *options);
void checkpoints_destroy(struct checkpoints **checkpoints);

/* ---- an earlier attempt's ---- */

/* Opens the newest that is whole, on every rank; rank 0 warns of damaged ones, which get another
 * name. Opens none where there is none. False and a problem, the same on every rank. Collective. */
bool checkpoints_open_newest(struct checkpoints *checkpoints, struct problem *problem);
/* What was opened, until it is restored; NULL: nothing. */
const struct checkpoint *checkpoints_opened(const struct checkpoints *checkpoints);
/* Of what was opened: its path, phase, the run's seconds so far and the trace's rows. */
struct checkpoints_place {
    char path[512];
    enum phase phase;
    double seconds;
    size_t trace_rows[TRACE_NUM_TABLES];
};
const struct checkpoints_place *checkpoints_place(const struct checkpoints *checkpoints);
/* Rank 0: all files of an earlier run go. */
void checkpoints_remove_all(const struct checkpoints *checkpoints);

/* ---- in a phase ---- */

/* The run's part that is known when the ranks are chosen: a text kept from there on, and the
 * iterations of the phases before. */
void checkpoints_set_output(struct checkpoints *checkpoints, const char *text, size_t iterations);

/* A phase, as its functions give it. */
struct phase_state {
    enum phase phase;
    size_t num_steps;
    const struct stage *stage;
    struct training_state *state;
    const struct retrain_extension *extension; /* with a state of its own; NULL: none */
};

/* Puts what was opened into the phase's state, if it is of this phase, and closes it. False and a
 * problem, the same on every rank. Collective. */
bool checkpoints_restore(const struct trainer *trainer, const struct phase_state *phase,
                         struct problem *problem);

/* What is to be done between two iterations, the same on every rank. */
struct decision {
    bool wants_report, wants_checkpoint, stops;
};
/* Signals to any rank, and rank 0's clock and files decide. Collective. */
struct decision checkpoints_decide(const struct trainer *trainer, bool wants_report);
/* Does the run stop, within a long evaluation? Collective. */
bool checkpoints_interrupt(const struct trainer *trainer);
/* Has it been decided? Not collective. */
bool checkpoints_is_stopping(const struct trainer *trainer);

/* Does what was decided: flushes the trace, writes a checkpoint, and, where the run stops, returns
 * false with EXIT_RESUBMIT. A problem is the same on every rank. Collective. */
bool checkpoints_follow(const struct trainer *trainer, const struct phase_state *phase,
                        const struct decision *decision, struct problem *problem);

#endif
