/* A job's data: rank 0 reads and checks the files, everything is broadcast. */
#include "job_parts.h"

#include "base/memory.h"
#include "io/dataset_share.h"
#include "io/file.h"
#include "io/tokenizer.h"

#include <string.h>

bool job_trains(const struct job *job) {
    return job->purpose == JOB_TRAIN || job->purpose == JOB_PLAN;
}

/* The files of a task by their usual names: the first that exists; the first name if none does. */
static char *usual_file(const struct task_options *task, const char *const *names) {
    for (size_t i = 0; names[i] != NULL; ++i) {
        char *path = file_join(task->data_dir, names[i]);
        if (file_exists(path))
            return path;
        memory_free(path);
    }
    return file_join(task->data_dir, names[0]);
}

static char *task_file(const struct task_options *task, const char *given,
                       const char *const *names) {
    if (*given == '\0')
        return usual_file(task, names);
    return *given == '/' ? memory_copy_string(given) : file_join(task->data_dir, given);
}

static enum completion_format completion_format_of(const struct job *job) {
    return strcmp(job->config.task.name, "webnlg") == 0 ? COMPLETION_WEBNLG : COMPLETION_LINES;
}

static bool read_split(const struct job *job, const struct tokenizer *tokenizer, char *path,
                       size_t limit, bool is_training, struct label_set *labels,
                       struct dataset *dataset, struct lm_references *references,
                       struct problem *problem) {
    const struct dataset_options options = {
        .kind = (enum task_kind)job->config.task.kind,
        .glue = job->glue,
        .completion_format = completion_format_of(job),
        .references = references,
        .path = path,
        .max_length = job->config.task.max_length,
        .limit = limit,
        .defines_labels = is_training && job->config.task.kind == TASK_TOKEN_CLASSIFICATION,
    };
    const bool is_good = dataset_read(dataset, &options, tokenizer, labels, problem);
    memory_free(path);
    return is_good;
}

/* GLUE's public test files have no labels, so a test split is read only where one is named. */
static bool read_test(struct job *job, const struct tokenizer *tokenizer, struct problem *problem) {
    static const char *const names[] = {"test.tsv", "test.txt", "test.conll", "test.json", NULL};
    const struct task_options *task = &job->config.task;
    char *path = task_file(task, task->test_file, names);
    const bool is_named = *task->test_file != '\0';
    job->has_test = is_named || (task_labels_tokens(task->kind) && file_exists(path));
    if (!job->has_test) {
        memory_free(path);
        return true;
    }
    return read_split(job, tokenizer, path, 0, false, &job->labels, &job->test,
                      &job->test_references, problem);
}

/* Both development sets of MNLI, unless one is named. */
static bool read_dev(struct job *job, const struct tokenizer *tokenizer, struct problem *problem) {
    static const char *const names[] = {"dev.tsv",   "devel.tsv", "valid.tsv", "valid.txt",
                                        "dev.conll", "dev.json",  NULL};
    const struct task_options *task = &job->config.task;
    const bool is_named = *task->dev_file != '\0';
    const char *file = job->glue != NULL && !is_named ? job->glue->dev_file : task->dev_file;
    if (!read_split(job, tokenizer, task_file(task, file, names), task->limit_dev, false,
                    &job->labels, &job->dev, &job->dev_references, problem))
        return false;
    job->has_other_dev = job->glue != NULL && job->glue->other_dev_file != NULL && !is_named;
    return !job->has_other_dev ||
           read_split(job, tokenizer, task_file(task, job->glue->other_dev_file, names),
                      task->limit_dev, false, &job->labels, &job->other_dev, NULL, problem);
}

static bool read_own_validation(struct job *job, const struct tokenizer *tokenizer,
                                struct problem *problem) {
    static const char *const none[] = {"", NULL};
    const char *file = job->config.search.validation_file;
    if (*file == '\0')
        return true;
    struct dataset own = {0};
    if (!read_split(job, tokenizer, task_file(&job->config.task, file, none), 0, false,
                    &job->labels, &own, NULL, problem))
        return false;
    job->num_own_validation = own.num_examples;
    dataset_append(&job->train, &own);
    dataset_free(&own);
    return true;
}

/* The base model's, with no more pieces than the model has embeddings. */
static struct tokenizer *open_tokenizer(const struct job *job, struct problem *problem) {
    struct tokenizer *tokenizer = tokenizer_create(job->config.model.path, problem);
    if (tokenizer != NULL &&
        tokenizer_vocabulary_size(tokenizer) > job->architecture.vocabulary_size) {
        problem_set(problem, EXIT_DATA, "%s: the tokenizer has %zu pieces, the model only %zu",
                    job->config.model.path, tokenizer_vocabulary_size(tokenizer),
                    job->architecture.vocabulary_size);
        tokenizer_destroy(&tokenizer);
    }
    return tokenizer;
}

static bool read_data(struct job *job, struct problem *problem) {
    static const char *const train_names[] = {"train.tsv", "train.txt", "train.conll", "train.json",
                                              NULL};
    const struct task_options *task = &job->config.task;
    struct tokenizer *tokenizer = open_tokenizer(job, problem);
    bool is_good = tokenizer != NULL;
    if (job->glue != NULL && job_trains(job))
        label_set_add_glue(&job->labels, job->glue);
    if (job_trains(job)) {
        is_good = is_good &&
                  read_split(job, tokenizer, task_file(task, task->train_file, train_names),
                             task->limit_train, true, &job->labels, &job->train, NULL, problem);
        is_good = is_good && read_own_validation(job, tokenizer, problem);
    }
    is_good = is_good && read_dev(job, tokenizer, problem);
    is_good = is_good && read_test(job, tokenizer, problem);
    job->tokenizer = tokenizer;
    return is_good;
}

/* As long as said; every label is the first one, and in language modelling half of the tokens have
 * one. */
static struct dataset assume_split(const struct job *job, size_t num_examples) {
    const size_t length = job->assumed.length, tokens = num_examples * length;
    const enum task_kind kind = (enum task_kind)job->config.task.kind;
    const bool labels_tokens = task_labels_tokens(kind);
    struct dataset dataset = {
        .kind = kind,
        .num_examples = num_examples,
        .offsets = memory_allocate(num_examples + 1, sizeof(size_t), "offsets"),
        .token_ids = memory_allocate(tokens, sizeof(int32_t), "tokens"),
        .type_ids = memory_allocate(tokens, sizeof(int32_t), "token types"),
        .labels = memory_allocate(labels_tokens ? tokens : num_examples, sizeof(int32_t), "labels"),
        .longest = length,
    };
    for (size_t i = 0; i < num_examples; ++i) {
        dataset.offsets[i + 1] = dataset.offsets[i] + length;
        for (size_t t = 0; kind == TASK_LANGUAGE_MODELING && t < length / 2; ++t)
            dataset.labels[dataset.offsets[i] + t] = LABEL_IGNORED;
    }
    if (job->glue != NULL && glue_is_regression(job->glue))
        dataset.targets = memory_allocate(num_examples, sizeof(float), "targets");
    return dataset;
}

static bool assume_data(struct job *job, struct problem *problem) {
    const size_t examples = job->assumed.num_examples, length = job->assumed.length;
    if (length > job->config.task.max_length)
        return problem_set(problem, EXIT_USAGE,
                           "examples of %zu tokens are assumed, but task.max_length is %zu", length,
                           job->config.task.max_length);
    if (job->glue != NULL)
        label_set_add_glue(&job->labels, job->glue);
    else if (job->config.task.kind == TASK_TOKEN_CLASSIFICATION)
        label_set_add(&job->labels, "O");
    job->train = assume_split(job, examples);
    job->dev = assume_split(job, (examples + 9) / 10);
    return true;
}

static bool check_lengths(const struct job *job, struct problem *problem) {
    const size_t longest = architecture_longest(&job->architecture);
    if (job->config.task.max_length > longest)
        return problem_set(problem, EXIT_USAGE,
                           "task.max_length is %zu, but the model has only %zu positions "
                           "(max_position_embeddings or n_positions in its config.json)",
                           job->config.task.max_length, longest);
    return true;
}

/* A tokenizer that numbers the second sentence 1 does not fit a model without that token type. */
static bool check_token_types(const struct job *job, const struct dataset *dataset,
                              struct problem *problem) {
    const size_t types = job->architecture.num_token_types;
    const size_t tokens = dataset->offsets == NULL ? 0 : dataset->offsets[dataset->num_examples];
    for (size_t i = 0; types > 0 && i < tokens; ++i)
        if ((size_t)dataset->type_ids[i] >= types)
            return problem_set(problem, EXIT_DATA,
                               "%s: config.json has type_vocab_size %zu, but the tokenizer gives "
                               "token type %d",
                               job->config.model.path, types, (int)dataset->type_ids[i]);
    return true;
}

static void share_splits(struct job *job) {
    comm_broadcast(&job->comms.world, 0, &job->has_test, sizeof job->has_test);
    comm_broadcast(&job->comms.world, 0, &job->has_other_dev, sizeof job->has_other_dev);
    comm_broadcast(&job->comms.world, 0, &job->num_own_validation, sizeof job->num_own_validation);
    if (job_trains(job))
        dataset_broadcast(&job->comms.world, &job->train);
    dataset_broadcast(&job->comms.world, &job->dev);
    if (job->has_other_dev)
        dataset_broadcast(&job->comms.world, &job->other_dev);
    lm_references_broadcast(&job->comms.world, &job->dev_references);
    if (job->has_test) {
        dataset_broadcast(&job->comms.world, &job->test);
        lm_references_broadcast(&job->comms.world, &job->test_references);
    }
}

/* Which kinds of task a family is computed for. */
static bool check_family(const struct job *job, struct problem *problem) {
    const struct task_options *task = &job->config.task;
    const enum model_family family = job->architecture.family;
    const bool generates = task->kind == TASK_LANGUAGE_MODELING;
    if (generates != (family == FAMILY_GPT2))
        return problem_set(problem, EXIT_USAGE,
                           "task.name is %s, which needs %s, but %s is a %s model", task->name,
                           generates ? "a model that generates text (GPT-2)"
                                     : "an encoder (BERT, RoBERTa)",
                           job->config.model.path, model_family_name(family));
    return true;
}

static bool has_data(const struct job *job) {
    return job_trains(job) || job->purpose == JOB_EVALUATE;
}

bool job_share_data(struct job *job, struct problem *problem) {
    if (job->comms.world.mpi_rank == 0 &&
        config_read_architecture(job->config.model.path, &job->architecture, problem) &&
        check_family(job, problem) && check_lengths(job, problem)) {
        if (job->assumed.num_examples > 0)
            assume_data(job, problem);
        else if (!has_data(job))
            job->tokenizer = open_tokenizer(job, problem);
        else if (read_data(job, problem) && check_token_types(job, &job->train, problem) &&
                 check_token_types(job, &job->dev, problem) &&
                 check_token_types(job, &job->other_dev, problem))
            check_token_types(job, &job->test, problem);
    }
    if (!comm_agree(&job->comms.world, problem))
        return false;
    comm_broadcast(&job->comms.world, 0, &job->architecture, sizeof job->architecture);
    label_set_broadcast(&job->comms.world, &job->labels);
    if (has_data(job))
        share_splits(job);
    const float hidden_dropout = (float)job->config.model.hidden_dropout;
    if (hidden_dropout >= 0)
        job->architecture.hidden_dropout = job->architecture.embedding_dropout =
            job->architecture.classifier_dropout = hidden_dropout;
    if (job->config.model.attention_dropout >= 0)
        job->architecture.attention_dropout = (float)job->config.model.attention_dropout;
    return true;
}

/* Prompts of a group: so many that its texts make products of a good size. */
static size_t prompts_at_once(size_t num_beams) {
    enum { GOOD_ROWS = 40 };
    return num_beams >= GOOD_ROWS ? 1 : GOOD_ROWS / num_beams;
}

bool job_prepare_texts(struct job *job, struct problem *problem) {
    const struct task_options *task = &job->config.task;
    struct beam_options beam = {
        .num_beams = task->num_beams,
        .max_new_tokens = task->max_new_tokens,
        .length_penalty = task->length_penalty,
        .no_repeat_ngram = task->no_repeat_ngram,
    };
    if (job->comms.world.mpi_rank == 0)
        beam.num_end_tokens = lm_end_tokens(job->tokenizer, beam.end_tokens);
    comm_broadcast(&job->comms.world, 0, &beam, sizeof beam);
    job->texts = (struct text_evaluation){
        .options = {.beam = beam,
                    .prompts_at_once = prompts_at_once(beam.num_beams),
                    .num_threads = job->num_threads},
        .tokenizer = job->tokenizer,
        .output_dir = job->output_dir,
        .dev = &job->dev_references,
        .test = &job->test_references,
    };
    return generate_check(&job->architecture, &beam, &job->dev_references, problem) &&
           generate_check(&job->architecture, &beam, &job->test_references, problem);
}

char *job_describe_data(const struct job *job) {
    return memory_format("train %08x, dev %08x, second dev %08x, test %08x, weights %08x",
                         dataset_checksum(&job->train), dataset_checksum(&job->dev),
                         dataset_checksum(&job->other_dev), dataset_checksum(&job->test),
                         job->weights == NULL ? 0 : weights_checksum(job->weights));
}

static void read_unlabelled(const struct job *job, const char *path, struct lm_references *contexts,
                            struct dataset *dataset, struct problem *problem) {
    const struct dataset_options options = {
        .kind = (enum task_kind)job->config.task.kind,
        .glue = job->glue,
        .path = path,
        .max_length = job->config.task.max_length,
        .is_unlabelled = true,
        .completion_format = completion_format_of(job),
        .references = contexts,
    };
    struct label_set none = {0};
    if (dataset_read(dataset, &options, job->tokenizer, &none, problem))
        check_token_types(job, dataset, problem);
    label_set_free(&none);
}

bool job_read_unlabelled(const struct job *job, const char *path, struct dataset *dataset,
                         struct problem *problem) {
    *dataset = (struct dataset){0};
    if (job->comms.world.mpi_rank == 0)
        read_unlabelled(job, path, NULL, dataset, problem);
    const bool is_good = comm_agree(&job->comms.world, problem);
    if (is_good)
        dataset_broadcast(&job->comms.world, dataset);
    else
        dataset_free(dataset);
    return is_good;
}

bool job_read_contexts(const struct job *job, const char *path, struct lm_references *contexts,
                       struct problem *problem) {
    *contexts = (struct lm_references){0};
    struct dataset dataset = {0};
    if (job->comms.world.mpi_rank == 0)
        read_unlabelled(job, path, contexts, &dataset, problem);
    dataset_free(&dataset);
    const bool is_good = comm_agree(&job->comms.world, problem);
    if (is_good)
        lm_references_broadcast(&job->comms.world, contexts);
    else
        lm_references_free(contexts);
    return is_good;
}

const char *job_dev_name(const struct job *job) {
    return job->glue != NULL ? job->glue->dev_split : "dev";
}
