/* The tasks of the GLUE benchmark (Wang et al. 2019) in the files of its original download: one row
 * of a table says all that tells a task from the others. */
#ifndef AUTOLORA_IO_GLUE_H
#define AUTOLORA_IO_GLUE_H

#include <stdbool.h>
#include <stddef.h>

enum { GLUE_MAX_LABELS = 3, GLUE_MAX_SENTENCES = 2, GLUE_MAX_METRICS = 2 };

enum glue_metric {
    GLUE_ACCURACY,
    GLUE_F1, /* of label 1 */
    GLUE_MATTHEWS,
    GLUE_PEARSON,
    GLUE_SPEARMAN,
};

struct glue_task {
    const char *name; /* value of task.name */
    /* Header names of the sentences (the second NULL: one sentence) and of the label. */
    const char *sentences[GLUE_MAX_SENTENCES], *label;
    const char *implied_header;          /* of labelled files that have none; else NULL */
    const char *labels[GLUE_MAX_LABELS]; /* in the order of their ids; none: a regression */
    enum glue_metric metrics[GLUE_MAX_METRICS];
    size_t num_metrics;
    const char *score; /* name of the mean of both metrics; NULL: the first metric is the score */
    bool skips_short_rows;
    const char *dev_file, *other_dev_file;          /* other: MNLI's mismatched, else NULL */
    const char *dev_split, *other_dev_split;        /* their names in results */
    const char *submission_file, *other_submission; /* of the test set, of the mismatched one */
    double lowest, highest;                         /* regression: what a submission may hold */
};

/* The row of a task, or NULL. */
const struct glue_task *glue_find(const char *name);

bool glue_is_regression(const struct glue_task *task);
size_t glue_num_labels(const struct glue_task *task);

/* "accuracy", "f1", "matthews_correlation", "pearson", "spearman". */
const char *glue_metric_name(enum glue_metric metric);

#endif
