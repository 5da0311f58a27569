/* A stage: the consecutive blocks of one pipeline rank, with the embedding in the first stage and
 * the task head in the last. Frozen weights and the layout of what is trained; knows no MPI, and
 * one stage that holds everything is the reference for every other decomposition.
 *
 * The passes are functions of (point, microbatch): they change nothing but the slot they are given.
 *
 * On a grid (math/grid.h) the stage is spread over several processes: each has the sequences of its
 * grid row, the attention heads and the features of its column, and pieces of the frozen weights.
 * Factors and selection variables are whole on each of them, and so are the task head and its
 * input. Of the gradients each makes a part, and 0 elsewhere: their sum over the grid is the
 * gradient. The loss is that of the row. Passes are then collective over the grid. */
#ifndef AUTOLORA_MODEL_STAGE_H
#define AUTOLORA_MODEL_STAGE_H

#include "math/grid.h"
#include "model/architecture.h"
#include "model/block.h"
#include "model/embedding.h"
#include "model/parameters.h"
#include "model/task_head.h"

#include <stdbool.h>

struct problem;

/* Which projections are adapted, and how. Modules are numbered block by block, within a block in
 * the order of enum projection. */
struct adapter_options {
    bool is_target[NUM_PROJECTIONS];
    const size_t *ranks;      /* [modules of the whole model]; 0: not adapted */
    const float *scales;      /* [modules of the whole model] lora_scale */
    float dropout;            /* on the adapters' input */
    size_t num_components;    /* k: selection variables a module; 0: none */
    size_t bottleneck;        /* size of bottleneck adapters behind both output projections of every
                                 block, trained with the block's layer norms; 0: none. No tangents */
    bool has_singular_values; /* one trained for each component (AdaLoRA); no selection variables */
};

struct stage_options {
    struct architecture architecture;
    struct adapter_options adapters;
    enum head_kind head_kind;
    bool is_regression; /* of sequences, with one label: the loss is the squared error */
    size_t num_labels;
    float label_smoothing;
    size_t first_block, num_blocks;
    bool has_embedding, has_task_head;
    bool trains_all; /* the pretrained tensors too; then there are no tangents */
    uint64_t seed;
    const struct grid *grid; /* borrowed; NULL: none. Not with trains_all or bottlenecks */
};

struct stage {
    struct stage_options options;
    struct embedding embedding;
    struct block *blocks; /* [num_blocks] */
    struct task_head task_head;
    struct parameter_table factors;
    size_t num_modules,
        first_module;      /* adapted projections here; number of the first in the model */
    size_t selection_size; /* num_modules * num_components */
    size_t largest_rank;
    /* A trained word embedding that is also the task head's (GPT-2): the gradients of the two have
     * to be added up (pipeline_gradient does). 0 elements: there is none. */
    size_t tied_size;
    size_t tied_offset, tied_copy_offset; /* in the first stage; in the last */
    /* What of it is here; on a grid a part. words: rows of the embedding, split by grid rows. */
    struct share heads, hidden, intermediate, words;
    size_t head_offset; /* of the task head's factors, the last ones */
    float **pieces;     /* [num_pieces] on a grid: the frozen tensors */
    size_t num_pieces;
};

/* Why the model cannot be spread over such a grid (EXIT_USAGE), if it cannot. */
bool stage_check_grid(const struct architecture *architecture, size_t rows, size_t columns,
                      struct problem *problem);

/* Modules adapted in each block: the number of targets. */
size_t adapter_targets_per_block(const struct adapter_options *adapters);

struct stage *stage_create(const struct stage_options *options);
void stage_destroy(struct stage **stage);

/* One pretrained tensor of the stage: the name in the checkpoint, its shape there, and where the
 * address of its element `offset` goes (the parts of a fused projection are entries of one name).
 */
struct stage_weight {
    char *name;           /* "bert.encoder.layer.0.attention.self.query.weight" */
    size_t rows, columns; /* columns 1: a vector */
    size_t offset;
    struct base_tensor *place;
    struct stage *stage;
    /* What of it, from `offset` on, is here. */
    struct share piece_rows, piece_columns;
    size_t row_stride, column_stride;
    enum initialization initialization; /* without a checkpoint */
    float deviation;
    bool is_tied; /* the word embedding as the task head */
};
/* The table of frozen tensors; free with stage_weights_free. Trained ones are in the factors. */
struct stage_weight *stage_weights(struct stage *stage, size_t *count);
/* values: the tensor's elements, row-major; borrowed, on a grid copied. */
void stage_weight_set(const struct stage_weight *weight, const float *values);
void stage_weights_free(struct stage_weight *weights, size_t count);

/* Sizes that the buffers of a slot must hold. */
struct capacity {
    size_t tokens, sequences, longest, pairs; /* pairs: largest sum of length^2 */
};

/* Whether only the first token of each sequence matters behind the last block. */
bool stage_keeps_first_rows(const struct stage_options *options);
/* Columns and rows of the matrices that enter the stage and leave it: hidden features that are
 * here; the microbatch's tokens; its sequences behind the last block of a sequence classifier, of
 * which only the first tokens matter. */
size_t stage_width(const struct stage *stage);
size_t stage_input_rows(const struct stage *stage, const struct microbatch *microbatch);
size_t stage_output_rows(const struct stage *stage, const struct microbatch *microbatch);

/* Activations of one microbatch; `has_tangents` slots can also serve the tangent passes. */
struct slot;
struct slot *slot_create(const struct stage *stage, const struct capacity *capacity,
                         bool has_tangents);
void slot_destroy(struct slot **slot);
/* Where the input of the first block goes / where the output of the last block is. */
float *slot_input(struct slot *slot);
float *slot_output(struct slot *slot);
/* Logits [rows, labels] of the last forward pass (last stage); NULL for language modelling, where
 * they are too many to keep. */
const float *slot_logits(const struct slot *slot);

/* Keys and values [tokens, hidden] of the stage's block number `block` in the last forward pass. */
const float *slot_key(const struct slot *slot, size_t block);
const float *slot_value(const struct slot *slot, size_t block);

/* Room for intermediate results, shared by all slots. */
struct workspace;
struct workspace *workspace_create(const struct stage *stage, const struct capacity *capacity,
                                   int num_threads);
void workspace_destroy(struct workspace **workspace);
/* From now on passes call `pause` after each block: transfers advance only while somebody asks. */
void workspace_set_pause(struct workspace *workspace, void (*pause)(void *), void *context);

/* Forward. Reads slot_input (except in the first stage) and fills slot_output; returns the
 * microbatch's part of the loss in the last stage, else 0. Only with has_backward may
 * stage_backward follow. */
double stage_forward(const struct stage *stage, const struct point *point,
                     const struct microbatch *microbatch, bool has_backward, struct slot *slot,
                     struct workspace *workspace);

/* Backward after stage_forward on the same slot. d_output [output rows, hidden] is overwritten
 * (NULL in the last stage); d_input receives the cotangent of the input (NULL in the first stage).
 */
void stage_backward(const struct stage *stage, const struct point *point,
                    const struct microbatch *microbatch, struct slot *slot,
                    struct workspace *workspace, float *d_output, struct gradient *gradient,
                    float *d_input);

/* Tangent along `direction` (a change of the factors) after stage_forward and stage_backward on the
 * same slot, which must have tangents. t_input NULL in the first stage; t_output NULL in the last.
 */
void stage_tangent(const struct stage *stage, const struct point *point, const float *direction,
                   const struct microbatch *microbatch, struct slot *slot,
                   struct workspace *workspace, const float *t_input, float *t_output);

/* Tangent of stage_backward after stage_tangent: t_d_selection [modules, k] is the derivative of d
 * loss / d q along the direction. Uses the slot up. */
void stage_backward_tangent(const struct stage *stage, const struct point *point,
                            const float *direction, const struct microbatch *microbatch,
                            struct slot *slot, struct workspace *workspace, float *t_d_output,
                            float *t_d_selection, float *t_d_input);

#endif
