/* How sure the ranks of a search are. Its last part, the last quarter of the trace's rows (at least
 * 16 where there are so many), is resampled: the increments of the logits are drawn anew in blocks,
 * as if other batches had come (moving-block bootstrap, Kuensch 1989; block length: cube root of
 * their number), and the run's own rule and budget choose where they end. Rules that look at more
 * than the logits (importance, spectrum) have the ranks of these rows instead. It says how much the
 * batches of the last part matter, not whether other seeds would agree: that takes other seeds. */
#ifndef AUTOLORA_TRAIN_CERTAINTY_H
#define AUTOLORA_TRAIN_CERTAINTY_H

#include "base/report.h"
#include "model/selection.h"
#include "parallel/comm.h"
#include "train/budget.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct trace;

/* The 5th to the 95th percentile of a module's rank over the resamples (rows), widened where the
 * chosen rank is outside; and the share of them whose rank is another than the chosen one. */
struct rank_interval {
    size_t low, high;
    double changed;
};

enum { CERTAINTY_RESAMPLES = 1000 };

/* How a run chose. */
struct certainty_rule {
    enum threshold_rule threshold;
    enum selection_constraint constraint;
    double first_logit;          /* of every component before the search */
    const struct budget *budget; /* also says how many modules and components there are */
    uint64_t seed;
};

struct certainty {
    size_t num_modules;
    struct rank_interval *intervals; /* [num_modules]; NULL: fewer than 3 rows, nothing is known */
    size_t num_rows, stride;         /* of the last part, as read */
    size_t block_length;             /* increments; 0: the ranks of the rows, not resampled */
    double movement,
        late_movement; /* mean |q at the end - q|, q of the start; of the last quarter */
};

/* intervals [modules]. logits [rows, modules, components] of the last part; chosen [modules]. */
void certainty_resample(const struct certainty_rule *rule, const float *logits, size_t num_rows,
                        const size_t *chosen, struct rank_interval *intervals);
/* The same from the ranks of the rows, [rows, modules]. */
void certainty_count(const struct certainty_rule *rule, const int32_t *ranks, size_t num_rows,
                     const size_t *chosen, struct rank_interval *intervals);

/* From the trace of a search that has ended; a long last part is read in strides, so that it takes
 * 32 MiB at most. EXIT_IO and EXIT_DATA where it cannot be read back. Free with certainty_free. */
bool certainty_read(const struct certainty_rule *rule, struct trace *trace, const size_t *chosen,
                    struct certainty *certainty, struct problem *problem);
void certainty_free(struct certainty *certainty);
/* Gives all ranks what rank 0 has found. Collective. */
void certainty_share(const struct comm *comm, size_t num_modules, struct certainty *certainty);

/* Ranks whose interval holds one rank alone. */
size_t certainty_num_certain(const struct certainty *certainty);
/* Ranks that are others in more than half of the resamples. */
size_t certainty_num_undecided(const struct certainty *certainty);

/* late_movement over movement: 0.25 of a steady drift, about 0.5 of a random walk, near 0 of a
 * search that has converged; NaN where nothing moved. */
double certainty_late_share(const struct certainty *certainty);

/* All of it but the intervals as members of `parent`, and the intervals [[low, high, changed], ...]
 * as a checkpoint keeps them. Reading: false if it is not of `num_modules` modules; frees nothing
 * but what it made. */
void certainty_write(const struct certainty *certainty, struct json *parent);
bool certainty_parse(const struct json *parent, size_t num_modules, struct certainty *certainty);

#endif
