/* Which examples of the training set each level of the search sees, and in which order. */
#ifndef AUTOLORA_TRAIN_SEARCH_DATA_H
#define AUTOLORA_TRAIN_SEARCH_DATA_H

#include "train/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct problem;
struct search_options;
struct trainer;

struct search_data {
    uint32_t *subset; /* [num_validation + num_train] examples: validation first, then training */
    size_t num_validation, num_train;
    struct sampler train, validation; /* single level: no validation */
};

/* D_val is the user's own, the tail of the training set, or a share drawn by a seeded shuffle;
 * single level, all examples train. EXIT_DATA where a level would have no example; then there is
 * nothing to free. */
bool search_data_open(const struct trainer *trainer, const struct search_options *options,
                      struct search_data *data, struct problem *problem);
void search_data_free(struct search_data *data);

#endif
