/* A spectrum as a file and as a table. */
#include "spectrum.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/h5file.h"
#include "io/json.h"
#include "results.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- spectrum.h5 ---- */

/* A dataset [count] of whole elements; bytes: the type's own. */
static void write_column(struct h5file *file, const char *group, const char *name, enum h5type type,
                         const void *values, size_t count, const char *description,
                         struct problem *problem) {
    char *path = memory_format("%s/%s", group, name);
    struct h5series *series = h5file_make_series(file, path, type, NULL, 0, problem);
    if (series != NULL && h5series_append(series, values, count, problem))
        h5file_write_text(file, path, "description", description, problem);
    memory_free(path);
}

static void write_part(struct h5file *file, const char *group, const char *matrix,
                       const struct singular_values *part, const struct spectrum *spectrum,
                       struct problem *problem) {
    const size_t count = spectrum->num_modules;
    char *path = memory_format("%s/singular_values", group);
    if (h5file_write_matrix(file, path, part->values, count, spectrum->width, problem))
        h5file_write_text(file, path, "description", matrix, problem);
    memory_free(path);
    write_column(file, group, "effective_rank", H5TYPE_F64, part->effective_rank, count,
                 "exp(entropy of the singular values' shares of their sum)", problem);
    write_column(file, group, "stable_rank", H5TYPE_F64, part->stable_rank, count,
                 "sum of the squares over the largest square", problem);
    write_column(file, group, "num_above", H5TYPE_U64, part->num_above, count,
                 "singular values of at least `threshold` times the largest", problem);
}

static void write_all(struct h5file *file, const struct spectrum *spectrum, const struct job *job,
                      struct problem *problem) {
    const bool is_full = spectrum->ranks == NULL;
    struct json *provenance = results_provenance(job);
    char *text = json_print(provenance, false);
    h5file_write_text(file, "/", "input", job->input_text, problem);
    h5file_write_text(file, "/", "provenance", text, problem);
    h5file_write_text(file, "/", "method", config_method_name(job->config.adapter.method), problem);
    h5file_write_number(file, "/", "threshold", SPECTRUM_THRESHOLD, problem);
    h5file_write_strings(file, "/modules", (const char *const *)spectrum->names,
                         spectrum->num_modules, problem);
    write_part(file, "/update",
               is_full ? "of W - W0; behind its rank with the rounding of W"
                       : "of s B A; exactly zero behind the rank",
               &spectrum->update, spectrum, problem);
    write_part(file, "/frozen", "of the pretrained weight W0", &spectrum->frozen, spectrum,
               problem);
    if (!is_full)
        write_column(file, "", "ranks", H5TYPE_U64, spectrum->ranks, spectrum->num_modules,
                     "lora_rank", problem);
    memory_free(text);
    json_destroy(&provenance);
}

bool spectrum_write(const struct spectrum *spectrum, const struct job *job, const char *directory,
                    struct problem *problem) {
    char *path = file_join(directory, "spectrum.h5");
    char *temporary = memory_format("%s.tmp", path);
    struct h5file *file = h5file_create(temporary, problem);
    if (file != NULL)
        write_all(file, spectrum, job, problem);
    h5file_close(&file, problem);
    const bool is_good = problem->exit_code == 0 && file_rename(temporary, path, problem);
    if (!is_good)
        unlink(temporary);
    memory_free(temporary);
    memory_free(path);
    return is_good;
}

/* ---- the table ---- */

static void print_part(const struct singular_values *part, const struct spectrum *spectrum,
                       size_t m) {
    printf("  %9.2f %7.2f %5zu %10.4g", part->effective_rank[m], part->stable_rank[m],
           part->num_above[m], (double)part->values[m * spectrum->width]);
}

static void print_row(const struct spectrum *spectrum, size_t m, int width) {
    char *size = memory_format("%zu x %zu", spectrum->rows[m], spectrum->columns[m]);
    printf("%-*s %11s", width, spectrum->names[m], size);
    if (spectrum->ranks != NULL)
        printf(" %4zu", spectrum->ranks[m]);
    print_part(&spectrum->update, spectrum, m);
    print_part(&spectrum->frozen, spectrum, m);
    printf("\n");
    memory_free(size);
}

void spectrum_print(const struct spectrum *spectrum) {
    size_t width = strlen("module");
    for (size_t m = 0; m < spectrum->num_modules; ++m)
        width = strlen(spectrum->names[m]) > width ? strlen(spectrum->names[m]) : width;
    const char *rank = spectrum->ranks != NULL ? " rank" : "";
    const int margin = (int)(width + strlen(" 768 x 3072") + 1 + strlen(rank));
    printf("%*s  %-34s  %-34s\n", margin, "",
           spectrum->ranks != NULL ? "update s B A" : "update W - W0", "frozen weight W0");
    printf("%-*s %11s%s", (int)width, "module", "size", rank);
    for (int part = 0; part < 2; ++part)
        printf("  %9s %7s %4.0f%% %10s", "effective", "stable", 100 * SPECTRUM_THRESHOLD,
               "largest");
    printf("\n");
    for (size_t m = 0; m < spectrum->num_modules; ++m)
        print_row(spectrum, m, (int)width);
    printf("(effective: exp(entropy of the singular values); stable: sum of squares / largest "
           "square;\n %g%%: how many are at least that of the largest)\n",
           100 * SPECTRUM_THRESHOLD);
}
