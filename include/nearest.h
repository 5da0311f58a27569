/* "Did you mean": how far apart two names are. */
#ifndef AUTOLORA_NEAREST_H
#define AUTOLORA_NEAREST_H

#include <stddef.h>

/* Levenshtein distance: characters to insert, remove or replace. */
size_t edit_distance(const char *left, const char *right);

/* The largest distance at which a name of that length still passes for a slip of the pen. */
size_t edit_distance_limit(const char *name);

#endif
