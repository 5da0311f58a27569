/* Entities in sequences of chunk tags, under seqeval's default (lenient) rules: tags are "O" or a
 * prefix B, I, O, E, S with an optional type ("B-Disease", "I"); an I- without a B- before it
 * starts an entity, so does a change of type. */
#ifndef AUTOLORA_IO_TAGS_H
#define AUTOLORA_IO_TAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entity {
    size_t begin, end; /* tags begin .. end-1 */
    const char *type;  /* points into the tag's name; "_" where the tag has no type */
};

/* Writes the entities of `tags` [count] (ids into names) to entities [count] and returns their
 * number. */
size_t tags_find_entities(const char *const *names, const int32_t *tags, size_t count,
                          struct entity *entities);

/* Number of entities that two lists have in common: same place, same type. Both lists in the order
 * in which tags_find_entities writes them. */
size_t tags_count_common(const struct entity *left, size_t num_left, const struct entity *right,
                         size_t num_right);

/* True for "O", a plain B, I, E, S and B-, I-, E-, S- with whatever follows: the tags that seqeval
 * accepts without a warning. */
bool tags_is_chunk_tag(const char *name);

#endif
