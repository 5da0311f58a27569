/* The metadata of an HDF5 file: every block of it as it was last written. An image is kept in a
 * file of its own with a checksum, so that an HDF5 file can be gone on with as it was then,
 * whatever has become of its metadata: HDF5 trusts what it reads, and damage there ends in a crash
 * or a hang. Knows no HDF5. Used by io/h5driver.c only. */
#ifndef AUTOLORA_IO_H5IMAGE_H
#define AUTOLORA_IO_H5IMAGE_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct h5block {
    uint64_t address;
    size_t size;
    uint32_t place;  /* in the order in which blocks are written */
    bool is_flushed; /* at its address on the disk when that was last in order */
    bool is_waiting; /* to be written */
    unsigned char *bytes;
};

/* Starts as {0}, freed with h5image_free. */
struct h5image {
    struct h5block *blocks; /* by address; none overlap */
    size_t count, capacity;
};
void h5image_free(struct h5image *image);

/* Takes the bytes over into the block there, or into a new one in place of those it overlaps. */
struct h5block *h5image_put(struct h5image *image, uint64_t address, size_t size,
                            const void *bytes);
/* `size` bytes from an address on; 0 where no block is. */
void h5image_get(const struct h5image *image, uint64_t address, size_t size, void *bytes);

/* Writes the image of an HDF5 file of `end` bytes, atomically. EXIT_IO. */
bool h5image_write(const struct h5image *image, uint64_t end, const char *path,
                   struct problem *problem);
/* Reads one, of which all blocks count as flushed. EXIT_DATA if it is missing or damaged. */
bool h5image_read(struct h5image *image, const char *path, uint64_t *end, struct problem *problem);

#endif
