/* A run of `autolora run` and the files that it writes. Internal to src/cmd_run.c and
 * src/run_files.c. */
#ifndef AUTOLORA_RUN_H
#define AUTOLORA_RUN_H

#include "base/timer.h"
#include "job.h"
#include "parallel/watchdog.h"
#include "peft_adapter.h"
#include "train/checkpoints.h"
#include "train/method.h"

/* One run: what its steps hand on to each other. */
struct run {
    struct job job;
    struct trainer trainer;
    double start; /* were there no earlier attempts */
    const struct method *method;
    struct method_input input;
    struct method_output output;
    struct timer_tree *timers;
    struct watchdog *watchdog;
    struct peft_adapter *from; /* adapter.from, or NULL */
    float *scales;             /* [num_modules] from there */
    bool has_ranks;            /* of an earlier attempt */
};

bool run_is_first(const struct run *run);

/* Opens the checkpoint to go on from, where one is wanted and there. Collective. */
bool run_open_checkpoints(struct run *run, struct problem *problem);
/* Where an earlier attempt stopped; NULL: the run starts from the beginning. */
const struct checkpoints_place *run_place(const struct run *run);
/* Is the checkpoint one of this input and data? Collective. */
bool run_check_checkpoint(struct run *run, struct problem *problem);

/* Trace, progress and input.json; what an earlier run left there and does not belong to this one
 * goes. Collective. */
bool run_open_outputs(struct run *run, struct problem *problem);
/* Flushes the trace and closes the files; the trace is whole only if that worked. Collective. */
bool run_close_outputs(struct run *run, struct problem *problem);
/* Rank 0 writes a small file into the output directory. */
void run_write_output(const struct run *run, const char *name, const char *text,
                      struct problem *problem);

#endif
