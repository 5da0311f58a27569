/* Progress of a run: one line per report on the terminal and in progress.jsonl. Written by one
 * rank. */
#ifndef AUTOLORA_IO_PROGRESS_H
#define AUTOLORA_IO_PROGRESS_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

struct progress;

/* What a report says; NAN and 0 fields are left out. */
struct progress_report {
    const char *phase; /* "search", "retrain" */
    size_t step, num_steps;
    double loss_train, loss_validation, score, learning_rate;
    const char *score_name;
    double mean_rank, mean_entropy;
    double tokens_per_second; /* since the phase began */
    double seconds_left;
};

/* Lines on the terminal come at most every `report_seconds` (the last step of a phase always); the
 * file gets the same. With `is_continued` they come behind those of an earlier attempt, which took
 * `seconds`. */
struct progress *progress_create(const char *jsonl_path, double report_seconds, bool is_continued,
                                 double seconds, struct problem *problem);
void progress_destroy(struct progress **progress);

/* True if it is time for the next report. */
bool progress_is_due(const struct progress *progress);
/* Prints and records; false and a problem (EXIT_IO) if the file cannot be written. */
bool progress_write(struct progress *progress, const struct progress_report *report,
                    struct problem *problem);
/* Seconds since progress_create, and those of earlier attempts. */
double progress_seconds(const struct progress *progress);

#endif
