/* Entities in sequences of chunk tags. The two rules below, where an entity ends and where one
 * starts, are seqeval's (Nakayama 2018, default mode), so that scores agree on ill-formed tags too.
 */
#include "io/tags.h"

#include <string.h>

struct tag {
    char prefix;
    const char *type;
};

static const struct tag OUTSIDE = {'O', "_"};

/* "B-Disease" -> B, "Disease"; "B" and "B-" -> B, "_". */
static struct tag tag_split(const char *name) {
    const char *hyphen = name[0] == '\0' ? NULL : strchr(name + 1, '-');
    const char *type = hyphen == NULL || hyphen[1] == '\0' ? "_" : hyphen + 1;
    return (struct tag){name[0], type};
}

static bool is_one_of(char prefix, const char *prefixes) {
    return prefix != '\0' && strchr(prefixes, prefix) != NULL;
}

/* Does an entity that holds the tag `last` end before `tag`? */
static bool is_end(struct tag last, struct tag tag) {
    if (last.prefix == 'O')
        return false;
    return is_one_of(last.prefix, "ES") || is_one_of(tag.prefix, "BSO") ||
           strcmp(last.type, tag.type) != 0;
}

static bool is_start(struct tag last, struct tag tag) {
    if (tag.prefix == 'O')
        return false;
    return is_one_of(tag.prefix, "BS") || is_one_of(last.prefix, "ESO") ||
           strcmp(last.type, tag.type) != 0;
}

size_t tags_find_entities(const char *const *names, const int32_t *tags, size_t count,
                          struct entity *entities) {
    size_t num_entities = 0, begin = 0;
    struct tag last = OUTSIDE;
    for (size_t i = 0; i <= count; ++i) {
        const struct tag tag = i < count ? tag_split(names[tags[i]]) : OUTSIDE;
        if (is_end(last, tag))
            entities[num_entities++] = (struct entity){begin, i, last.type};
        if (is_start(last, tag))
            begin = i;
        last = tag;
    }
    return num_entities;
}

size_t tags_count_common(const struct entity *left, size_t num_left, const struct entity *right,
                         size_t num_right) {
    size_t common = 0, i = 0, j = 0;
    while (i < num_left && j < num_right) {
        if (left[i].begin == right[j].begin && left[i].end == right[j].end &&
            strcmp(left[i].type, right[j].type) == 0)
            ++common;
        const size_t left_end = left[i].end, right_end = right[j].end;
        i += left_end <= right_end;
        j += right_end <= left_end;
    }
    return common;
}

bool tags_is_chunk_tag(const char *name) {
    if (strcmp(name, "O") == 0)
        return true;
    return is_one_of(name[0], "BIES") && (name[1] == '\0' || name[1] == '-');
}
