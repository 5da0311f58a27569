/* A file of a GLUE task: a byte says which, another one how it is read. */
#include "fuzz.h"

#include "io/dataset.h"
#include "io/submission.h"

static struct tokenizer *tokenizer;

void fuzz_prepare(void) {
    tokenizer = fuzz_wordpiece_tokenizer();
}

static const struct glue_task *task_of(unsigned byte) {
    static const char *const names[] = {"cola", "sst2", "mrpc", "rte", "stsb",
                                        "qnli", "qqp",  "mnli", "wnli"};
    return glue_find(names[byte % (sizeof names / sizeof *names)]);
}

static void write_submission(const struct glue_task *task, const struct dataset *dataset) {
    int32_t *labels = memory_allocate(dataset->num_examples, sizeof *labels, "labels");
    memory_free(submission_text(task, dataset, labels, NULL));
    memory_free(labels);
}

void fuzz_one(const char *bytes, size_t size) {
    struct part file = {bytes, size};
    const struct glue_task *task = task_of(fuzz_take_byte(&file));
    const unsigned how = fuzz_take_byte(&file);
    struct label_set labels = {0};
    label_set_add_glue(&labels, task);
    const struct dataset_options options = {
        .kind = TASK_SEQUENCE_CLASSIFICATION,
        .glue = task,
        .path = fuzz_put("data.tsv", file),
        .max_length = how % 16,
        .limit = how / 16 % 4,
        .is_unlabelled = (how & 64) != 0,
    };
    struct dataset dataset;
    struct problem problem = {0};
    const bool is_good = dataset_read(&dataset, &options, tokenizer, &labels, &problem);
    fuzz_check(is_good, &problem);
    dataset_checksum(&dataset);
    if (is_good && options.is_unlabelled)
        write_submission(task, &dataset);
    dataset_free(&dataset);
    label_set_free(&labels);
}
