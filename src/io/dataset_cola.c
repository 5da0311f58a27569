/* CoLA's file format: source, label, mark, sentence, separated by TABs; a quotation mark is text.
 */
#include "io/dataset_builder.h"

#include <string.h>

enum { COLUMN_LABEL = 1, COLUMN_SENTENCE = 3, NUM_COLUMNS = 4 };

/* Cuts a line at its TABs; returns the number of columns, of which the first NUM_COLUMNS are kept.
 */
static size_t split_columns(char *line, char *columns[NUM_COLUMNS]) {
    size_t count = 0;
    for (char *column = line; column != NULL; ++count) {
        if (count < NUM_COLUMNS)
            columns[count] = column;
        column = strchr(column, '\t');
        if (column != NULL)
            *column++ = '\0';
    }
    return count;
}

static bool add_row(struct dataset_builder *builder, char *line, struct token_list *pieces) {
    char *columns[NUM_COLUMNS];
    const size_t count = split_columns(line, columns);
    if (count != NUM_COLUMNS)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: expected 4 columns separated by TABs (source, label, mark, "
                           "sentence), found %zu",
                           builder->options->path, builder->line, count);
    const int32_t label = label_set_find(builder->labels, columns[COLUMN_LABEL]);
    if (label < 0)
        return dataset_builder_unknown_label(builder, columns[COLUMN_LABEL]);
    const char *sentence = columns[COLUMN_SENTENCE];
    pieces->count = 0;
    tokenizer_encode(builder->tokenizer, sentence, strlen(sentence), pieces);
    dataset_builder_add(builder, pieces, &label);
    return true;
}

bool dataset_read_cola(struct dataset_builder *builder) {
    struct token_list pieces = {0};
    bool is_good = true;
    while (is_good && !dataset_builder_is_full(builder)) {
        char *line = dataset_builder_next_line(builder);
        if (line == NULL)
            break;
        is_good = add_row(builder, line, &pieces);
    }
    token_list_free(&pieces);
    return is_good;
}
