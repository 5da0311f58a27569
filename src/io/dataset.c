/* Tasks as token sequences: label sets, the lines of a file and the growing dataset. The formats
 * are in dataset_glue.c, dataset_conll.c and dataset_lm.c. A file is read into memory once and cut
 * into strings in place; therefore a NUL byte in it is refused before anything else. */
#include "io/dataset.h"

#include "base/memory.h"
#include "io/dataset_builder.h"
#include "io/file.h"

#include <stdio.h>
#include <string.h>

enum {
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

void label_set_add_glue(struct label_set *labels, const struct glue_task *task) {
    for (size_t i = 0; i < glue_num_labels(task); ++i)
        label_set_add(labels, task->labels[i]);
    if (glue_is_regression(task))
        label_set_add(labels, task->label);
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

/* Special tokens around one text or two. */
static size_t count_special(const struct tokenizer *tokenizer, bool is_pair) {
    const struct tokenizer_special special = tokenizer_special_ids(tokenizer);
    if (special.classify < 0)
        return 0;
    return 2 + (is_pair ? special.separators_between : 0);
}

size_t dataset_builder_room(const struct dataset_builder *builder) {
    return builder->options->max_length - count_special(builder->tokenizer, false);
}

static void add_labels(struct dataset_builder *builder, const int32_t *labels, size_t count) {
    struct dataset *dataset = &builder->dataset;
    dataset->labels = dataset_grow(dataset->labels, &builder->label_capacity,
                                   builder->num_labels + count, sizeof(int32_t), "labels");
    if (count > 0)
        memcpy(dataset->labels + builder->num_labels, labels, count * sizeof(int32_t));
    builder->num_labels += count;
}

/* Room for the ids of the next example; its token types are 0. */
static int32_t *open_example(struct dataset_builder *builder, size_t length) {
    struct dataset *dataset = &builder->dataset;
    const size_t needed = builder->num_tokens + length;
    dataset->token_ids = dataset_grow(dataset->token_ids, &builder->token_capacity, needed,
                                      sizeof(int32_t), "tokens of a dataset");
    dataset->type_ids = dataset_grow(dataset->type_ids, &builder->type_capacity, needed,
                                     sizeof(int32_t), "token types");
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

/* Writes `count` ids and returns the place behind them. */
static int32_t *put(int32_t *place, const int32_t *ids, size_t count) {
    if (count > 0)
        memcpy(place, ids, count * sizeof *ids);
    return place + count;
}

void dataset_builder_add(struct dataset_builder *builder, const struct token_list *pieces,
                         const int32_t *labels) {
    const struct tokenizer_special special = tokenizer_special_ids(builder->tokenizer);
    const int32_t ignored = LABEL_IGNORED;
    const size_t room = dataset_builder_room(builder);
    const size_t kept = pieces->count > room ? room : pieces->count;
    /* Special tokens on each side; a sequence without any token would be none. */
    const size_t before = special.classify < 0 ? 0 : 1, behind = kept == 0 ? 1 : before;
    const size_t length = before + kept + behind;
    int32_t *ids = open_example(builder, length);
    ids = put(ids, &special.classify, before);
    ids = put(ids, pieces->ids, kept);
    put(ids, &special.separate, behind);
    if (builder->options->kind == TASK_TOKEN_CLASSIFICATION) {
        add_labels(builder, &ignored, before);
        add_labels(builder, labels, kept);
        add_labels(builder, &ignored, behind);
    } else {
        add_labels(builder, labels, 1);
    }
    close_example(builder, length, pieces->count > room);
}

/* What longest_first leaves of two texts, as the package `tokenizers` does it: the shorter one
 * stays as long as the other is longer than it; then both get half, an odd token goes to the longer
 * one, or to b. */
static void cut_longest_first(size_t room, size_t *a, size_t *b) {
    if (*a + *b <= room)
        return;
    const bool is_a_longer = *a > *b;
    size_t *shorter = is_a_longer ? b : a, *longer = is_a_longer ? a : b;
    if (*shorter > room / 2)
        *shorter = room / 2;
    *longer = room - *shorter;
}

void dataset_builder_add_pair(struct dataset_builder *builder, const struct token_list *a,
                              const struct token_list *b, const int32_t *label) {
    const struct tokenizer_special special = tokenizer_special_ids(builder->tokenizer);
    const size_t num_special = count_special(builder->tokenizer, true);
    size_t kept_a = a->count, kept_b = b->count;
    cut_longest_first(builder->options->max_length - num_special, &kept_a, &kept_b);
    const size_t before = num_special > 0 ? 1 : 0, behind = kept_a + kept_b == 0 ? 1 : before;
    const size_t between = num_special > 0 ? special.separators_between : 0;
    const size_t length = before + kept_a + between + kept_b + behind;
    int32_t *ids = open_example(builder, length);
    ids = put(ids, &special.classify, before);
    ids = put(ids, a->ids, kept_a);
    for (size_t i = 0; i < between; ++i)
        ids = put(ids, &special.separate, 1);
    ids = put(ids, b->ids, kept_b);
    put(ids, &special.separate, behind);
    int32_t *types = builder->dataset.type_ids + builder->num_tokens;
    if (special.has_token_types)
        for (size_t i = before + kept_a + between; i < length; ++i)
            types[i] = 1;
    add_labels(builder, label, 1);
    close_example(builder, length, kept_a < a->count || kept_b < b->count);
}

void dataset_builder_add_target(struct dataset_builder *builder, float target) {
    struct dataset *dataset = &builder->dataset;
    dataset->targets = dataset_grow(dataset->targets, &builder->target_capacity,
                                    dataset->num_examples + 1, sizeof(float), "scores");
    dataset->targets[dataset->num_examples] = target;
}

void dataset_builder_add_index(struct dataset_builder *builder, uint32_t index) {
    struct dataset *dataset = &builder->dataset;
    dataset->indices = dataset_grow(dataset->indices, &builder->index_capacity,
                                    dataset->num_examples + 1, sizeof(uint32_t), "indices");
    dataset->indices[dataset->num_examples] = index;
}

/* Gives the arrays their final sizes. */
static void finish(struct dataset_builder *builder) {
    struct dataset *dataset = &builder->dataset;
    const size_t tokens = builder->num_tokens, examples = dataset->num_examples;
    dataset->token_ids =
        memory_resize(dataset->token_ids, tokens, sizeof(int32_t), "tokens of a dataset");
    dataset->type_ids = memory_resize(dataset->type_ids, tokens, sizeof(int32_t), "token types");
    dataset->labels =
        memory_resize(dataset->labels, builder->num_labels, sizeof(int32_t), "labels");
    dataset->offsets = memory_resize(dataset->offsets, examples + 1, sizeof(size_t), "offsets");
    if (dataset->targets != NULL)
        dataset->targets = memory_resize(dataset->targets, examples, sizeof(float), "scores");
    if (dataset->indices != NULL)
        dataset->indices = memory_resize(dataset->indices, examples, sizeof(uint32_t), "indices");
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
    return dataset_read_glue(builder);
}

bool dataset_read(struct dataset *dataset, const struct dataset_options *options,
                  const struct tokenizer *tokenizer, struct label_set *labels,
                  struct problem *problem) {
    *dataset = (struct dataset){.kind = options->kind};
    const bool is_sequence_task = options->kind == TASK_SEQUENCE_CLASSIFICATION;
    FAULT_UNLESS(!is_sequence_task || options->glue != NULL, "a dataset without its task");
    const bool is_pair = is_sequence_task && options->glue->sentences[1] != NULL;
    const size_t least = count_special(tokenizer, is_pair) + 1;
    if (options->max_length < least)
        return problem_set(
            problem, EXIT_USAGE,
            "%s: sequences of %zu tokens hold no text: [CLS], [SEP] and at least one "
            "token make %zu",
            options->path, options->max_length, least);
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
    memory_free(dataset->targets);
    memory_free(dataset->indices);
    *dataset = (struct dataset){0};
}
