/* A plan: what a job would take, without running it. Memory comes from taking it in a rehearsal
 * (base/memory.h), seconds from timing the model's own passes on parts of it and simulating the
 * pipeline with those. On one process. */
#ifndef AUTOLORA_PLAN_H
#define AUTOLORA_PLAN_H

#include "job.h"
#include "model/operations.h"
#include "train/method.h"

#include <stdio.h>

/* The machine that is planned for. */
struct plan_machine {
    double latency, bandwidth; /* of a message between nodes: seconds, bytes a second */
    double rate;               /* operations a second of a core; 0: timed here */
    size_t cores;              /* of a node */
    size_t nodes;              /* 0: as many as give a core to every thread */
};

enum plan_memory {
    MEMORY_PROGRAM,     /* code, libraries, MPI */
    MEMORY_DATA,        /* data sets, tokenizer, batches */
    MEMORY_FROZEN,      /* frozen weights that are not mapped */
    MEMORY_FACTORS,     /* trained parameters, gradients, optimizer */
    MEMORY_ACTIVATIONS, /* slots of the pipeline */
    MEMORY_KEPT,        /* slots with what the tangents need, of a whole batch */
    MEMORY_WORKSPACE,
    MEMORY_MESSAGES, /* transfer buffers */
    MEMORY_CACHES,
    MEMORY_OTHER,
    NUM_MEMORY_KINDS
};
const char *plan_memory_name(enum plan_memory kind);

/* A stage, which all its ranks have alike. */
struct plan_stage {
    struct stage_part part;
    size_t mapped_bytes;            /* frozen weights in the checkpoint's map: once a node */
    size_t bytes[NUM_MEMORY_KINDS]; /* private, where they are most */
    size_t factors[2];              /* trained parameters of the search, of the training */
    double operations;              /* of the gradient of a mean microbatch of the training */
    double busy;                    /* seconds of work for that */
};
size_t plan_stage_private(const struct plan_stage *stage);
size_t plan_stage_resident(const struct plan_stage *stage);

/* A phase in numbers; num_steps 0: there is none. */
struct plan_phase {
    size_t num_steps;
    struct search_passes passes;       /* of a step, on average, as all numbers here */
    double seconds, operations, bytes; /* operations and bytes over all ranks */
    double bubble;                     /* part of the stages' time in which they wait */
    double microbatches, tokens;       /* of a batch, on average */
};

struct plan_evaluation {
    double seconds, operations; /* of one evaluation on dev; of the others, once */
    double other_seconds;
    size_t count;
    double generation_seconds; /* of the texts of dev and test */
};

struct plan {
    struct layout layout;
    int num_threads;
    size_t nodes, ranks_on_node;
    struct plan_stage *stages; /* [layout.stages] */
    size_t heaviest;           /* stage */
    struct plan_phase search, training;
    struct plan_evaluation evaluation;
    double seconds; /* of the job, without reading and writing files */
    double trace_bytes, checkpoint_bytes, output_bytes;
    size_t search_rows, row_bytes;
};
void plan_free(struct plan *plan);

/* ---- what does not depend on the layout ---- */

/* Parts of a model by their costs: the first block with the embedding, one in the middle, the last
 * with the task head; a model of one block is the last kind alone. */
enum plan_part_kind { PART_FIRST, PART_MIDDLE, PART_LAST, NUM_PART_KINDS };
size_t plan_count_blocks(const struct architecture *architecture, const struct stage_part *part,
                         enum plan_part_kind kind);

/* Seconds of a part's pass an operation. */
struct plan_part {
    struct stage *stage; /* NULL: the model has no such part */
    double seconds[NUM_STAGE_PASSES];
};

/* Seconds of a token for all texts of a group: what a block does, and the embedding, the task head
 * and the search of the beams. */
struct plan_generation {
    double block, rest;
};

struct plan_speed {
    struct plan_part parts[NUM_PART_KINDS];
    double update, accumulate; /* seconds a trained parameter: optimizer step, sum of gradients */
};

struct planner {
    struct job *job;
    struct plan_machine machine;
    struct trainer trainer;
    struct method_input input;
    const struct method *method;
    bool searches;
    size_t *search_ranks, *ranks;            /* [num_modules] */
    size_t program_bytes;                    /* resident at the start, with what products keep */
    size_t checkpoint_bytes, checksum_bytes; /* of all tensors; resident through their checksum */
    size_t words_bytes;                      /* resident of a mapped word embedding */
    bool has_words;                          /* these are known */
    struct plan_speed speeds[2];             /* search, training */
    struct plan_generation generation;
    int timed_threads; /* of the speeds; 0: none yet */
};

/* The job has been opened for a plan. */
bool planner_open(struct planner *planner, struct job *job, const struct plan_machine *machine,
                  size_t program_bytes, struct problem *problem);
void planner_close(struct planner *planner);

/* Everything for one layout. False and a problem if the job would refuse it. */
bool plan_make(struct planner *planner, const struct layout *layout, struct plan *plan,
               struct problem *problem);

/* Its steps. Stages with their memory: */
bool plan_rehearse(struct planner *planner, struct plan *plan, struct problem *problem);
/* The speeds, unless they are known: */
void plan_time_parts(struct planner *planner);
void plan_time_generation(struct planner *planner);
double plan_generation_seconds(const struct planner *planner, const struct plan *plan);
/* Phases and evaluations: */
void plan_predict(const struct planner *planner, struct plan *plan);

/* For timings: seconds of this process's threads, so that what others on a shared machine do does
 * not count; small random numbers, and such for a stage's frozen weights, to be freed. */
double plan_core_seconds(void);
float *plan_random_values(size_t count);
float *plan_random_weights(struct stage *stage);

/* ---- reports ---- */
void plan_print(const struct planner *planner, const struct plan *plan, FILE *stream);
void plan_print_table(const struct plan *plans, size_t count, FILE *stream);
/* Free with memory_free. */
char *plan_json(const struct planner *planner, const struct plan *plans, size_t count);

#endif
