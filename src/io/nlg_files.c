#include "io/nlg_files.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/nlg_text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct example {
    const char *context;
    size_t index;
};

static int compare(const void *left, const void *right) {
    const struct example *a = left, *b = right;
    const int order = strcmp(a->context, b->context);
    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

/* leader [count]: the first example with the same context. */
static void find_leaders(const char *const *contexts, size_t count, size_t *leader) {
    struct example *examples = memory_allocate(count, sizeof *examples, "examples");
    for (size_t i = 0; i < count; ++i)
        examples[i] = (struct example){contexts[i], i};
    qsort(examples, count, sizeof *examples, compare);
    for (size_t i = 0; i < count; ++i) {
        const bool is_new = i == 0 || strcmp(examples[i].context, examples[i - 1].context) != 0;
        leader[examples[i].index] = is_new ? examples[i].index : leader[examples[i - 1].index];
    }
    memory_free(examples);
}

struct nlg_groups nlg_groups_create(const char *const *contexts, const char *const *completions,
                                    size_t num_examples) {
    struct nlg_groups groups = {
        .first = memory_allocate(num_examples, sizeof *groups.first, "groups"),
        .offsets = memory_allocate(num_examples + 1, sizeof *groups.offsets, "groups"),
        .references = memory_allocate(num_examples, sizeof *groups.references, "references"),
    };
    size_t *leader = memory_allocate(num_examples, sizeof *leader, "groups");
    size_t *group = memory_allocate(num_examples, sizeof *group, "groups");
    find_leaders(contexts, num_examples, leader);
    for (size_t i = 0; i < num_examples; ++i) {
        group[i] = leader[i] == i ? groups.count : group[leader[i]];
        if (leader[i] == i)
            groups.first[groups.count++] = i;
        ++groups.offsets[group[i] + 1];
    }
    for (size_t g = 0; g < groups.count; ++g)
        groups.offsets[g + 1] += groups.offsets[g];
    size_t *next = leader; /* of each group: where its next reference goes */
    memcpy(next, groups.offsets, groups.count * sizeof *next);
    for (size_t i = 0; i < num_examples; ++i)
        groups.references[next[group[i]]++] = completions[i];
    memory_free(leader);
    memory_free(group);
    return groups;
}

void nlg_groups_destroy(struct nlg_groups *groups) {
    memory_free(groups->first);
    memory_free(groups->offsets);
    memory_free(groups->references);
    *groups = (struct nlg_groups){0};
}

static bool breaks_line(int32_t c) {
    return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

/* Appends one line; false, and nothing appended, if it is empty. */
static bool add_line(struct nlg_text *file, const char *text) {
    const size_t before = file->length;
    size_t end = before;
    for (const char *at = text; *at != '\0';) {
        const int32_t c = nlg_next_code_point(&at);
        if (nlg_is_space(c) && end == before)
            continue;
        nlg_text_add(file, breaks_line(c) ? ' ' : c);
        if (!nlg_is_space(c))
            end = file->length;
    }
    nlg_text_cut(file, end);
    if (end == before)
        return false;
    nlg_text_add(file, '\n');
    return true;
}

bool nlg_write_hypotheses(const char *path, const char *const *hypotheses, size_t count,
                          struct problem *problem) {
    struct nlg_text file = {0};
    nlg_text_cut(&file, 0);
    for (size_t i = 0; i < count; ++i)
        if (!add_line(&file, hypotheses[i]))
            nlg_text_add(&file, '\n');
    const bool ok = file_write_atomically(path, file.bytes, file.length, problem);
    memory_free(file.bytes);
    return ok;
}

bool nlg_write_references(const char *path, const char *const *references, const size_t *offsets,
                          size_t count, struct problem *problem) {
    struct nlg_text file = {0};
    nlg_text_cut(&file, 0);
    bool ok = true;
    for (size_t i = 0; i < count && ok; ++i) {
        bool has_reference = false;
        for (size_t k = offsets[i]; k < offsets[i + 1]; ++k)
            has_reference |= add_line(&file, references[k]);
        nlg_text_add(&file, '\n');
        if (!has_reference)
            ok = problem_set(problem, EXIT_DATA,
                             "%s: all %zu references of text %zu are empty: expected at least one "
                             "with words",
                             path, offsets[i + 1] - offsets[i], i + 1);
    }
    ok = ok && file_write_atomically(path, file.bytes, file.length, problem);
    memory_free(file.bytes);
    return ok;
}
