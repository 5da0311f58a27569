/* Prints the ids of each record of standard input, one record a line of output.
 *
 *     tokenize MODEL_DIRECTORY [--sized] [--word | --decode | --decode-skipping]
 *
 * A record is a line; with --sized it is its number of bytes on a line of its own, followed by that
 * many bytes (any bytes). --word: a record is a word of a sentence. --decode: a record holds ids,
 * the output is a sized record of text; --decode-skipping leaves special tokens out.
 *
 * The number of records, of bytes and the seconds that the tokenizer took are printed on stderr. */
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

enum mode { ENCODE, WORD, DECODE, DECODE_SKIPPING };

/* False if an option is none. */
static bool read_options(int argc, char **argv, bool *is_sized, enum mode *mode) {
    static const char *const names[] = {"", "--word", "--decode", "--decode-skipping"};
    for (int i = 2; i < argc; ++i) {
        enum mode found = DECODE_SKIPPING;
        while (found > ENCODE && strcmp(argv[i], names[found]) != 0)
            --found;
        if (found != ENCODE)
            *mode = found;
        else if (strcmp(argv[i], "--sized") == 0)
            *is_sized = true;
        else
            return false;
    }
    return argc >= 2;
}

static double encode(const struct tokenizer *tokenizer, enum mode mode, const char *record,
                     size_t length, struct token_list *list) {
    const double start = now();
    if (mode == WORD)
        tokenizer_encode_word(tokenizer, record, length, list);
    else
        tokenizer_encode(tokenizer, record, length, list);
    const double seconds = now() - start;
    for (size_t i = 0; i < list->count; ++i)
        printf(i == 0 ? "%d" : " %d", list->ids[i]);
    putchar('\n');
    return seconds;
}

static double decode(const struct tokenizer *tokenizer, enum mode mode, const char *record,
                     size_t length, struct token_list *list) {
    char *numbers = memory_format("%.*s", (int)length, record), *rest;
    for (char *word = strtok_r(numbers, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest))
        token_list_append(list, (int32_t)strtol(word, NULL, 10));
    memory_free(numbers);
    const double start = now();
    size_t bytes;
    char *text =
        tokenizer_decode(tokenizer, list->ids, list->count, mode == DECODE_SKIPPING, &bytes);
    const double seconds = now() - start;
    printf("%zu\n", bytes);
    fwrite(text, 1, bytes, stdout);
    memory_free(text);
    return seconds;
}

int main(int argc, char **argv) {
    bool is_sized = false;
    enum mode mode = ENCODE;
    if (!read_options(argc, argv, &is_sized, &mode)) {
        fprintf(stderr, "usage: tokenize MODEL_DIRECTORY [--sized] [--word | --decode | "
                        "--decode-skipping] < records\n");
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
        list.count = 0;
        seconds += (mode < DECODE ? encode : decode)(tokenizer, mode, record, length, &list);
        num_bytes += length;
    }
    fprintf(stderr, "%zu records, %zu bytes, %.6f seconds\n", num_records, num_bytes, seconds);
    token_list_free(&list);
    memory_free(input);
    tokenizer_destroy(&tokenizer);
    return memory_blocks_now() == 0 ? EXIT_DONE : 1;
}
