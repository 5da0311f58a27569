/* What was trained, between the stages and a file: one layout on disk for any decomposition. */
#ifndef AUTOLORA_TRAIN_FACTORS_H
#define AUTOLORA_TRAIN_FACTORS_H

#include "io/checkpoint.h"
#include "model/parameters.h"
#include "parallel/comm.h"

#include <stdbool.h>

/* Writes a vector in the layout of the stages' tables as a group of tensors. Every rank gives its
 * own part; rank 0 gathers them one by one and writes (writer: NULL elsewhere). A problem is rank
 * 0's alone. Collective. */
bool factors_write(const struct comm *comm, const struct parameter_table *table,
                   const float *values, struct checkpoint_writer *writer, const char *group,
                   struct problem *problem);

/* Reads the tensors of this rank's table, each of which has to be there in its shape. Not
 * collective. */
bool factors_read(const struct parameter_table *table, const struct checkpoint *checkpoint,
                  const char *group, float *values, struct problem *problem);

#endif
