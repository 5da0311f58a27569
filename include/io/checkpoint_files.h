/* The files checkpoint-NNNNNN.h5 of a run's output directory, by their numbers. Not collective. */
#ifndef AUTOLORA_IO_CHECKPOINT_FILES_H
#define AUTOLORA_IO_CHECKPOINT_FILES_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* Free with memory_free. */
char *checkpoint_path(const char *directory, size_t number);
/* The numbers of those that are there, rising; free with memory_free. */
size_t *checkpoint_numbers(const char *directory, size_t *count);

/* False and a problem (EXIT_DATA) if this process may not read it, which is no damage. */
bool checkpoint_is_readable(const char *directory, size_t number, struct problem *problem);

/* Removes all but the `keep` newest, and what was never finished. A file that cannot be removed is
 * left. */
void checkpoint_remove_old(const char *directory, size_t keep);
/* Gives a damaged one another name, checkpoint-NNNNNN.h5.damaged. EXIT_IO. */
bool checkpoint_set_aside(const char *directory, size_t number, struct problem *problem);

#endif
