/* Files as wholes: read into memory, map, write atomically. */
#ifndef AUTOLORA_IO_FILE_H
#define AUTOLORA_IO_FILE_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* The bytes of a file followed by one '\0' (not counted in *size); free with memory_free.
 * NULL and a problem (EXIT_DATA) if it cannot be read or is a directory. */
char *file_read(const char *path, size_t *size, struct problem *problem);

/* Writes text through a temporary file, fsync and rename: the path holds the old content or the new
 * one, never a part. False and a problem (EXIT_IO) on failure. */
bool file_write_atomically(const char *path, const char *text, size_t size,
                           struct problem *problem);

/* Appends to a file and waits for the disk. False and a problem (EXIT_IO) on failure. */
bool file_append(const char *path, const char *text, size_t size, struct problem *problem);
/* Gives a file that is on the disk its name, in place of one that has it. */
bool file_rename(const char *from, const char *to, struct problem *problem);

/* Makes a directory and its parents; succeeds if it exists. Checks that it can be written. */
bool file_make_directory(const char *path, struct problem *problem);

/* Removes directory/name; succeeds if there is no such file. */
bool file_remove(const char *directory, const char *name, struct problem *problem);

bool file_exists(const char *path);
/* directory/name; free with memory_free. */
char *file_join(const char *directory, const char *name);

/* A read-only map of a whole file, shared by the processes of a node. */
struct file_map {
    const unsigned char *bytes;
    size_t size;
};
bool file_map_open(struct file_map *map, const char *path, struct problem *problem);
/* Gives its pages back to the system; they are read again when they are looked at. */
void file_map_release(const struct file_map *map);
void file_map_close(struct file_map *map);

#endif
