/* The table of GLUE's tasks. Metrics and submission files are those of gluebenchmark.com. */
#include "io/glue.h"

#include <string.h>

#define ONE_DEV .dev_file = "dev.tsv", .dev_split = "dev"
#define BINARY .labels = {"0", "1"}
#define ENTAILMENT .labels = {"entailment", "not_entailment"}
#define ACCURACY .metrics = {GLUE_ACCURACY}, .num_metrics = 1
#define ACCURACY_AND_F1                                                                            \
    .metrics = {GLUE_ACCURACY, GLUE_F1}, .num_metrics = 2, .score = "accuracy_and_f1"

static const struct glue_task TASKS[] = {
    {.name = "cola",
     .sentences = {"sentence"},
     .label = "label",
     .implied_header = "source\tlabel\tmark\tsentence",
     BINARY,
     .metrics = {GLUE_MATTHEWS, GLUE_ACCURACY},
     .num_metrics = 2,
     ONE_DEV,
     .submission_file = "CoLA.tsv"},
    {.name = "sst2",
     .sentences = {"sentence"},
     .label = "label",
     BINARY,
     ACCURACY,
     ONE_DEV,
     .submission_file = "SST-2.tsv"},
    {.name = "mrpc",
     .sentences = {"#1 String", "#2 String"},
     .label = "Quality",
     BINARY,
     ACCURACY_AND_F1,
     ONE_DEV,
     .submission_file = "MRPC.tsv"},
    {.name = "rte",
     .sentences = {"sentence1", "sentence2"},
     .label = "label",
     ENTAILMENT,
     ACCURACY,
     ONE_DEV,
     .submission_file = "RTE.tsv"},
    {.name = "stsb",
     .sentences = {"sentence1", "sentence2"},
     .label = "score",
     .metrics = {GLUE_PEARSON, GLUE_SPEARMAN},
     .num_metrics = 2,
     .score = "pearson_and_spearman",
     ONE_DEV,
     .submission_file = "STS-B.tsv",
     .lowest = 0,
     .highest = 5},
    {.name = "qnli",
     .sentences = {"question", "sentence"},
     .label = "label",
     ENTAILMENT,
     ACCURACY,
     ONE_DEV,
     .submission_file = "QNLI.tsv"},
    {.name = "qqp",
     .sentences = {"question1", "question2"},
     .label = "is_duplicate",
     BINARY,
     ACCURACY_AND_F1,
     .skips_short_rows = true,
     ONE_DEV,
     .submission_file = "QQP.tsv"},
    {.name = "mnli",
     .sentences = {"sentence1", "sentence2"},
     .label = "gold_label",
     .labels = {"entailment", "neutral", "contradiction"},
     ACCURACY,
     .dev_file = "dev_matched.tsv",
     .dev_split = "dev_matched",
     .other_dev_file = "dev_mismatched.tsv",
     .other_dev_split = "dev_mismatched",
     .submission_file = "MNLI-m.tsv",
     .other_submission = "MNLI-mm.tsv"},
    {.name = "wnli",
     .sentences = {"sentence1", "sentence2"},
     .label = "label",
     BINARY,
     ACCURACY,
     ONE_DEV,
     .submission_file = "WNLI.tsv"},
};

const struct glue_task *glue_find(const char *name) {
    for (size_t i = 0; i < sizeof TASKS / sizeof *TASKS; ++i)
        if (strcmp(TASKS[i].name, name) == 0)
            return &TASKS[i];
    return NULL;
}

size_t glue_num_labels(const struct glue_task *task) {
    size_t count = 0;
    while (count < GLUE_MAX_LABELS && task->labels[count] != NULL)
        ++count;
    return count;
}

bool glue_is_regression(const struct glue_task *task) {
    return glue_num_labels(task) == 0;
}

const char *glue_metric_name(enum glue_metric metric) {
    static const char *const names[] = {
        [GLUE_ACCURACY] = "accuracy",
        [GLUE_F1] = "f1",
        [GLUE_MATTHEWS] = "matthews_correlation",
        [GLUE_PEARSON] = "pearson",
        [GLUE_SPEARMAN] = "spearman",
    };
    return names[metric];
}
