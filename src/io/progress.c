/* Progress of a run. */
#include "io/progress.h"

#include "base/memory.h"
#include "io/json.h"

#include <errno.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

struct progress {
    char *path;
    FILE *stream;
    double start, last, report_seconds;
};

struct progress *progress_create(const char *jsonl_path, double report_seconds, bool is_continued,
                                 double seconds, struct problem *problem) {
    struct progress *progress = memory_allocate(1, sizeof *progress, "progress");
    progress->path = memory_copy_string(jsonl_path);
    progress->report_seconds = report_seconds;
    progress->last = MPI_Wtime();
    progress->start = progress->last - seconds;
    progress->stream = fopen(jsonl_path, is_continued ? "a" : "w");
    if (progress->stream == NULL) {
        problem_set(problem, EXIT_IO, "%s: cannot be written: %s", jsonl_path, strerror(errno));
        progress_destroy(&progress);
    }
    return progress;
}

void progress_destroy(struct progress **progress) {
    if (*progress == NULL)
        return;
    if ((*progress)->stream != NULL)
        fclose((*progress)->stream);
    memory_free((*progress)->path);
    memory_free(*progress);
    *progress = NULL;
}

bool progress_is_due(const struct progress *progress) {
    return MPI_Wtime() - progress->last >= progress->report_seconds;
}

double progress_seconds(const struct progress *progress) {
    return MPI_Wtime() - progress->start;
}

static void print_duration(double seconds) {
    const size_t whole = (size_t)seconds;
    if (whole >= 3600)
        printf("%zu:%02zu:%02zu", whole / 3600, whole / 60 % 60, whole % 60);
    else
        printf("%zu:%02zu", whole / 60, whole % 60);
}

static void print_line(const struct progress_report *report) {
    printf("%-7s step %5zu/%zu", report->phase, report->step, report->num_steps);
    if (isfinite(report->loss_train))
        printf("  train %.4f", report->loss_train);
    if (isfinite(report->loss_validation))
        printf("  validation %.4f", report->loss_validation);
    if (isfinite(report->score))
        printf("  %s %.4f", report->score_name, report->score);
    if (report->tokens_per_second > 0)
        printf("  %.0f tokens/s", report->tokens_per_second);
    if (report->mean_rank > 0)
        printf("  mean rank %.2f", report->mean_rank);
    printf("  left ");
    print_duration(report->seconds_left);
    printf("\n");
    fflush(stdout);
}

static void add_if_finite(struct json *line, const char *name, double value) {
    if (isfinite(value))
        json_add_number(line, name, value);
}

static char *json_line(const struct progress_report *report, double seconds) {
    struct json *line = json_create_object();
    json_add_string(line, "phase", report->phase);
    json_add_number(line, "step", (double)report->step);
    json_add_number(line, "num_steps", (double)report->num_steps);
    json_add_number(line, "seconds", seconds);
    add_if_finite(line, "loss_train", report->loss_train);
    add_if_finite(line, "loss_validation", report->loss_validation);
    if (isfinite(report->score))
        json_add_number(line, report->score_name, report->score);
    add_if_finite(line, "learning_rate", report->learning_rate);
    if (report->mean_rank > 0) {
        json_add_number(line, "mean_rank", report->mean_rank);
        add_if_finite(line, "mean_entropy", report->mean_entropy);
    }
    json_add_number(line, "tokens_per_second", report->tokens_per_second);
    json_add_number(line, "seconds_left", report->seconds_left);
    char *text = json_print(line, false);
    json_destroy(&line);
    return text;
}

bool progress_write(struct progress *progress, const struct progress_report *report,
                    struct problem *problem) {
    print_line(report);
    progress->last = MPI_Wtime();
    char *text = json_line(report, progress_seconds(progress));
    const bool is_good =
        fprintf(progress->stream, "%s\n", text) > 0 && fflush(progress->stream) == 0;
    memory_free(text);
    if (!is_good)
        return problem_set(problem, EXIT_IO, "%s: cannot be written: %s", progress->path,
                           strerror(errno));
    return true;
}
