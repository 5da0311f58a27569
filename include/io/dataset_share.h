/* Datasets among ranks: rank 0 reads and tokenizes, the others receive. */
#ifndef AUTOLORA_IO_DATASET_SHARE_H
#define AUTOLORA_IO_DATASET_SHARE_H

#include "io/dataset.h"
#include "io/dataset_lm.h"
#include "parallel/comm.h"

/* Copies rank 0's dataset / label set to all ranks. Collective. */
void dataset_broadcast(const struct comm *comm, struct dataset *dataset);
void label_set_broadcast(const struct comm *comm, struct label_set *labels);
/* The contexts only: texts and their offsets stay with rank 0, they are NULL elsewhere. */
void lm_references_broadcast(const struct comm *comm, struct lm_references *references);

/* Appends the examples of `more`, of the same kind, to `dataset`. Not collective. */
void dataset_append(struct dataset *dataset, const struct dataset *more);

#endif
