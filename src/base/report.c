/* Reporting. Messages are formatted into one buffer and written at once, so that lines of several
 * ranks do not mix. */
#include "base/report.h"

#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool problem_set(struct problem *problem, int exit_code, const char *format, ...) {
    if (problem->exit_code != 0)
        return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
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
    vsnprintf(problem->text + used, sizeof problem->text - used, format, arguments);
    va_end(arguments);
}

static void write_message(const char *prefix, const char *format, va_list arguments) {
    char text[PROBLEM_TEXT_BYTES + 256];
    int used = snprintf(text, sizeof text, "%s", prefix);
    vsnprintf(text + used, sizeof text - (size_t)used - 1, format, arguments);
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
