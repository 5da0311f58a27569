/* The way HDF5 files reach the disk: a file driver that makes each flush of HDF5 atomic for whoever
 * reads the file after this process was killed, or after the disk was full. HDF5's own driver
 * overwrites metadata in the order of addresses: interrupted there, it leaves headers that point
 * past the recorded end of the file; and where a write fails, HDF5 1.10 cannot close the file any
 * more (it ends in a segmentation fault at exit).
 *
 * Only io/h5file.c uses this. Not thread-safe, not collective. */
#ifndef AUTOLORA_IO_H5DRIVER_H
#define AUTOLORA_IO_H5DRIVER_H

#include "base/report.h"

#include <hdf5.h>
#include <stdbool.h>

struct h5driver;

/* What the name of a file's image ends in, behind the file's own name. */
#define H5DRIVER_IMAGE ".meta"

/* A file access property list that selects the driver; H5Pclose it. Negative on failure (HDF5's
 * error stack). */
hid_t h5driver_make_access(void);
/* The driver of an open file that was created with that list; lives as long as the file is open.
 * Flushes count from this call on. NULL on failure. */
struct h5driver *h5driver_of(hid_t file);

/* To hold while the file is closed, since HDF5 1.10 lets go of a driver before its last call of it;
 * H5Idec_ref it then. */
hid_t h5driver_hold(const struct h5driver *driver);

/* What went wrong first: NULL, or text as "writing at byte 4096: No space left on device". From
 * there on the driver keeps the file as the last good flush left it, and HDF5 sees only success, so
 * that it can close. */
const char *h5driver_error(const struct h5driver *driver);
/* Waits until the file is on the disk. */
void h5driver_sync(struct h5driver *driver);
/* Keeps the metadata of the last flush beside the file, checksummed: only with it can the file be
 * opened again, which then is as it was now. EXIT_IO. */
bool h5driver_save(const struct h5driver *driver, struct problem *problem);

#endif
