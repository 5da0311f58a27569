/* The trace of a run, trace.h5: full history of the selection variables and of the losses. Written
 * by one rank, buffered and flushed at a bounded interval: what was flushed survives SIGKILL and a
 * full disk. A process killed within a flush may leave datasets of one group different in length:
 * the rows that `step` counts are complete in all of them.
 *
 * Problems are EXIT_IO. After one, rows are dropped and every call returns false; trace_close still
 * frees all. */
#ifndef AUTOLORA_IO_TRACE_H
#define AUTOLORA_IO_TRACE_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

struct trace;

struct trace_options {
    const char *path;
    const char *const *module_names; /* [num_modules] */
    size_t num_modules, num_components;
    bool has_allocation;    /* the components are AdaLoRA's, not those of a search */
    const char *input_text; /* root attribute "input" */
    const char *provenance; /* JSON text, root attribute "provenance" */
    double flush_seconds;   /* rows are written that long after the last flush, by the next call; 0:
                               each row at once */
};

/* One iteration of the search. */
struct trace_search_row {
    size_t step;
    double time;                                     /* seconds since the run began */
    const float *selection, *logits, *hypergradient; /* [num_modules, num_components] */
    double loss_train, loss_validation;
    const size_t *ranks; /* [num_modules] under the threshold rule */
};
/* One update of AdaLoRA. */
struct trace_allocation_row {
    size_t step;
    double time;
    size_t budget;
    const float *singular_values, *importance; /* [num_modules, num_components] */
    const size_t *ranks;                       /* [num_modules] kept by the last mask */
};
struct trace_retrain_row {
    size_t step;
    double time, loss_train, learning_rate, gradient_norm;
};
struct trace_evaluation_row {
    size_t step; /* updates of the retraining done */
    double time, loss, score;
};

/* Layout: /modules [num_modules] strings;
 * /search/{step,time,selection,logits,hypergradient,loss_train, loss_validation,ranks};
 * /retrain/{step,time,loss_train,learning_rate,gradient_norm}; /evaluation/{step,time,loss,score}.
 * /allocation/{step,time,budget,singular_values,importance,ranks} where has_allocation.
 * selection, logits, hypergradient, singular_values, importance: float32 [N, modules, k]; ranks
 * int32 [N, modules]; losses, times float64; steps uint64. Search series are left out where
 * num_components is 0 or has_allocation. Each dataset has the attributes "units" and "description".
 */
struct trace *trace_create(const struct trace_options *options, struct problem *problem);
bool trace_add_search(struct trace *trace, const struct trace_search_row *row,
                      struct problem *problem);
bool trace_add_allocation(struct trace *trace, const struct trace_allocation_row *row,
                          struct problem *problem);
bool trace_add_retrain(struct trace *trace, const struct trace_retrain_row *row,
                       struct problem *problem);
bool trace_add_evaluation(struct trace *trace, const struct trace_evaluation_row *row,
                          struct problem *problem);
/* Writes what is buffered: before a checkpoint, and before long work that adds no rows. */
bool trace_flush(struct trace *trace, struct problem *problem);
/* Writes it if flush_seconds have passed: after iterations that add no row. */
bool trace_flush_if_due(struct trace *trace, struct problem *problem);
bool trace_close(struct trace **trace, struct problem *problem);

#endif
