/* autolora evaluate RUN_DIR [--split dev|test]: the metrics of a finished run's model, computed
 * again, as result.json has them. */
#include "base/memory.h"
#include "commands.h"
#include "io/json.h"
#include "results.h"
#include "saved_run.h"

#include <stdio.h>
#include <string.h>

struct arguments {
    const char *directory, *split; /* split NULL: all that there are */
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--split") == 0 && i + 1 < argc)
            arguments->split = argv[++i];
        else if (argv[i][0] == '-' || arguments->directory != NULL)
            return problem_set(problem, EXIT_USAGE, "evaluate: unknown or incomplete argument %s",
                               argv[i]);
        else
            arguments->directory = argv[i];
    }
    if (arguments->directory == NULL)
        return problem_set(problem, EXIT_USAGE,
                           "evaluate: no run (autolora evaluate RUN_DIR [--split dev|test])");
    if (arguments->split != NULL && strcmp(arguments->split, "dev") != 0 &&
        strcmp(arguments->split, "test") != 0)
        return problem_set(problem, EXIT_USAGE, "evaluate: --split is dev or test, found %s",
                           arguments->split);
    return true;
}

static bool wants(const struct arguments *arguments, const char *split) {
    return arguments->split == NULL || strcmp(arguments->split, split) == 0;
}

static bool evaluate_generated(const struct trainer *trainer, const struct saved_run *run,
                               const struct arguments *arguments, struct evaluation *dev,
                               struct evaluation *test, struct problem *problem) {
    const struct text_evaluation *texts = trainer->texts;
    const struct point point = {run->factors, NULL};
    return (!wants(arguments, "dev") || evaluate_texts(texts, &trainer->comms, run->stage, &point,
                                                       "dev", texts->dev, dev, problem)) &&
           (!wants(arguments, "test") || evaluate_texts(texts, &trainer->comms, run->stage, &point,
                                                        "test", texts->test, test, problem));
}

static void evaluate(const struct saved_run *run, const struct arguments *arguments,
                     struct problem *problem) {
    const struct trainer trainer = job_trainer(&run->job);
    struct pipeline *pipeline = trainer_pipeline(&trainer, run->stage, false);
    const struct point point = {run->factors, NULL};
    struct evaluation dev = {0}, other_dev = {0}, test = {0};
    if (wants(arguments, "dev"))
        dev = evaluate_dataset(&trainer, pipeline, &point, trainer.dev);
    if (trainer.other_dev != NULL && wants(arguments, "dev"))
        other_dev = evaluate_dataset(&trainer, pipeline, &point, trainer.other_dev);
    if (trainer.test != NULL && wants(arguments, "test"))
        test = evaluate_dataset(&trainer, pipeline, &point, trainer.test);
    pipeline_destroy(&pipeline);
    if (trainer.texts != NULL &&
        !evaluate_generated(&trainer, run, arguments, &dev, &test, problem))
        return;
    if (run->job.comms.world.mpi_rank != 0)
        return;
    struct json *metrics = results_metrics(&run->job, &dev, &other_dev, &test);
    char *text = json_print(metrics, true);
    printf("%s\n", text);
    memory_free(text);
    json_destroy(&metrics);
}

static void run_all(struct saved_run *run, MPI_Comm world, const struct arguments *arguments,
                    struct problem *problem) {
    if (!saved_run_open(run, world, arguments->directory, JOB_EVALUATE, problem))
        return;
    if (arguments->split != NULL && strcmp(arguments->split, "test") == 0 && !run->job.has_test)
        problem_set(problem, EXIT_USAGE, "evaluate: the run's task has no labelled test split");
    else
        evaluate(run, arguments, problem);
}

void cmd_evaluate(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    struct saved_run run = {0};
    struct arguments arguments = {0};
    if (read_arguments(argc, argv, &arguments, problem))
        run_all(&run, world, &arguments, problem);
    saved_run_close(&run);
}
