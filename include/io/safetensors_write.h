/* Writing a safetensors file of float32 tensors, one after the other, so that no more than one
 * needs to be in memory. The file is whole or it is not there: temporary file, fsync, rename.
 * Problems are EXIT_IO. */
#ifndef AUTOLORA_IO_SAFETENSORS_WRITE_H
#define AUTOLORA_IO_SAFETENSORS_WRITE_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

struct safetensors_entry {
    const char *name;
    size_t num_dimensions, shape[2]; /* 1 or 2 dimensions */
};

struct safetensors_writer;

/* Writes the header for all entries; borrows them until the end. NULL and a problem on failure. */
struct safetensors_writer *safetensors_writer_create(const char *path,
                                                     const struct safetensors_entry *entries,
                                                     size_t count, struct problem *problem);
/* The values of the next entry, in their order. False after any failure. */
bool safetensors_write(struct safetensors_writer *writer, const float *values,
                       struct problem *problem);
/* The file gets its name if all entries were written and nothing failed, `problem` included. Frees
 * the writer in any case. */
bool safetensors_writer_finish(struct safetensors_writer **writer, struct problem *problem);

#endif
