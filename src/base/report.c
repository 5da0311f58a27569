/* Reporting. Messages are formatted into one buffer and written at once, so that lines of several
 * ranks do not mix. */
#include "base/report.h"

#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 200, KEPT_START = 60 };

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t';
}

static bool continues_character(char c) {
    return ((unsigned char)c & 0xc0) == 0x80; /* UTF-8 */
}

/* Shortens what is too long in the middle: a long path stays known by its end, and what stands
 * behind it is not lost. Returns the new length. */
static size_t cut_middle(char *text, size_t length, size_t longest) {
    if (length <= longest || longest < 2 * KEPT_START)
        return length < longest ? length : longest;
    size_t start = KEPT_START, rest = length - (longest - KEPT_START - 3);
    while (start > 0 && continues_character(text[start]))
        --start;
    while (rest < length && continues_character(text[rest]))
        ++rest;
    memcpy(text + start, "...", 3);
    memmove(text + start + 3, text + rest, length - rest);
    return start + 3 + length - rest;
}

static size_t cut_words(char *text) {
    size_t used = 0;
    for (const char *at = text; *at != '\0';) {
        size_t length = 1;
        if (!is_space(*at))
            while (at[length] != '\0' && !is_space(at[length]))
                ++length;
        memmove(text + used, at, length);
        at += length;
        used += cut_middle(text + used, length, LONGEST_WORD);
    }
    text[used] = '\0';
    return used;
}

/* printf into text [size]. */
static void format_message(char *text, size_t size, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    char *whole = NULL;
    if (vasprintf(&whole, format, arguments) < 0) { /* out of memory, perhaps what is reported */
        vsnprintf(text, size, format, again);
    } else {
        const size_t length = cut_middle(whole, cut_words(whole), size - 1);
        memcpy(text, whole, length);
        text[length] = '\0';
        free(whole);
    }
    va_end(again);
}

bool problem_set(struct problem *problem, int exit_code, const char *format, ...) {
    if (problem->exit_code != 0)
        return false;
    va_list arguments;
    va_start(arguments, format);
    format_message(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
    problem->exit_code = exit_code;
    return false;
}

void problem_append(struct problem *problem, int exit_code, const char *format, ...) {
    size_t used = problem->exit_code == 0 ? 0 : strlen(problem->text);
    problem->exit_code = exit_code;
    if (used + 2 >= sizeof problem->text)
        return;
    if (used > 0)
        problem->text[used++] = '\n';
    va_list arguments;
    va_start(arguments, format);
    format_message(problem->text + used, sizeof problem->text - used, format, arguments);
    va_end(arguments);
}

static void write_message(const char *prefix, const char *format, va_list arguments) {
    char text[PROBLEM_TEXT_BYTES + 256];
    int used = snprintf(text, sizeof text, "%s", prefix);
    format_message(text + used, sizeof text - (size_t)used - 1, format, arguments);
    strcat(text, "\n");
    fflush(stdout);
    fputs(text, stderr);
    fflush(stderr);
}

void report_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_message("autolora: ", format, arguments);
    va_end(arguments);
}

void report_abort(int exit_code, const char *file, int line, const char *format, ...) {
    int is_initialized = 0, is_finalized = 0, mpi_rank = 0;
    MPI_Initialized(&is_initialized);
    MPI_Finalized(&is_finalized);
    const bool has_mpi = is_initialized && !is_finalized;
    if (has_mpi)
        MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    char prefix[512];
    snprintf(prefix, sizeof prefix, "autolora: rank %d: %s:%d: ", mpi_rank, file, line);
    va_list arguments;
    va_start(arguments, format);
    write_message(prefix, format, arguments);
    va_end(arguments);
    if (has_mpi)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    _Exit(exit_code);
}
