/* GLUE's submission files. */
#include "io/submission.h"

#include "base/memory.h"
#include "base/report.h"

#include <stdio.h>
#include <stdlib.h>

static void print_prediction(FILE *stream, const struct glue_task *task, int32_t label,
                             double score) {
    if (glue_is_regression(task)) {
        const double cut = score < task->lowest    ? task->lowest
                           : score > task->highest ? task->highest
                                                   : score;
        fprintf(stream, "%.3f\n", cut);
        return;
    }
    FAULT_UNLESS(label >= 0 && (size_t)label < glue_num_labels(task), "label %d of task %s",
                 (int)label, task->name);
    fprintf(stream, "%s\n", task->labels[label]);
}

char *submission_text(const struct glue_task *task, const struct dataset *dataset,
                      const int32_t *labels, const float *scores) {
    FAULT_UNLESS(dataset->indices != NULL, "a submission from a labelled file");
    char *printed = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&printed, &size);
    FAULT_UNLESS(stream != NULL, "no memory stream");
    fputs("index\tprediction\n", stream);
    for (size_t i = 0; i < dataset->num_examples; ++i) {
        fprintf(stream, "%u\t", (unsigned)dataset->indices[i]);
        print_prediction(stream, task, labels[i], scores != NULL ? (double)scores[i] : 0);
    }
    FAULT_UNLESS(fclose(stream) == 0, "the memory stream failed");
    char *text = memory_copy_string(printed);
    free(printed);
    return text;
}
