/* A pipeline pass in time: the schedule of every stage (parallel/schedule.h) with given costs. Pure
 * arithmetic. */
#ifndef AUTOLORA_PARALLEL_SIMULATION_H
#define AUTOLORA_PARALLEL_SIMULATION_H

#include <stdbool.h>
#include <stddef.h>

struct simulation_input {
    size_t num_stages, num_microbatches;
    const double *down, *up; /* [stages, microbatches] seconds of work; up NULL: no way up */
    const double *delays;    /* [stages - 1, microbatches] seconds of a message to the next stage,
                                or back; NULL: none */
    const size_t *nodes; /* [stages] where each stage runs, below num_stages; NULL: all on node 0 */
    double cores;        /* of a node for this pipeline: that many stages work at full speed */
};

/* Seconds until the last stage is done. Work that does not find a core for itself shares them
 * evenly. */
double simulation_run(const struct simulation_input *input);

#endif
