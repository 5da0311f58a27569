/* autolora predict RUN_DIR --in FILE --out FILE: what a finished run's model says about a file.
 * GLUE's tasks: the benchmark's submission format. Labelling: the file with a column more. Language
 * modelling: a text a line for each different context. */
#include "base/memory.h"
#include "commands.h"
#include "io/conll.h"
#include "io/file.h"
#include "io/submission.h"
#include "saved_run.h"
#include "train/evaluate.h"
#include "train/evaluate_texts.h"

#include <stdio.h>
#include <string.h>

struct arguments {
    const char *directory, *in, *out;
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--in") == 0 && i + 1 < argc)
            arguments->in = argv[++i];
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            arguments->out = argv[++i];
        else if (argv[i][0] == '-' || arguments->directory != NULL)
            return problem_set(problem, EXIT_USAGE, "predict: unknown or incomplete argument %s",
                               argv[i]);
        else
            arguments->directory = argv[i];
    }
    return (arguments->directory != NULL && arguments->in != NULL && arguments->out != NULL) ||
           problem_set(problem, EXIT_USAGE,
                       "predict: something is missing (autolora predict RUN_DIR --in FILE --out "
                       "FILE)");
}

/* Free with memory_free; NULL and a problem if the input cannot be read again. */
static char *labelled_text(const struct saved_run *run, const char *path,
                           const struct dataset *dataset, const int32_t *predicted,
                           struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    if (text == NULL)
        return NULL;
    char *labelled = conll_predictions_text(text, size, dataset, predicted, &run->job.labels);
    memory_free(text);
    return labelled;
}

static void write_predictions(const struct saved_run *run, const struct arguments *arguments,
                              const struct dataset *dataset, const struct predictions *predictions,
                              struct problem *problem) {
    char *text =
        run->job.glue != NULL
            ? submission_text(run->job.glue, dataset, predictions->labels, predictions->scores)
            : labelled_text(run, arguments->in, dataset, predictions->labels, problem);
    if (text != NULL && file_write_atomically(arguments->out, text, strlen(text), problem))
        printf("%zu examples, %zu cut at task.max_length\n", dataset->num_examples,
               dataset->num_truncated);
    memory_free(text);
}

/* In a labelling task the labels of `dataset` are the numbers of words, which only the writing
 * wants to see. */
static struct predictions predict(const struct saved_run *run, const struct dataset *dataset) {
    struct dataset hidden = *dataset;
    const size_t tokens = dataset->offsets[dataset->num_examples];
    const size_t count = task_labels_tokens(dataset->kind) ? tokens : dataset->num_examples;
    hidden.labels = memory_allocate(count, sizeof *hidden.labels, "labels");
    for (size_t i = 0; i < count; ++i)
        hidden.labels[i] = LABEL_IGNORED;
    struct trainer trainer = job_trainer(&run->job);
    trainer.optimizer = run->job.config.optimizer;
    trainer.dev = &hidden;
    trainer_limit_batch(&trainer);
    struct pipeline *pipeline = trainer_pipeline(&trainer, run->stage, false);
    const struct point point = {run->factors, NULL};
    struct predictions predictions;
    evaluate_predict(&trainer, pipeline, &point, &hidden, &predictions);
    pipeline_destroy(&pipeline);
    memory_free(hidden.labels);
    return predictions;
}

/* A text for each different context of the file, in the order of the file. */
static void write_texts(const struct saved_run *run, const struct arguments *arguments,
                        struct problem *problem) {
    const struct point point = {run->factors, NULL};
    struct lm_references contexts;
    if (!job_read_contexts(&run->job, arguments->in, &contexts, problem))
        return;
    if (texts_generate(&run->job.texts, &run->job.comms, run->stage, &point, &contexts,
                       arguments->out, problem) &&
        run->job.comms.world.mpi_rank == 0)
        printf("%zu contexts\n", contexts.count);
    lm_references_free(&contexts);
}

static void run_all(struct saved_run *run, MPI_Comm world, const struct arguments *arguments,
                    struct problem *problem) {
    struct dataset dataset;
    if (!saved_run_open(run, world, arguments->directory, JOB_APPLY, problem))
        return;
    if (run->job.config.task.kind == TASK_LANGUAGE_MODELING) {
        write_texts(run, arguments, problem);
        return;
    }
    if (!job_read_unlabelled(&run->job, arguments->in, &dataset, problem))
        return;
    struct predictions predictions = predict(run, &dataset);
    if (run->job.comms.world.mpi_rank == 0)
        write_predictions(run, arguments, &dataset, &predictions, problem);
    comm_agree(&run->job.comms.world, problem);
    predictions_free(&predictions);
    dataset_free(&dataset);
}

void cmd_predict(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    struct saved_run run = {0};
    struct arguments arguments = {0};
    if (read_arguments(argc, argv, &arguments, problem))
        run_all(&run, world, &arguments, problem);
    saved_run_close(&run);
}
