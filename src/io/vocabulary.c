/* The table of ids points to the copies that the list of pieces owns. */
#include "io/vocabulary.h"

#include "base/memory.h"

#include <string.h>

enum { MAX_IDS = 1 << 24, MAX_GAP = 4096 }; /* beyond is no vocabulary */

/* Bounds what a small file can allocate. */
static size_t id_limit(const struct vocabulary *vocabulary) {
    const size_t known = vocabulary->ids.count;
    const size_t pieces = known > vocabulary->num_listed ? known : vocabulary->num_listed;
    return pieces > (MAX_IDS - MAX_GAP) / 4 ? MAX_IDS : 4 * pieces + MAX_GAP;
}

static void make_room(struct vocabulary *vocabulary, size_t size) {
    if (size > vocabulary->capacity) {
        vocabulary->capacity = size < 32 ? 64 : 2 * size;
        vocabulary->pieces = memory_resize(vocabulary->pieces, vocabulary->capacity,
                                           sizeof *vocabulary->pieces, "vocabulary");
    }
    if (size > vocabulary->size)
        vocabulary->size = size;
}

bool vocabulary_add(struct vocabulary *vocabulary, const char *piece, size_t id, const char *path,
                    struct problem *problem) {
    const int32_t old_id = vocabulary_find(vocabulary, piece);
    if (old_id >= 0 && (size_t)old_id == id)
        return true;
    if (old_id >= 0)
        return problem_set(problem, EXIT_DATA, "%s: \"%.100s\" has the ids %d and %zu", path, piece,
                           old_id, id);
    if (id >= id_limit(vocabulary))
        return problem_set(
            problem, EXIT_DATA,
            "%s: the id of \"%.100s\" is %zu, more than %zu: too many for its pieces", path, piece,
            id, id_limit(vocabulary) - 1);
    make_room(vocabulary, id + 1);
    if (vocabulary->pieces[id] != NULL)
        return problem_set(problem, EXIT_DATA, "%s: \"%.100s\" and \"%.100s\" have the id %zu",
                           path, vocabulary->pieces[id], piece, id);
    char *copy = memory_copy_string(piece);
    vocabulary->pieces[id] = copy;
    text_table_add(&vocabulary->ids, copy, strlen(copy), (int32_t)id);
    return true;
}

bool vocabulary_read(struct vocabulary *vocabulary, const struct json *object, const char *path,
                     struct problem *problem) {
    if (object == NULL || json_type(object) != JSON_OBJECT || json_first(object) == NULL)
        return problem_set(problem, EXIT_DATA,
                           "%s: expected a vocabulary, an object of pieces and ids", path);
    vocabulary->num_listed = json_count(object);
    for (const struct json *member = json_first(object); member != NULL;
         member = json_next(member)) {
        size_t id;
        if (!json_size(member, &id))
            return problem_set(problem, EXIT_DATA, "%s: the id of \"%.100s\" is no whole number",
                               path, json_name(member));
        if (!vocabulary_add(vocabulary, json_name(member), id, path, problem))
            return false;
    }
    return true;
}

void vocabulary_free(struct vocabulary *vocabulary) {
    for (size_t id = 0; id < vocabulary->size; ++id)
        memory_free(vocabulary->pieces[id]);
    memory_free(vocabulary->pieces);
    text_table_free(&vocabulary->ids);
    *vocabulary = (struct vocabulary){0};
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *piece) {
    return text_table_find(&vocabulary->ids, piece, strlen(piece));
}

const char *vocabulary_piece(const struct vocabulary *vocabulary, int32_t id) {
    return id >= 0 && (size_t)id < vocabulary->size ? vocabulary->pieces[id] : NULL;
}
