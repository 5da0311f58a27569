/* A finished run: its trained model as a file, checkpoint-final.h5 of its output directory, and
 * read back to be used. Everything is collective. */
#ifndef AUTOLORA_SAVED_RUN_H
#define AUTOLORA_SAVED_RUN_H

#include "job.h"
#include "model/stage.h"

/* Writes it: the factors [stage->factors.size] of every stage, and what is needed to use them
 * (io/checkpoint.h). EXIT_IO, the same on every rank. */
bool saved_run_write(const struct job *job, const struct stage *stage, const float *factors,
                     struct problem *problem);

struct saved_run {
    struct job job;
    size_t *ranks; /* [num_modules] */
    float *scales; /* [num_modules] */
    struct stage *stage;
    float *factors; /* [stage->factors.size] */
};

/* Reads input.json and checkpoint-final.h5 of a run's output directory on any number of ranks.
 * False and a problem, the same on every rank: EXIT_DATA if a file is missing, damaged, or does not
 * fit the others. Call saved_run_close in any case. */
bool saved_run_open(struct saved_run *run, MPI_Comm world, const char *directory,
                    enum job_purpose purpose, struct problem *problem);
void saved_run_close(struct saved_run *run);

#endif
