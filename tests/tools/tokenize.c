/* Prints the ids of each record of standard input, one record a line of output.
 *
 *     tokenize MODEL_DIRECTORY            a record is a line
 *     tokenize MODEL_DIRECTORY --sized    a record is its number of bytes on a line of its own,
 *                                         followed by that many bytes (any bytes)
 *
 * The number of records, of bytes and the seconds that encoding took are printed on stderr. */
#include "base/memory.h"
#include "io/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static char *read_all(FILE *file, size_t *size) {
    size_t capacity = 1 << 20, count = 0, got;
    char *text = memory_allocate(capacity, 1, "standard input");
    while ((got = fread(text + count, 1, capacity - count, file)) > 0) {
        count += got;
        if (count == capacity)
            text = memory_resize(text, capacity *= 2, 1, "standard input");
    }
    text = memory_resize(text, count + 1, 1, "standard input");
    *size = count;
    return text;
}

/* The record at *at, which moves behind it; false if it is malformed. */
static bool next_record(const char **at, const char *end, bool is_sized, const char **record,
                        size_t *length) {
    const char *line_end = memchr(*at, '\n', (size_t)(end - *at));
    if (!is_sized) {
        *record = *at;
        *length = (size_t)((line_end != NULL ? line_end : end) - *at);
        *at = line_end != NULL ? line_end + 1 : end;
        return true;
    }
    if (line_end == NULL)
        return false;
    *length = strtoul(*at, NULL, 10);
    *record = line_end + 1;
    *at = *record + *length;
    return *length <= (size_t)(end - *record);
}

int main(int argc, char **argv) {
    const bool is_sized = argc == 3 && strcmp(argv[2], "--sized") == 0;
    if (argc != 2 && !is_sized) {
        fprintf(stderr, "usage: tokenize MODEL_DIRECTORY [--sized] < records\n");
        return EXIT_USAGE;
    }
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(argv[1], &problem);
    if (tokenizer == NULL) {
        report_error("%s", problem.text);
        return problem.exit_code;
    }
    size_t size = 0, num_records = 0, num_bytes = 0;
    char *input = read_all(stdin, &size);
    struct token_list list = {0};
    double seconds = 0;
    for (const char *at = input, *end = input + size; at < end; ++num_records) {
        const char *record;
        size_t length;
        if (!next_record(&at, end, is_sized, &record, &length)) {
            report_error("record %zu is cut off", num_records + 1);
            return EXIT_USAGE;
        }
        const double start = now();
        list.count = 0;
        tokenizer_encode(tokenizer, record, length, &list);
        seconds += now() - start;
        num_bytes += length;
        for (size_t i = 0; i < list.count; ++i)
            printf(i == 0 ? "%d" : " %d", list.ids[i]);
        putchar('\n');
    }
    fprintf(stderr, "%zu records, %zu bytes, %.6f seconds\n", num_records, num_bytes, seconds);
    token_list_free(&list);
    memory_free(input);
    tokenizer_destroy(&tokenizer);
    return memory_blocks_now() == 0 ? EXIT_DONE : 1;
}
