/* A job. Rank 0 reads files and everything is broadcast; only the weights are mapped by each rank
 * itself. */
#include "job.h"

#include "base/memory.h"
#include "io/dataset_share.h"
#include "io/file.h"
#include "io/tokenizer.h"
#include "math/gemm.h"
#include "parallel/partition.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_input(struct job *job, const char *path, const char *const *overrides,
                       size_t num_overrides, struct problem *problem) {
    char *text = NULL;
    size_t size = 0;
    if (job->comm.mpi_rank == 0) {
        text = file_read(path, &size, problem);
        if (text == NULL)
            problem->exit_code = EXIT_USAGE; /* the input file itself is part of the usage */
    }
    if (!comm_agree(&job->comm, problem)) {
        memory_free(text);
        return false;
    }
    comm_broadcast_block(&job->comm, 0, &text, &size);
    config_parse(&job->config, text, size, path, overrides, num_overrides, problem);
    memory_free(text);
    if (!comm_agree(&job->comm, problem))
        return false;
    job->glue = glue_find(job->config.task.name);
    job->input_text = config_print(&job->config);
    job->output_dir = *job->config.run.output_dir != '\0'
                          ? memory_copy_string(job->config.run.output_dir)
                          : memory_format("outputs/%s", job->config.run.name);
    return true;
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
    if (job->glue != NULL && job->purpose == JOB_TRAIN)
        label_set_add_glue(&job->labels, job->glue);
    if (job->purpose == JOB_TRAIN) {
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
    comm_broadcast(&job->comm, 0, &job->has_test, sizeof job->has_test);
    comm_broadcast(&job->comm, 0, &job->has_other_dev, sizeof job->has_other_dev);
    comm_broadcast(&job->comm, 0, &job->num_own_validation, sizeof job->num_own_validation);
    if (job->purpose == JOB_TRAIN)
        dataset_broadcast(&job->comm, &job->train);
    dataset_broadcast(&job->comm, &job->dev);
    if (job->has_other_dev)
        dataset_broadcast(&job->comm, &job->other_dev);
    lm_references_broadcast(&job->comm, &job->dev_references);
    if (job->has_test) {
        dataset_broadcast(&job->comm, &job->test);
        lm_references_broadcast(&job->comm, &job->test_references);
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

static bool share_data(struct job *job, struct problem *problem) {
    if (job->comm.mpi_rank == 0 &&
        config_read_architecture(job->config.model.path, &job->architecture, problem) &&
        check_family(job, problem) && check_lengths(job, problem)) {
        if (job->purpose == JOB_APPLY)
            job->tokenizer = open_tokenizer(job, problem);
        else if (read_data(job, problem) && check_token_types(job, &job->train, problem) &&
                 check_token_types(job, &job->dev, problem) &&
                 check_token_types(job, &job->other_dev, problem))
            check_token_types(job, &job->test, problem);
    }
    if (!comm_agree(&job->comm, problem))
        return false;
    comm_broadcast(&job->comm, 0, &job->architecture, sizeof job->architecture);
    label_set_broadcast(&job->comm, &job->labels);
    if (job->purpose != JOB_APPLY)
        share_splits(job);
    const float hidden_dropout = (float)job->config.model.hidden_dropout;
    if (hidden_dropout >= 0)
        job->architecture.hidden_dropout = job->architecture.embedding_dropout =
            job->architecture.classifier_dropout = hidden_dropout;
    if (job->config.model.attention_dropout >= 0)
        job->architecture.attention_dropout = (float)job->config.model.attention_dropout;
    return true;
}

/* What the last stage does besides its blocks, in blocks of 12 hidden^2 products a token. A
 * sequence classifier's last block makes only those with keys and values, 2 of 12, for all tokens;
 * a language model's head has a product with every word, for the labelled half or so of the tokens.
 */
static double last_stage_cost(const struct job *job) {
    const struct architecture *architecture = &job->architecture;
    switch ((enum task_kind)job->config.task.kind) {
    case TASK_SEQUENCE_CLASSIFICATION:
        return 0.05 - 5.0 / 6;
    case TASK_LANGUAGE_MODELING:
        return 0.5 * (double)architecture->vocabulary_size /
               (12 * (double)architecture->hidden_size);
    case TASK_TOKEN_CLASSIFICATION:
        break;
    }
    return 0.05;
}

static bool place_stages(struct job *job, struct problem *problem) {
    const struct parallel_options *parallel = &job->config.parallel;
    const size_t stages = (size_t)job->comm.size, blocks = job->architecture.num_blocks;
    if (parallel->stages != 0 && parallel->stages != stages)
        return problem_set(problem, EXIT_USAGE,
                           "parallel.stages is %zu, but there are %zu MPI ranks: start as many, or "
                           "leave it 0",
                           parallel->stages, stages);
    job->stage_offsets = memory_allocate(stages + 1, sizeof(size_t), "the partition");
    if (parallel->layout != NULL && parallel->num_layout > 0)
        return partition_explicit(blocks, stages, parallel->layout, parallel->num_layout,
                                  job->stage_offsets, problem);
    const struct partition_costs costs = {.block = 1, .first = 0.02, .last = last_stage_cost(job)};
    partition_balance(blocks, stages, &costs, job->stage_offsets);
    return true;
}

static void name_modules(struct job *job) {
    const bool *is_target = job->config.adapter.is_target;
    size_t count = 0;
    job->module_names = memory_allocate(job->architecture.num_blocks * NUM_PROJECTIONS,
                                        sizeof *job->module_names, "module names");
    job->component_sizes = memory_allocate(job->architecture.num_blocks * NUM_PROJECTIONS,
                                           sizeof *job->component_sizes, "sizes of components");
    for (size_t block = 0; block < job->architecture.num_blocks; ++block)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (!is_target[p])
                continue;
            job->component_sizes[count] =
                projection_input_size(&job->architecture, (enum projection)p) +
                projection_output_size(&job->architecture, (enum projection)p);
            job->module_names[count++] =
                architecture_module_name(&job->architecture, block, (enum projection)p);
        }
    job->num_modules = count;
}

/* Cores this process may run on. */
static int allowed_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                       : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Threads: what was asked for, but not more than the cores this rank may use (mpirun binds each
 * rank of a small job to one core; more threads there are several times slower than one). Without a
 * wish, this rank's share of the node. */
static void choose_threads(struct job *job) {
    const int cores = allowed_cores(), online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const char *variable = getenv("OMP_NUM_THREADS");
    int wanted = (int)job->config.parallel.threads;
    if (wanted == 0 && variable != NULL)
        wanted = atoi(variable);
    const int on_node = comm_ranks_on_node(&job->comm);
    const int sharing = (on_node * cores + online - 1) / online; /* ranks that share these cores */
    const int share = sharing > 0 && cores / sharing > 0 ? cores / sharing : 1;
    job->is_thread_count_cut = wanted > cores;
    job->num_threads = wanted <= 0 ? share : wanted > cores ? cores : wanted;
    omp_set_num_threads(job->num_threads);
    gemm_set_threads(job->num_threads);
}

/* Of a model whose weights are all trained, the pretrained ones are only where training starts. */
static void open_weights(struct job *job, struct problem *problem) {
    const bool is_full = job->config.adapter.method == METHOD_FULL;
    if (is_full && (job->purpose != JOB_TRAIN || job->config.model.init == INIT_RANDOM))
        return;
    job->weights = weights_open_model(job->config.model.path, problem);
}

/* Prompts of a group: so many that its texts make products of a good size. */
static size_t prompts_at_once(size_t num_beams) {
    enum { GOOD_ROWS = 40 };
    return num_beams >= GOOD_ROWS ? 1 : GOOD_ROWS / num_beams;
}

static bool prepare_texts(struct job *job, struct problem *problem) {
    const struct task_options *task = &job->config.task;
    struct beam_options beam = {
        .num_beams = task->num_beams,
        .max_new_tokens = task->max_new_tokens,
        .length_penalty = task->length_penalty,
        .no_repeat_ngram = task->no_repeat_ngram,
    };
    if (job->comm.mpi_rank == 0)
        beam.num_end_tokens = lm_end_tokens(job->tokenizer, beam.end_tokens);
    comm_broadcast(&job->comm, 0, &beam, sizeof beam);
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
    return memory_format("train %08x, dev %08x, second dev %08x, test %08x",
                         dataset_checksum(&job->train), dataset_checksum(&job->dev),
                         dataset_checksum(&job->other_dev), dataset_checksum(&job->test));
}

bool job_check_input(const struct job *job, const char *text, const char *source,
                     struct problem *problem) {
    struct config earlier;
    bool is_good = config_parse(&earlier, text, strlen(text), source, NULL, 0, problem);
    char *differences = is_good ? config_differences(&job->config, &earlier) : NULL;
    if (differences != NULL)
        is_good = problem_set(problem, EXIT_USAGE,
                              "%s: is of another input; start without --resume, or set back\n%s",
                              source, differences);
    memory_free(differences);
    config_free(&earlier);
    return is_good;
}

/* Is there a whole result, and is it one of this input? */
static void find_result(struct job *job, struct problem *problem) {
    char *result = file_join(job->output_dir, "result.json");
    char *input = file_join(job->output_dir, "input.json");
    size_t size = 0;
    char *text = file_exists(result) ? file_read(input, &size, problem) : NULL;
    job->is_finished = text != NULL && job_check_input(job, text, input, problem);
    memory_free(text);
    memory_free(result);
    memory_free(input);
}

/* What an earlier run left as its result goes first: no file of two runs' parts. */
static void prepare_output(struct job *job, struct problem *problem) {
    if (job->comm.mpi_rank == 0 && file_make_directory(job->output_dir, problem)) {
        if (job->is_resuming)
            find_result(job, problem);
        if (!job->is_finished && problem->exit_code == 0 &&
            file_remove(job->output_dir, "result.json", problem))
            file_remove(job->output_dir, "checkpoint-final.h5", problem);
    }
    comm_broadcast(&job->comm, 0, &job->is_finished, sizeof job->is_finished);
}

/* Behind read_input. */
static bool open_all(struct job *job, struct problem *problem) {
    choose_threads(job);
    if (job->purpose == JOB_TRAIN)
        prepare_output(job, problem);
    if (!comm_agree(&job->comm, problem))
        return false;
    if (job->is_finished)
        return true;
    if (!share_data(job, problem))
        return false;
    place_stages(job, problem);
    if (problem->exit_code == 0)
        open_weights(job, problem);
    if (!comm_agree(&job->comm, problem))
        return false;
    name_modules(job);
    if (job->config.task.kind == TASK_LANGUAGE_MODELING)
        return prepare_texts(job, problem);
    return true;
}

bool job_open(struct job *job, MPI_Comm world, const char *input_path, const char *const *overrides,
              size_t num_overrides, bool is_resuming, struct problem *problem) {
    *job = (struct job){.purpose = JOB_TRAIN, .comm = comm_of(world), .is_resuming = is_resuming};
    return read_input(job, input_path, overrides, num_overrides, problem) && open_all(job, problem);
}

bool job_open_finished(struct job *job, MPI_Comm world, const char *input_path,
                       enum job_purpose purpose, struct label_set *labels,
                       struct problem *problem) {
    *job = (struct job){.purpose = purpose, .comm = comm_of(world)};
    if (job->comm.mpi_rank == 0) {
        job->labels = *labels;
        *labels = (struct label_set){0};
    }
    if (!read_input(job, input_path, NULL, 0, problem))
        return false;
    job->config.parallel.stages = job->config.parallel.num_layout = 0; /* of the run */
    return open_all(job, problem);
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
    if (job->comm.mpi_rank == 0)
        read_unlabelled(job, path, NULL, dataset, problem);
    const bool is_good = comm_agree(&job->comm, problem);
    if (is_good)
        dataset_broadcast(&job->comm, dataset);
    else
        dataset_free(dataset);
    return is_good;
}

bool job_read_contexts(const struct job *job, const char *path, struct lm_references *contexts,
                       struct problem *problem) {
    *contexts = (struct lm_references){0};
    struct dataset dataset = {0};
    if (job->comm.mpi_rank == 0)
        read_unlabelled(job, path, contexts, &dataset, problem);
    dataset_free(&dataset);
    const bool is_good = comm_agree(&job->comm, problem);
    if (is_good)
        lm_references_broadcast(&job->comm, contexts);
    else
        lm_references_free(contexts);
    return is_good;
}

void job_close(struct job *job) {
    weights_close(&job->weights);
    dataset_free(&job->train);
    dataset_free(&job->dev);
    dataset_free(&job->other_dev);
    dataset_free(&job->test);
    tokenizer_destroy(&job->tokenizer);
    lm_references_free(&job->dev_references);
    lm_references_free(&job->test_references);
    label_set_free(&job->labels);
    for (size_t i = 0; i < job->num_modules; ++i)
        memory_free(job->module_names[i]);
    memory_free(job->module_names);
    memory_free(job->component_sizes);
    memory_free(job->stage_offsets);
    memory_free(job->input_text);
    memory_free(job->output_dir);
    config_free(&job->config);
}

const char *job_dev_name(const struct job *job) {
    return job->glue != NULL ? job->glue->dev_split : "dev";
}

/* A token id is trusted from here on. */
static bool load_weights(const struct job *job, struct stage *stage, struct problem *problem) {
    size_t count;
    struct stage_weight *weights = stage_weights(stage, &count);
    bool is_good = true;
    for (size_t i = 0; i < count && is_good; ++i) {
        const float *values = weights_pretrained(job->weights, weights[i].name, weights[i].rows,
                                                 weights[i].columns, problem);
        is_good = values != NULL;
        if (is_good)
            stage_weight_set(&weights[i], values);
    }
    stage_weights_free(weights, count);
    return is_good;
}

struct trainer job_trainer(const struct job *job) {
    return (struct trainer){
        .texts = job->config.task.kind == TASK_LANGUAGE_MODELING ? &job->texts : NULL,
        .comm = job->comm,
        .seed = job->config.run.seed,
        .optimizer = job->config.optimizer,
        .microbatch_tokens = job->config.parallel.microbatch_tokens,
        .num_threads = job->num_threads,
        .train = &job->train,
        .num_own_validation = job->num_own_validation,
        .dev = &job->dev,
        .other_dev = job->has_other_dev ? &job->other_dev : NULL,
        .glue = job->glue,
        .test = job->has_test ? &job->test : NULL,
        .labels = &job->labels,
        .trace_every = job->config.output.trace_every,
    };
}

static enum head_kind head_kind_of(enum task_kind kind) {
    return kind == TASK_TOKEN_CLASSIFICATION ? HEAD_TOKEN_CLASSIFICATION
           : kind == TASK_LANGUAGE_MODELING  ? HEAD_LANGUAGE_MODELING
                                             : HEAD_SEQUENCE_CLASSIFICATION;
}

struct stage *job_create_stage(const struct job *job, const struct stage_request *request,
                               struct problem *problem) {
    const size_t s = (size_t)job->comm.mpi_rank, last = (size_t)job->comm.size - 1;
    float *scales = memory_allocate(job->num_modules, sizeof *scales, "scales");
    for (size_t m = 0; m < job->num_modules; ++m) {
        const size_t divisor =
            request->fixed_divisor > 0 ? request->fixed_divisor : request->ranks[m];
        scales[m] = request->scales != NULL ? request->scales[m]
                    : divisor > 0           ? (float)(job->config.adapter.alpha / (double)divisor)
                                            : 0;
    }
    struct stage_options options = {
        .architecture = job->architecture,
        .adapters =
            {
                .ranks = request->ranks,
                .scales = scales,
                .dropout = (float)job->config.adapter.dropout,
                .num_components = request->num_components,
                .bottleneck = job->config.adapter.method == METHOD_ADAPTER
                                  ? job->config.adapter.bottleneck
                                  : 0,
                .has_singular_values = request->has_singular_values,
            },
        .head_kind = head_kind_of((enum task_kind)job->config.task.kind),
        .is_regression = job->glue != NULL && glue_is_regression(job->glue),
        .num_labels = job->labels.count,
        .label_smoothing = (float)job->config.task.label_smoothing,
        .first_block = job->stage_offsets[s],
        .num_blocks = job->stage_offsets[s + 1] - job->stage_offsets[s],
        .has_embedding = s == 0,
        .has_task_head = s == last,
        .trains_all = job->config.adapter.method == METHOD_FULL,
        .seed = job->config.run.seed,
    };
    memcpy(options.adapters.is_target, job->config.adapter.is_target,
           sizeof options.adapters.is_target);
    struct stage *stage = stage_create(&options);
    stage->options.adapters.ranks = NULL; /* the borrowed arrays end here */
    stage->options.adapters.scales = NULL;
    memory_free(scales);
    load_weights(job, stage, problem);
    if (!comm_agree(&job->comm, problem))
        stage_destroy(&stage);
    return stage;
}

bool job_load_pretrained(const struct job *job, const struct stage *stage, float *factors,
                         struct problem *problem) {
    bool is_good = true;
    for (size_t i = 0; i < stage->factors.count && is_good; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        if (!entry->is_pretrained || job->config.model.init == INIT_RANDOM)
            continue;
        const float *values =
            weights_pretrained(job->weights, entry->name, entry->rows, entry->columns, problem);
        is_good = values != NULL;
        if (is_good)
            memcpy(factors + entry->offset, values, entry->rows * entry->columns * sizeof *values);
    }
    return comm_agree(&job->comm, problem);
}
