/* HDF5 files: written through io/h5driver.h, read by io/h5reader.h: these three alone call HDF5.
 * One process writes; nothing here is collective. A file killed at any moment holds at least what
 * its last flush wrote, readable by any HDF5 program (datasets that were being flushed may differ
 * in length); the same after a failed write. */
#ifndef AUTOLORA_IO_H5FILE_H
#define AUTOLORA_IO_H5FILE_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

struct h5file;
enum h5type { H5TYPE_F32, H5TYPE_F64, H5TYPE_U64, H5TYPE_I32 };

/* Creates (replacing an existing file). NULL and a problem (EXIT_IO) that carries HDF5's own
 * innermost message, and names HDF5_USE_FILE_LOCKING=FALSE where locking failed. */
struct h5file *h5file_create(const char *path, struct problem *problem);
/* Opens a file that h5file_create made, to go on with its series. It is as it was at the last
 * h5file_save, whatever has become of its metadata since: HDF5 sees none that was not verified.
 * NULL and a problem: EXIT_DATA if the file is missing or too short, or what h5file_save left is;
 * EXIT_IO if another process has it open. */
struct h5file *h5file_open(const char *path, struct problem *problem);
/* Flushes, waits for the disk, frees the file and its series whatever happens. */
bool h5file_close(struct h5file **file, struct problem *problem);
/* False and a problem (EXIT_IO) if this or any earlier write of the file failed; so do all
 * functions below. */
bool h5file_flush(struct h5file *file, struct problem *problem);
/* Flushes and waits for the disk. */
bool h5file_sync(struct h5file *file, struct problem *problem);
/* The same, and h5file_open may come back to this state: the file's metadata is written to a file
 * of its own, called as this one with ".meta" behind it. */
bool h5file_save(struct h5file *file, struct problem *problem);

/* Is there a group or dataset of that path, whose parents exist? */
bool h5file_has(const struct h5file *file, const char *path);
bool h5file_make_group(struct h5file *file, const char *path, struct problem *problem);
/* UTF-8 text as an attribute of an object ("/" for the file). */
bool h5file_write_text(struct h5file *file, const char *object, const char *name, const char *text,
                       struct problem *problem);
bool h5file_write_number(struct h5file *file, const char *object, const char *name, double value,
                         struct problem *problem);
/* A dataset of strings [count]. */
bool h5file_write_strings(struct h5file *file, const char *path, const char *const *strings,
                          size_t count, struct problem *problem);

/* A float32 dataset [rows, columns]; makes the groups of its path. */
bool h5file_write_matrix(struct h5file *file, const char *path, const float *values, size_t rows,
                         size_t columns, struct problem *problem);

/* A dataset [rows, d1, d2, ...] that grows by rows; num_dimensions of a row may be 0 (scalar rows),
 * at most 3. Chunks of 256 rows. The file owns it. NULL and a problem on failure. */
struct h5series;
struct h5series *h5file_make_series(struct h5file *file, const char *path, enum h5type type,
                                    const size_t *row_shape, size_t num_dimensions,
                                    struct problem *problem);
/* The series of an opened file, cut back to its first `num_rows` rows. NULL and a problem:
 * EXIT_DATA if it has fewer, or is of another type or shape. */
struct h5series *h5file_continue_series(struct h5file *file, const char *path, enum h5type type,
                                        const size_t *row_shape, size_t num_dimensions,
                                        size_t num_rows, struct problem *problem);
/* Appends `num_rows` rows from memory of the series' type. */
bool h5series_append(struct h5series *series, const void *rows, size_t num_rows,
                     struct problem *problem);
/* Reads `count` rows, `first` and every stride-th after it, as memory of the series' type. */
bool h5series_read(const struct h5series *series, size_t first, size_t stride, size_t count,
                   void *rows, struct problem *problem);

/* Version of the library really loaded: "1.10.8". */
const char *h5file_library_version(void);

#endif
