/* CoNLL files with predictions. */
#include "io/conll.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool conll_ends_sentence(const char *line) {
    static const char document[] = "-DOCSTART-";
    return line[strspn(line, " \t")] == '\0' || strncmp(line, document, sizeof document - 1) == 0;
}

/* Where the next word is looked for. */
struct cursor {
    const struct dataset *dataset;
    size_t example, token; /* the word's sentence; no token before this one is its first piece */
    int32_t word;
};

static const char *next_label(struct cursor *cursor, const int32_t *predicted,
                              const struct label_set *labels) {
    const struct dataset *dataset = cursor->dataset;
    if (cursor->example == dataset->num_examples) /* the file has changed since */
        return "O";
    const size_t end = dataset->offsets[cursor->example + 1];
    size_t at = cursor->token;
    while (at < end && dataset->labels[at] < cursor->word)
        ++at;
    const bool is_seen = at < end && dataset->labels[at] == cursor->word;
    ++cursor->word;
    cursor->token = at;
    return is_seen ? labels->names[predicted[at]] : "O";
}

static void write_line(FILE *stream, struct cursor *cursor, const char *line,
                       const int32_t *predicted, const struct label_set *labels) {
    if (!conll_ends_sentence(line)) {
        const char *separator =
            strchr(line, ' ') != NULL && strchr(line, '\t') == NULL ? " " : "\t";
        fprintf(stream, "%s%s%s\n", line, separator, next_label(cursor, predicted, labels));
        return;
    }
    if (cursor->word > 0 && cursor->example < cursor->dataset->num_examples) {
        ++cursor->example;
        cursor->token = cursor->dataset->offsets[cursor->example];
        cursor->word = 0;
    }
    fprintf(stream, "%s\n", line);
}

char *conll_predictions_text(const char *text, size_t size, const struct dataset *dataset,
                             const int32_t *predicted, const struct label_set *labels) {
    struct cursor cursor = {.dataset = dataset};
    char *written = NULL;
    size_t written_size = 0;
    FILE *stream = open_memstream(&written, &written_size);
    FAULT_UNLESS(stream != NULL, "no memory stream");
    const char *end = text + size;
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        text += 3;
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        const char *next = stop == NULL ? end : stop + 1;
        size_t length = (size_t)((stop == NULL ? end : stop) - text);
        if (length > 0 && text[length - 1] == '\r')
            --length;
        char *line = memory_format("%.*s", (int)length, text);
        write_line(stream, &cursor, line, predicted, labels);
        memory_free(line);
        text = next;
    }
    fclose(stream);
    char *copy = memory_copy_string(written);
    free(written);
    return copy;
}
