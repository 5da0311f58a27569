/* Checkpoints: named float32 tensors in groups, and texts, in one HDF5 file that any HDF5 program
 * reads. Knows no model. One process writes, any number read; nothing here is collective.
 *
 * A file is whole or it is not there: it is written under a temporary name, synced and renamed. Its
 * last bytes are a checksum of all others (zlib's CRC-32), verified before HDF5 looks at it: it
 * tells damage, not forgery. The groups of a run's checkpoint-final.h5:
 *     /factors     what was trained, by full name:
 * "bert.encoder.layer.0.attention.self.query.lora_A" and its texts (attributes of the root):
 * "input" the effective input, "adapters" a rank and a scale by module, "labels" their names,
 * "family" of the model, "provenance". A checkpoint to resume from has more groups and texts. */
#ifndef AUTOLORA_IO_CHECKPOINT_H
#define AUTOLORA_IO_CHECKPOINT_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* ---- writing; problems are EXIT_IO ---- */

struct checkpoint_writer;

/* NULL and a problem if the file cannot be made. */
struct checkpoint_writer *checkpoint_writer_create(const char *path, struct problem *problem);
bool checkpoint_write_text(struct checkpoint_writer *writer, const char *name, const char *text,
                           struct problem *problem);
/* group: "factors" or "adam/first"; name: without a slash; values [rows, columns]. */
bool checkpoint_write_tensor(struct checkpoint_writer *writer, const char *group, const char *name,
                             const float *values, size_t rows, size_t columns,
                             struct problem *problem);
/* The file gets its checksum and its name, unless `problem` or a write says that something went
 * wrong: then an older file of that name stays. Frees the writer in any case. */
bool checkpoint_writer_finish(struct checkpoint_writer **writer, struct problem *problem);

/* ---- reading; problems are EXIT_DATA ---- */

struct checkpoint;

/* NULL and a problem if the file is missing, no checkpoint, or damaged. */
struct checkpoint *checkpoint_open(const char *path, struct problem *problem);
void checkpoint_close(struct checkpoint **checkpoint);
/* Free with memory_free; NULL and a problem if there is none. */
char *checkpoint_text(const struct checkpoint *checkpoint, const char *name,
                      struct problem *problem);
bool checkpoint_has_tensor(const struct checkpoint *checkpoint, const char *group,
                           const char *name);
/* A tensor, which has to be [rows, columns]. */
bool checkpoint_read_tensor(const struct checkpoint *checkpoint, const char *group,
                            const char *name, size_t rows, size_t columns, float *values,
                            struct problem *problem);

#endif
