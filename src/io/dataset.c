/* Tasks as token sequences: label sets, the lines of a file and the growing dataset. The formats
 * are in dataset_cola.c, dataset_conll.c and dataset_lm.c. A file is read into memory once and cut
 * into strings in place; therefore a NUL byte in it is refused before anything else. */
#include "io/dataset.h"

#include "base/memory.h"
#include "io/dataset_builder.h"
#include "io/file.h"

#include <stdio.h>
#include <string.h>

enum {
    SPECIAL_TOKENS = 2, /* [CLS] and [SEP] */
    PRINTABLE_BYTES = 40,
    LISTED_LABELS = 12,
};

/* ---- label sets ---- */

static void label_set_cut(struct label_set *labels, size_t count) {
    while (labels->count > count)
        memory_free(labels->names[--labels->count]);
}

void label_set_free(struct label_set *labels) {
    label_set_cut(labels, 0);
    memory_free(labels->names);
    *labels = (struct label_set){0};
}

int32_t label_set_find(const struct label_set *labels, const char *name) {
    for (size_t i = 0; i < labels->count; ++i)
        if (strcmp(labels->names[i], name) == 0)
            return (int32_t)i;
    return -1;
}

int32_t label_set_add(struct label_set *labels, const char *name) {
    FAULT_UNLESS(labels->count < INT32_MAX, "%zu labels", labels->count);
    labels->names = memory_resize(labels->names, labels->count + 1, sizeof(char *), "label names");
    labels->names[labels->count] = memory_copy_string(name);
    return (int32_t)labels->count++;
}

/* ---- messages ---- */

struct printable dataset_printable(const char *text) {
    struct printable result = {{0}};
    size_t used = 0, i = 0;
    for (; text[i] != '\0' && i < PRINTABLE_BYTES; ++i) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte >= ' ' && byte <= '~')
            result.text[used++] = (char)byte;
        else
            used +=
                (size_t)snprintf(result.text + used, sizeof result.text - used, "\\x%02X", byte);
    }
    if (text[i] != '\0')
        memcpy(result.text + used, "...", sizeof "...");
    return result;
}

bool dataset_builder_unknown_label(struct dataset_builder *builder, const char *label) {
    const struct label_set *labels = builder->labels;
    char list[LISTED_LABELS * (sizeof(struct printable) + 2) + 64] = "";
    size_t used = 0;
    for (size_t i = 0; i < labels->count && i < LISTED_LABELS; ++i)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : ", ",
                                 dataset_printable(labels->names[i]).text);
    if (labels->count > LISTED_LABELS)
        snprintf(list + used, sizeof list - used, ", ... (%zu labels)", labels->count);
    return problem_set(builder->problem, EXIT_DATA,
                       "%s:%zu: label '%s' is not one of the task's: %s", builder->options->path,
                       builder->line, dataset_printable(label).text,
                       labels->count == 0 ? "there are none" : list);
}

/* ---- lines ---- */

char *dataset_builder_next_line(struct dataset_builder *builder) {
    char *line = builder->next;
    if (line == builder->end)
        return NULL;
    char *stop = memchr(line, '\n', (size_t)(builder->end - line));
    builder->next = stop == NULL ? builder->end : stop + 1;
    if (stop == NULL)
        stop = builder->end;
    if (stop > line && stop[-1] == '\r')
        --stop;
    *stop = '\0';
    ++builder->line;
    return line;
}

static bool check_no_nul(const struct dataset_builder *builder) {
    const char *nul = memchr(builder->next, '\0', (size_t)(builder->end - builder->next));
    if (nul == NULL)
        return true;
    size_t line = 1;
    for (const char *at = builder->next; at < nul; ++at)
        line += *at == '\n';
    return problem_set(builder->problem, EXIT_DATA,
                       "%s:%zu: holds a NUL byte: a binary or UTF-16 file? (UTF-8 is needed)",
                       builder->options->path, line);
}

static bool check_not_empty(const struct dataset_builder *builder) {
    if (builder->dataset.num_examples > 0)
        return true;
    return problem_set(builder->problem, EXIT_DATA, "%s:%zu: the file ends without any example",
                       builder->options->path, builder->line == 0 ? 1 : builder->line);
}

/* ---- the growing dataset ---- */

void *dataset_grow(void *array, size_t *capacity, size_t needed, size_t size, const char *what) {
    if (needed <= *capacity)
        return array;
    size_t grown = *capacity + *capacity / 2 + 64;
    if (grown < needed)
        grown = needed;
    *capacity = grown;
    return memory_resize(array, grown, size, what);
}

bool dataset_builder_is_full(const struct dataset_builder *builder) {
    return builder->options->limit > 0 && builder->dataset.num_examples >= builder->options->limit;
}

size_t dataset_builder_room(const struct dataset_builder *builder) {
    return builder->options->max_length - SPECIAL_TOKENS;
}

static void add_labels(struct dataset_builder *builder, const int32_t *labels, size_t count) {
    struct dataset *dataset = &builder->dataset;
    dataset->labels = dataset_grow(dataset->labels, &builder->label_capacity,
                                   builder->num_labels + count, sizeof(int32_t), "labels");
    if (count > 0)
        memcpy(dataset->labels + builder->num_labels, labels, count * sizeof(int32_t));
    builder->num_labels += count;
}

/* Room for the ids of the next example. */
static int32_t *open_example(struct dataset_builder *builder, size_t length) {
    struct dataset *dataset = &builder->dataset;
    dataset->token_ids =
        dataset_grow(dataset->token_ids, &builder->token_capacity, builder->num_tokens + length,
                     sizeof(int32_t), "tokens of a dataset");
    return dataset->token_ids + builder->num_tokens;
}

static void close_example(struct dataset_builder *builder, size_t length, bool is_cut) {
    struct dataset *dataset = &builder->dataset;
    dataset->offsets = dataset_grow(dataset->offsets, &builder->offset_capacity,
                                    dataset->num_examples + 2, sizeof(size_t), "offsets");
    builder->num_tokens += length;
    dataset->offsets[++dataset->num_examples] = builder->num_tokens; /* offsets[0] is 0 */
    dataset->num_truncated += is_cut;
    if (length > dataset->longest)
        dataset->longest = length;
}

void dataset_builder_add_tokens(struct dataset_builder *builder, const int32_t *ids,
                                const int32_t *labels, size_t length, bool is_cut) {
    memcpy(open_example(builder, length), ids, length * sizeof *ids);
    add_labels(builder, labels, task_labels_tokens(builder->options->kind) ? length : 1);
    close_example(builder, length, is_cut);
}

void dataset_builder_add(struct dataset_builder *builder, const struct token_list *pieces,
                         const int32_t *labels) {
    const struct tokenizer_special special = tokenizer_special_ids(builder->tokenizer);
    const int32_t ignored = LABEL_IGNORED;
    const size_t room = dataset_builder_room(builder);
    const size_t kept = pieces->count > room ? room : pieces->count;
    const size_t length = kept + SPECIAL_TOKENS;
    int32_t *ids = open_example(builder, length);
    ids[0] = special.classify;
    if (kept > 0)
        memcpy(ids + 1, pieces->ids, kept * sizeof(int32_t));
    ids[length - 1] = special.separate;
    if (builder->options->kind == TASK_TOKEN_CLASSIFICATION) {
        add_labels(builder, &ignored, 1);
        add_labels(builder, labels, kept);
        add_labels(builder, &ignored, 1);
    } else {
        add_labels(builder, labels, 1);
    }
    close_example(builder, length, pieces->count > room);
}

/* Gives the arrays their final sizes. */
static void finish(struct dataset_builder *builder) {
    struct dataset *dataset = &builder->dataset;
    dataset->token_ids = memory_resize(dataset->token_ids, builder->num_tokens, sizeof(int32_t),
                                       "tokens of a dataset");
    dataset->labels =
        memory_resize(dataset->labels, builder->num_labels, sizeof(int32_t), "labels");
    dataset->offsets =
        memory_resize(dataset->offsets, dataset->num_examples + 1, sizeof(size_t), "offsets");
    dataset->type_ids = memory_allocate(builder->num_tokens, sizeof(int32_t), "token types");
}

static void skip_byte_order_mark(struct dataset_builder *builder) {
    if (builder->end - builder->next >= 3 && memcmp(builder->next, "\xEF\xBB\xBF", 3) == 0)
        builder->next += 3;
}

static bool read_format(struct dataset_builder *builder) {
    switch (builder->options->kind) {
    case TASK_TOKEN_CLASSIFICATION:
        return dataset_read_conll(builder);
    case TASK_LANGUAGE_MODELING:
        return dataset_read_lm(builder);
    case TASK_SEQUENCE_CLASSIFICATION:
        break;
    }
    return dataset_read_cola(builder);
}

bool dataset_read(struct dataset *dataset, const struct dataset_options *options,
                  const struct tokenizer *tokenizer, struct label_set *labels,
                  struct problem *problem) {
    *dataset = (struct dataset){.kind = options->kind};
    if (options->max_length <= SPECIAL_TOKENS)
        return problem_set(
            problem, EXIT_USAGE,
            "%s: sequences of %zu tokens hold no text: [CLS], [SEP] and at least one "
            "token make 3",
            options->path, options->max_length);
    size_t size = 0;
    char *text = file_read(options->path, &size, problem);
    if (text == NULL)
        return false;
    struct dataset_builder builder = {.options = options,
                                      .tokenizer = tokenizer,
                                      .labels = labels,
                                      .problem = problem,
                                      .next = text,
                                      .end = text + size,
                                      .dataset = {.kind = options->kind}};
    const size_t num_labels_before = labels->count;
    skip_byte_order_mark(&builder);
    const bool is_good =
        check_no_nul(&builder) && read_format(&builder) && check_not_empty(&builder);
    memory_free(text);
    if (is_good) {
        finish(&builder);
        *dataset = builder.dataset;
    } else {
        dataset_free(&builder.dataset);
        label_set_cut(labels, num_labels_before);
    }
    return is_good;
}

void dataset_free(struct dataset *dataset) {
    memory_free(dataset->offsets);
    memory_free(dataset->token_ids);
    memory_free(dataset->type_ids);
    memory_free(dataset->labels);
    *dataset = (struct dataset){0};
}
