/* A job: everything that is fixed before training starts. Read on rank 0, shared, checked, and the
 * frozen model mapped by the stages that need it. */
#ifndef AUTOLORA_JOB_H
#define AUTOLORA_JOB_H

#include "config.h"
#include "io/dataset.h"
#include "io/dataset_lm.h"
#include "io/weights.h"
#include "model/stage.h"
#include "parallel/layout.h"
#include "train/evaluate_texts.h"
#include "train/trainer.h"

#include <stdint.h>

/* What a job is opened for, and so what it reads. */
enum job_purpose {
    JOB_TRAIN,    /* everything; makes the output directory ready */
    JOB_PLAN,     /* the same for a plan: touches no output; weights may be missing */
    JOB_EVALUATE, /* a finished run's dev and test splits, with the labels that the run had */
    JOB_APPLY,    /* a finished run's model only */
    JOB_COMPARE   /* the same, and the weights that it began with where all were trained */
};

/* Data that a plan makes up: so many training examples, a tenth of them for development, of so many
 * tokens each. */
struct assumed_data {
    size_t num_examples, length; /* num_examples 0: the data are read */
};

struct job {
    enum job_purpose purpose;
    struct comms comms;
    struct config config;
    struct layout layout;
    struct place place;            /* of this rank */
    struct grid *grid;             /* of this rank's stage; NULL: it has one process */
    bool is_resuming, is_finished; /* finished: by an earlier attempt; nothing else is read then */
    char *input_text;              /* effective input, JSON */
    char *output_dir;
    struct architecture architecture;
    const struct glue_task *glue; /* NULL: the task is none of GLUE's */
    struct label_set labels;
    struct dataset train, dev, test; /* train: with the user's own D_val, where given, at its end */
    struct dataset other_dev;        /* MNLI's mismatched */
    struct lm_references dev_references, test_references; /* language modelling */
    struct text_evaluation texts;                         /* language modelling */
    struct tokenizer *tokenizer;                          /* on rank 0 */
    bool has_test, has_other_dev;
    struct assumed_data assumed;
    size_t num_own_validation;
    struct weights *weights;
    size_t *stage_offsets;   /* [stages + 1] */
    size_t num_modules;      /* adapted projections of the whole model */
    char **module_names;     /* [num_modules] */
    size_t *component_sizes; /* [num_modules] parameters of one component: d_in + d_out */
    int num_threads;
    bool is_thread_count_cut; /* asked for more threads than the cores this rank may use */
};

/* Reads the input file and all it names, and makes the output directory ready: it can be written,
 * and holds no result of an earlier run; with is_resuming, is_finished tells of one. False and a
 * problem, the same on every rank. Collective. Call job_close in any case. */
bool job_open(struct job *job, MPI_Comm world, const char *input_path, const char *const *overrides,
              size_t num_overrides, bool is_resuming, struct problem *problem);
/* For a plan, on a world of one process: reads what job_open reads, and has no layout yet; of a
 * model with assumed data config.json alone. Call job_close in any case. */
bool job_open_plan(struct job *job, MPI_Comm world, const char *input_path,
                   const char *const *overrides, size_t num_overrides,
                   const struct assumed_data *assumed, struct problem *problem);
/* From here on as if the job ran in this layout, with so many ranks on a node, and then as if this
 * process had that stage of replica 0: it may create what the stage needs, but not talk to others.
 * May be called again. EXIT_USAGE where parallel.layout has another number of stages. */
bool job_pretend_layout(struct job *job, const struct layout *layout, size_t ranks_on_node,
                        struct problem *problem);
void job_pretend_stage(struct job *job, size_t stage);
/* The job's data and pretrained weights by their checksums, "train 89abcdef, ..."; free with
 * memory_free. */
char *job_describe_data(const struct job *job);
/* False and EXIT_USAGE, listing the keys, if the input of an earlier attempt, `text`, which
 * `source` has, decides on other results than this job's. Not collective. */
bool job_check_input(const struct job *job, const char *text, const char *source,
                     struct problem *problem);
/* The same for the input of a finished run, of which nothing is changed: any number of ranks, data
 * as `purpose` says. Takes `labels` over and leaves the set empty. */
bool job_open_finished(struct job *job, MPI_Comm world, const char *input_path,
                       enum job_purpose purpose, struct label_set *labels, struct problem *problem);
/* A file of the task's kind to be predicted, labels or not (io/dataset.h). Collective. */
bool job_read_unlabelled(const struct job *job, const char *path, struct dataset *dataset,
                         struct problem *problem);
/* Language modelling: the different contexts of a file, completions or not. Collective. Free with
 * lm_references_free. */
bool job_read_contexts(const struct job *job, const char *path, struct lm_references *contexts,
                       struct problem *problem);
void job_close(struct job *job);

/* What results call the development set: "dev", of MNLI "dev_matched". */
const char *job_dev_name(const struct job *job);

/* What both phases and an evaluation are given, without trace and progress. Borrows from the job.
 */
struct trainer job_trainer(const struct job *job);

/* A part of the model. */
struct stage_part {
    size_t first_block, num_blocks;
    bool has_embedding, has_task_head;
};
/* This rank's part. */
struct stage_part job_stage_part(const struct job *job);
/* A stage without its frozen weights. Not collective. */
struct stage *job_new_stage(const struct job *job, const struct stage_part *part,
                            const struct stage_request *request);
/* This rank's stage with its frozen weights. NULL and a problem, the same on every rank.
 * Collective. */
struct stage *job_create_stage(const struct job *job, const struct stage_request *request,
                               struct problem *problem);
/* Copies the pretrained tensors that are trained into the stage's factors, unless the model starts
 * anew. False and a problem, the same on every rank. Collective. */
bool job_load_pretrained(const struct job *job, const struct stage *stage, float *factors,
                         struct problem *problem);

#endif
