/* Singular values of what a finished run learned, and of the pretrained weights below. */
#ifndef AUTOLORA_SPECTRUM_H
#define AUTOLORA_SPECTRUM_H

#include "math/dist_matrix.h"
#include "saved_run.h"

/* A share of the largest singular value: those above it are counted. */
#define SPECTRUM_THRESHOLD 0.1

/* Of one matrix a module. With shares p_i = s_i / sum s the effective rank is exp(-sum p ln p) (Roy
 * and Vetterli, EUSIPCO 2007), the stable rank sum s^2 / s_1^2; 0 for a matrix of zeros. */
struct singular_values {
    float *values;                        /* [modules, width] descending, zeros behind the last */
    double *effective_rank, *stable_rank; /* [modules] */
    size_t *num_above;                    /* [modules] values above the threshold */
};

/* The same on every rank. */
struct spectrum {
    size_t num_modules, width; /* width: the smaller side of the largest matrix */
    char **names;              /* [modules], as in result.json */
    size_t *rows, *columns;    /* [modules] of the weight [out, in] */
    size_t *ranks;             /* [modules] lora_rank; NULL where all weights were trained */
    /* The learned change: s B A of an adapter, whose values behind the rank are exactly zero; W -
     * W0 where all weights were trained, with the rounding of W behind its rank. And W0. */
    struct singular_values update, frozen;
};

/* The modules are the run's adapted projections; all projections of its blocks where all weights
 * were trained. The run is open for JOB_COMPARE on the ranks of the grid. Matrices are decomposed
 * on the grid one after the other; updates of low rank by the stage that has them. False and a
 * problem, the same on every rank: EXIT_USAGE for a method whose change is no matrix of a
 * projection, EXIT_DATA for weights that are not finite. Collective; call spectrum_free in any
 * case. */
bool spectrum_compute(const struct saved_run *run, const struct process_grid *grid,
                      struct spectrum *spectrum, struct problem *problem);
void spectrum_free(struct spectrum *spectrum);

/* Replaces directory/spectrum.h5 (analysis/README.md). EXIT_IO. Not collective. */
bool spectrum_write(const struct spectrum *spectrum, const struct job *job, const char *directory,
                    struct problem *problem);
/* A line a module. Not collective. */
void spectrum_print(const struct spectrum *spectrum);

#endif
