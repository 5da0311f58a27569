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
#include "base/timer.h"

#include <stdbool.h>
#include <stddef.h>

struct trace;

enum { TRACE_NUM_TABLES = 4 };
/* Name of a table of the trace, as "search". */
const char *trace_table_name(size_t table);

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
/* Goes on with the file of an earlier run with the same options, as it was at its last trace_sync
 * (io/h5file.h: h5file_save), cut back to its first rows [TRACE_NUM_TABLES]. If it is missing, cut
 * off or has fewer, or what trace_sync left beside it is damaged, it is kept under another name, a
 * new one is made, and *warning says so (free with memory_free). A process killed while it cuts
 * leaves all rows that stay; of others that `step` still counts, some have 0 there. */
struct trace *trace_continue(const struct trace_options *options, const size_t *rows,
                             char **warning, struct problem *problem);
/* Rows of each table so far, [TRACE_NUM_TABLES]. */
void trace_rows(const struct trace *trace, size_t *rows);
bool trace_add_search(struct trace *trace, const struct trace_search_row *row,
                      struct problem *problem);
bool trace_add_allocation(struct trace *trace, const struct trace_allocation_row *row,
                          struct problem *problem);
bool trace_add_retrain(struct trace *trace, const struct trace_retrain_row *row,
                       struct problem *problem);
bool trace_add_evaluation(struct trace *trace, const struct trace_evaluation_row *row,
                          struct problem *problem);
/* Rows of the search that are there, of earlier attempts too; and what a column of them holds:
 * `count` rows, `first` and every stride-th after it, float [count, num_modules, num_components] or
 * int32 [count, num_modules]. Writes what is buffered. */
enum trace_search_column { TRACE_SELECTION, TRACE_LOGITS, TRACE_RANKS };
size_t trace_num_search_rows(const struct trace *trace);
bool trace_read_search(struct trace *trace, enum trace_search_column column, size_t first,
                       size_t stride, size_t count, void *values, struct problem *problem);
/* The timeline of one iteration: /timeline/PHASE/{rank,name,start,stop} [count], where name is a
 * number in /timeline/PHASE/names, and the attribute "step". One there already stays. */
bool trace_add_timeline(struct trace *trace, const char *phase, size_t step,
                        const struct timer_interval *intervals, size_t count,
                        struct problem *problem);
/* Writes what is buffered: before long work that adds no rows. */
bool trace_flush(struct trace *trace, struct problem *problem);
/* The same, and waits for the disk: before a checkpoint that counts these rows. */
bool trace_sync(struct trace *trace, struct problem *problem);
/* Writes it if flush_seconds have passed: after iterations that add no row. */
bool trace_flush_if_due(struct trace *trace, struct problem *problem);
bool trace_close(struct trace **trace, struct problem *problem);

#endif
