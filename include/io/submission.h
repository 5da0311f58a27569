/* Predictions in the form that GLUE's server takes: for each task a file of tab-separated index and
 * prediction under a header, labels by their names, scores with three decimals. */
#ifndef AUTOLORA_IO_SUBMISSION_H
#define AUTOLORA_IO_SUBMISSION_H

#include "io/dataset.h"
#include "io/glue.h"

/* A test file read for this: dataset_read with is_unlabelled, which fills dataset->indices.
 * labels [num_examples]: label ids (not used in a regression); scores [num_examples]: of a
 * regression, cut to the range that the benchmark allows, else NULL. The text has one line an
 * example, in the order of the dataset; free with memory_free. */
char *submission_text(const struct glue_task *task, const struct dataset *dataset,
                      const int32_t *labels, const float *scores);

#endif
