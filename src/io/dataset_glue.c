/* GLUE's files: columns separated by TABs, found by their names in the header; a quotation mark is
 * text. */
#include "base/memory.h"
#include "io/dataset_builder.h"
#include "io/glue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 64, LISTED_BYTES = 400 };

/* Where a file has what the task needs. */
struct layout {
    char *header; /* cut into the columns' names */
    char *names[MAX_COLUMNS];
    size_t count;                                               /* columns */
    size_t num_sentences, sentences[GLUE_MAX_SENTENCES], label; /* numbers of columns */
    size_t index; /* unlabelled files; `count` where there is none */
};

/* Cuts a line at its TABs; returns the number of columns, of which the first MAX_COLUMNS are kept.
 */
static size_t split_columns(char *line, char *columns[MAX_COLUMNS]) {
    size_t count = 0;
    for (char *column = line; column != NULL; ++count) {
        if (count < MAX_COLUMNS)
            columns[count] = column;
        column = strchr(column, '\t');
        if (column != NULL)
            *column++ = '\0';
    }
    return count;
}

static bool has_column(const char *line, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = line; at != NULL; at = strchr(at, '\t')) {
        at += *at == '\t';
        if (strncmp(at, name, length) == 0 && (at[length] == '\t' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* ---- the header ---- */

/* The number of the column `name`, or `count`. */
static size_t find_column(const struct layout *layout, const char *name) {
    size_t i = 0;
    while (i < layout->count && strcmp(layout->names[i], name) != 0)
        ++i;
    return i;
}

/* The names of all columns for a message, cut where there are too many. */
static void list_columns(const struct layout *layout, char list[LISTED_BYTES]) {
    size_t used = 0;
    list[0] = '\0';
    for (size_t i = 0; i < layout->count; ++i) {
        const struct printable name = dataset_printable(layout->names[i]);
        const size_t length = strlen(name.text);
        if (used + 2 + length + sizeof ", ..." > LISTED_BYTES) {
            memcpy(list + used, ", ...", sizeof ", ...");
            return;
        }
        if (i > 0) {
            memcpy(list + used, ", ", 2);
            used += 2;
        }
        memcpy(list + used, name.text, length + 1);
        used += length;
    }
}

static bool require_column(const struct dataset_builder *builder, const struct layout *layout,
                           const char *name, size_t *column) {
    *column = find_column(layout, name);
    if (*column < layout->count)
        return true;
    char list[LISTED_BYTES];
    list_columns(layout, list);
    return problem_set(builder->problem, EXIT_DATA,
                       "%s:1: the header has no column '%s', which task %s needs; it has: %s",
                       builder->options->path, name, builder->options->glue->name, list);
}

static bool read_header(const struct dataset_builder *builder, const char *header,
                        struct layout *layout) {
    const struct glue_task *task = builder->options->glue;
    layout->header = memory_copy_string(header);
    layout->count = split_columns(layout->header, layout->names);
    if (layout->count > MAX_COLUMNS)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:1: the header has %zu columns, more than %d", builder->options->path,
                           layout->count, MAX_COLUMNS);
    for (; layout->num_sentences < GLUE_MAX_SENTENCES; ++layout->num_sentences) {
        const char *name = task->sentences[layout->num_sentences];
        if (name == NULL)
            break;
        if (!require_column(builder, layout, name, &layout->sentences[layout->num_sentences]))
            return false;
    }
    if (!builder->options->is_unlabelled)
        return require_column(builder, layout, task->label, &layout->label);
    layout->index = find_column(layout, "index");
    if (layout->index == layout->count)
        layout->index = find_column(layout, "id"); /* QQP's */
    return true;
}

/* ---- rows ---- */

static bool read_target(struct dataset_builder *builder, const char *text) {
    char *end;
    const double value = strtod(text, &end);
    if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text) || *end != '\0' ||
        !isfinite((float)value))
        return problem_set(builder->problem, EXIT_DATA, "%s:%zu: score '%s' is not a number",
                           builder->options->path, builder->line, dataset_printable(text).text);
    dataset_builder_add_target(builder, (float)value);
    return true;
}

static bool read_label(struct dataset_builder *builder, const char *text, int32_t *label) {
    *label = 0; /* the only one of a regression */
    if (glue_is_regression(builder->options->glue))
        return read_target(builder, text);
    *label = label_set_find(builder->labels, text);
    return *label >= 0 || dataset_builder_unknown_label(builder, text);
}

/* Unlabelled rows without an index of their own are counted from 0. */
static bool read_index(struct dataset_builder *builder, const char *text) {
    unsigned long long value = builder->dataset.num_examples;
    if (text != NULL) {
        char *end;
        value = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end != '\0' || value > UINT32_MAX)
            return problem_set(builder->problem, EXIT_DATA,
                               "%s:%zu: index '%s' is not a whole number from 0 to 4294967295",
                               builder->options->path, builder->line, dataset_printable(text).text);
    }
    dataset_builder_add_index(builder, (uint32_t)value);
    return true;
}

static bool wrong_columns(const struct dataset_builder *builder, const struct layout *layout,
                          size_t count) {
    char list[LISTED_BYTES];
    list_columns(layout, list);
    return problem_set(builder->problem, EXIT_DATA,
                       "%s:%zu: expected %zu columns separated by TABs (%s), found %zu",
                       builder->options->path, builder->line, layout->count, list, count);
}

static bool add_row(struct dataset_builder *builder, const struct layout *layout, char *line,
                    struct token_list pieces[GLUE_MAX_SENTENCES]) {
    const struct dataset_options *options = builder->options;
    char *columns[MAX_COLUMNS];
    const size_t count = split_columns(line, columns);
    if (count < layout->count && options->glue->skips_short_rows && !options->is_unlabelled) {
        ++builder->dataset.num_skipped;
        return true;
    }
    if (count != layout->count)
        return wrong_columns(builder, layout, count);
    int32_t label = LABEL_IGNORED;
    if (options->is_unlabelled
            ? !read_index(builder, layout->index < count ? columns[layout->index] : NULL)
            : !read_label(builder, columns[layout->label], &label))
        return false;
    for (size_t s = 0; s < layout->num_sentences; ++s) {
        const char *sentence = columns[layout->sentences[s]];
        pieces[s].count = 0;
        tokenizer_encode(builder->tokenizer, sentence, strlen(sentence), &pieces[s]);
    }
    if (layout->num_sentences == 1)
        dataset_builder_add(builder, &pieces[0], &label);
    else
        dataset_builder_add_pair(builder, &pieces[0], &pieces[1], &label);
    return true;
}

/* `line` is the first of the file, which is a row where the header is only implied. */
static bool read_rows(struct dataset_builder *builder, char *line, struct layout *layout) {
    const struct glue_task *task = builder->options->glue;
    const bool is_implied = task->implied_header != NULL && !(builder->options->is_unlabelled &&
                                                              has_column(line, task->sentences[0]));
    if (!read_header(builder, is_implied ? task->implied_header : line, layout))
        return false;
    if (!is_implied)
        line = dataset_builder_next_line(builder);
    struct token_list pieces[GLUE_MAX_SENTENCES] = {{0}};
    bool is_good = true;
    while (line != NULL && is_good && !dataset_builder_is_full(builder)) {
        is_good = add_row(builder, layout, line, pieces);
        if (is_good && !dataset_builder_is_full(builder))
            line = dataset_builder_next_line(builder);
    }
    for (size_t s = 0; s < GLUE_MAX_SENTENCES; ++s)
        token_list_free(&pieces[s]);
    return is_good;
}

bool dataset_read_glue(struct dataset_builder *builder) {
    struct layout layout = {0};
    char *line = dataset_builder_next_line(builder);
    const bool is_good = line == NULL || read_rows(builder, line, &layout);
    memory_free(layout.header);
    return is_good;
}
