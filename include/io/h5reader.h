/* Reading an HDF5 file of which the reader knows what has to be in it. Not collective. Problems are
 * EXIT_DATA and name the file and the object. HDF5 itself trusts a file's structure: verify a
 * checksum first (io/checkpoint.h). */
#ifndef AUTOLORA_IO_H5READER_H
#define AUTOLORA_IO_H5READER_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

struct h5reader;

struct h5reader *h5reader_open(const char *path, struct problem *problem);
void h5reader_close(struct h5reader **reader);

/* A text attribute of the root; free with memory_free. NULL and a problem if there is none. */
char *h5reader_text(const struct h5reader *reader, const char *name, struct problem *problem);

bool h5reader_has(const struct h5reader *reader, const char *path);
/* A float32 dataset, which has to be [rows, columns]. */
bool h5reader_matrix(const struct h5reader *reader, const char *path, size_t rows, size_t columns,
                     float *values, struct problem *problem);

#endif
