/* What a run leaves behind: result.json, ranks.json, and what it says on the terminal. Rank 0 only.
 */
#ifndef AUTOLORA_RESULTS_H
#define AUTOLORA_RESULTS_H

#include "base/timer.h"
#include "job.h"
#include "train/method.h"

struct run_results {
    const struct job *job;
    const struct method_output *output;
    const size_t *peak_memory;        /* [ranks] bytes */
    double cpu_seconds;               /* of all ranks, this attempt */
    double seconds;                   /* whole run */
    const struct timer_phase *timers; /* [num_timers] over the ranks */
    size_t num_timers;
};

/* Mean of the ranks of this job's modules. */
double results_mean_rank(const struct job *job, const size_t *ranks);

/* {"module": rank, ...} as JSON text; free with memory_free. Ranks that this run has searched for
 * come with "rank_intervals": {"module": {"interval": [low, high], "changed": share}, ...}: the
 * struct rank_interval of train/certainty.h. */
char *results_ranks_text(const struct job *job, const struct method_output *output);

/* Reads such a file, with intervals or without, for the modules of this job: each exactly once,
 * whole numbers from 0. EXIT_DATA otherwise. */
bool results_read_ranks(const struct job *job, const char *path, size_t *ranks,
                        struct problem *problem);

/* Machine, versions, command and decomposition as a JSON object; free with json_destroy. */
struct json *results_provenance(const struct job *job);

/* result.json as text; free with memory_free. */
char *results_text(const struct run_results *results);

/* The metrics of the splits that were evaluated, as result.json has them; json_destroy. */
struct json *results_metrics(const struct job *job, const struct evaluation *dev,
                             const struct evaluation *other_dev, const struct evaluation *test);

/* The header of a run: model, data, decomposition. */
void results_print_header(const struct job *job);
/* Layer by projection, drawn in text. */
void results_print_rank_table(const struct job *job, const size_t *ranks);
/* How many of the ranks of a search are certain: a line, where that is known. */
void results_print_certainty(const struct method_output *output);
/* The metrics beside those of always giving the most frequent label, and the budget. */
void results_print_metrics(const struct run_results *results);
/* The timers, a line a phase. */
void results_print_timers(const struct run_results *results);

#endif
