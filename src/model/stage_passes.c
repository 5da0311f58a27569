/* The passes of a stage and the buffers they work on. Buffers are carved out of one allocation: a
 * first walk over the layout counts, a second hands out the views. */
#include "base/memory.h"
#include "base/report.h"
#include "model/lm_head.h"
#include "model/stage.h"

#include <string.h>

struct slot {
    size_t num_blocks;
    struct block_activations *blocks;       /* [num_blocks] */
    struct block_cotangents *kept;          /* [num_blocks], with tangents only */
    struct block_tangents *tangents;        /* [num_blocks], with tangents only */
    struct embedding_activations embedding; /* where the embedding is trained */
    struct head_activations head;
    float *output;
    float *memory;
};

struct workspace {
    struct block_scratch scratch;
    struct block_cotangents cotangents; /* for slots that keep none */
    struct head_scratch head;
    float *d_embedded; /* [T, d], where the embedding is trained */
    float *gathered;   /* [rows, all hidden features] of the task head on a grid */
    float *memory;
    void (*pause)(void *context); /* NULL: none */
    void *pause_context;
};

static void pause_of(const struct workspace *workspace) {
    if (workspace->pause != NULL)
        workspace->pause(workspace->pause_context);
}

/* Hands out 64-byte aligned views; counts only while memory is NULL. */
struct cursor {
    float *memory;
    size_t used;
};

static float *take(struct cursor *cursor, size_t floats) {
    float *view = cursor->memory == NULL ? NULL : cursor->memory + cursor->used;
    cursor->used += (floats + 15) / 16 * 16;
    return view;
}

/* Sizes of a block's buffers: T and R of block.h and what is made of them. */
struct sizes {
    size_t tokens, rows;
    size_t hidden, row_hidden, row_wide; /* [T, d], [R, d], [R, f] */
    size_t pairs;
};

static struct sizes sizes_of(const struct stage *stage, const struct capacity *capacity,
                             bool first_rows_only) {
    const size_t rows = first_rows_only ? capacity->sequences : capacity->tokens;
    return (struct sizes){
        .tokens = capacity->tokens,
        .rows = rows,
        .hidden = capacity->tokens * stage->hidden.count,
        .row_hidden = rows * stage->hidden.count,
        .row_wide = rows * stage->intermediate.count,
        .pairs = (first_rows_only ? capacity->tokens : capacity->pairs) * stage->heads.count,
    };
}

bool stage_keeps_first_rows(const struct stage_options *options) {
    return options->head_kind == HEAD_SEQUENCE_CLASSIFICATION;
}

/* Whether what comes behind so many blocks exists for first tokens only. */
static bool first_rows_from(const struct stage *stage, size_t num_blocks_before) {
    return stage_keeps_first_rows(&stage->options) &&
           num_blocks_before == stage->options.architecture.num_blocks;
}

size_t stage_width(const struct stage *stage) {
    return stage->hidden.count;
}

size_t stage_input_rows(const struct stage *stage, const struct microbatch *microbatch) {
    return first_rows_from(stage, stage->options.first_block) ? microbatch->num_sequences
                                                              : microbatch->num_tokens;
}

size_t stage_output_rows(const struct stage *stage, const struct microbatch *microbatch) {
    return first_rows_from(stage, stage->options.first_block + stage->options.num_blocks)
               ? microbatch->num_sequences
               : microbatch->num_tokens;
}

static size_t low_rank_size(const struct sizes *sizes, const struct block *block, int projection) {
    const bool is_of_all = projection == PROJECTION_KEY || projection == PROJECTION_VALUE;
    return (is_of_all ? sizes->tokens : sizes->rows) * block->projections[projection].adapter.rank;
}

static void lay_out_norms(struct cursor *cursor, const struct sizes *sizes, float **normalized,
                          float **deviation) {
    for (int h = 0; h < NUM_HALVES; ++h) {
        normalized[h] = take(cursor, sizes->row_hidden);
        deviation[h] = take(cursor, sizes->rows);
    }
}

static void lay_out_activations(struct cursor *cursor, const struct sizes *sizes,
                                const struct block *block, struct block_activations *a) {
    const bool is_pre_norm = block->is_pre_norm;
    a->input = take(cursor, sizes->hidden);
    a->input_rows = block->attention.first_rows_only ? take(cursor, sizes->row_hidden) : a->input;
    a->attention_input = is_pre_norm ? take(cursor, sizes->hidden) : a->input;
    a->query = take(cursor, sizes->row_hidden);
    a->key = take(cursor, sizes->hidden);
    a->value = take(cursor, sizes->hidden);
    a->context = take(cursor, sizes->row_hidden);
    a->probabilities = take(cursor, sizes->pairs);
    a->attended = take(cursor, sizes->row_hidden);
    a->feed_forward_input = is_pre_norm ? take(cursor, sizes->row_hidden) : a->attended;
    a->expanded = take(cursor, sizes->row_wide);
    lay_out_norms(cursor, sizes, a->normalized, a->deviation);
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        a->low_rank[p] = take(cursor, low_rank_size(sizes, block, p));
    for (int h = 0; h < NUM_HALVES; ++h) {
        const size_t size = block->bottlenecks[h].size;
        a->bottleneck_input[h] = size > 0 ? take(cursor, sizes->row_hidden) : NULL;
        a->bottleneck[h] = take(cursor, sizes->rows * size);
    }
}

static void lay_out_cotangents(struct cursor *cursor, const struct sizes *sizes, bool is_pre_norm,
                               struct block_cotangents *c) {
    c->d_output = take(cursor, sizes->row_hidden);
    c->d_activated = take(cursor, sizes->row_wide);
    c->d_attended = take(cursor, sizes->row_hidden);
    c->d_context = take(cursor, sizes->row_hidden);
    c->d_query = take(cursor, sizes->row_hidden);
    c->d_key = take(cursor, sizes->hidden);
    c->d_value = take(cursor, sizes->hidden);
    if (!is_pre_norm)
        return;
    c->d_attention_input = take(cursor, sizes->hidden);
    c->d_feed_forward_input = take(cursor, sizes->row_hidden);
}

static void lay_out_tangents(struct cursor *cursor, const struct sizes *sizes,
                             const struct block *block, struct block_tangents *t) {
    t->query = take(cursor, sizes->row_hidden);
    t->key = take(cursor, sizes->hidden);
    t->value = take(cursor, sizes->hidden);
    t->probabilities = take(cursor, sizes->pairs);
    t->expanded = take(cursor, sizes->row_wide);
    lay_out_norms(cursor, sizes, t->normalized, t->deviation);
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        t->low_rank[p] = take(cursor, low_rank_size(sizes, block, p));
}

static void lay_out_head(struct cursor *cursor, const struct task_head *head, size_t rows,
                         struct head_activations *h) {
    const size_t features = rows * head->hidden_size, logits = rows * head->num_labels;
    h->features = take(cursor, features);
    h->d_features = take(cursor, features);
    h->t_features = take(cursor, features);
    if (head->kind == HEAD_LANGUAGE_MODELING) {
        h->d_words =
            head->words.is_trained ? take(cursor, head->num_labels * head->hidden_size) : NULL;
        h->normalized = take(cursor, features);
        h->t_normalized = take(cursor, features);
        h->deviation = take(cursor, rows);
        h->t_deviation = take(cursor, rows);
        return;
    }
    h->inputs = head->dense_weight.is_trained ? take(cursor, features) : NULL;
    h->t_inputs = head->dense_weight.is_trained ? take(cursor, features) : NULL;
    h->pooled = take(cursor, features);
    h->t_pooled = take(cursor, features);
    h->logits = take(cursor, logits);
    h->probabilities = take(cursor, logits);
    h->t_logits = take(cursor, logits);
}

static size_t lay_out_slot(const struct stage *stage, const struct capacity *capacity,
                           float *memory, struct slot *slot) {
    struct cursor cursor = {memory, 0};
    if (stage->embedding.words.is_trained) {
        slot->embedding.normalized =
            take(&cursor, capacity->tokens * stage->options.architecture.hidden_size);
        slot->embedding.deviation = take(&cursor, capacity->tokens);
    }
    for (size_t i = 0; i < stage->options.num_blocks; ++i) {
        const struct block *block = &stage->blocks[i];
        const struct sizes sizes = sizes_of(stage, capacity, block->attention.first_rows_only);
        lay_out_activations(&cursor, &sizes, block, &slot->blocks[i]);
        if (slot->kept != NULL) {
            lay_out_cotangents(&cursor, &sizes, block->is_pre_norm, &slot->kept[i]);
            lay_out_tangents(&cursor, &sizes, block, &slot->tangents[i]);
        }
    }
    const size_t end = stage->options.first_block + stage->options.num_blocks;
    const struct sizes sizes = sizes_of(stage, capacity, first_rows_from(stage, end));
    slot->output = take(&cursor, sizes.row_hidden);
    if (stage->options.has_task_head)
        lay_out_head(&cursor, &stage->task_head, sizes.rows, &slot->head);
    return cursor.used;
}

struct slot *slot_create(const struct stage *stage, const struct capacity *capacity,
                         bool has_tangents) {
    const size_t blocks = stage->options.num_blocks;
    struct slot *slot = memory_allocate(1, sizeof *slot, "a slot");
    slot->num_blocks = blocks;
    slot->blocks = memory_allocate(blocks, sizeof *slot->blocks, "a slot");
    if (has_tangents) {
        slot->kept = memory_allocate(blocks, sizeof *slot->kept, "a slot");
        slot->tangents = memory_allocate(blocks, sizeof *slot->tangents, "a slot");
    }
    const size_t floats = lay_out_slot(stage, capacity, NULL, slot);
    slot->memory = memory_allocate(floats, sizeof *slot->memory,
                                   has_tangents ? "kept activations" : "activations");
    lay_out_slot(stage, capacity, slot->memory, slot);
    return slot;
}

void slot_destroy(struct slot **slot) {
    if (*slot == NULL)
        return;
    memory_free((*slot)->blocks);
    memory_free((*slot)->kept);
    memory_free((*slot)->tangents);
    memory_free((*slot)->memory);
    memory_free(*slot);
    *slot = NULL;
}

float *slot_input(struct slot *slot) {
    return slot->num_blocks > 0 ? slot->blocks[0].input : slot->output;
}

float *slot_output(struct slot *slot) {
    return slot->output;
}

const float *slot_logits(const struct slot *slot) {
    return slot->head.logits;
}

const float *slot_key(const struct slot *slot, size_t block) {
    return slot->blocks[block].key;
}

const float *slot_value(const struct slot *slot, size_t block) {
    return slot->blocks[block].value;
}

static size_t lay_out_workspace(const struct stage *stage, const struct sizes *sizes,
                                const struct capacity *capacity, int num_threads, float *memory,
                                struct workspace *workspace) {
    struct cursor cursor = {memory, 0};
    struct block_scratch *scratch = &workspace->scratch;
    const size_t rank = stage->largest_rank;
    for (size_t i = 0; i < sizeof scratch->hidden / sizeof *scratch->hidden; ++i)
        scratch->hidden[i] = take(&cursor, sizes->hidden);
    scratch->wide = take(&cursor, sizes->row_wide);
    scratch->activated_tangent = take(&cursor, sizes->row_wide);
    scratch->linear.low_rank = take(&cursor, sizes->tokens * rank);
    scratch->linear.low_rank_tangent = take(&cursor, sizes->tokens * rank);
    scratch->linear.wide =
        take(&cursor, sizes->row_wide > sizes->hidden ? sizes->row_wide : sizes->hidden);
    scratch->attention.floats_per_thread = attention_scratch_floats(capacity->longest);
    scratch->attention.values =
        take(&cursor, scratch->attention.floats_per_thread * (size_t)num_threads);
    lay_out_cotangents(&cursor, sizes, architecture_is_pre_norm(&stage->options.architecture),
                       &workspace->cotangents);
    workspace->d_embedded = stage->embedding.words.is_trained ? take(&cursor, sizes->hidden) : NULL;
    workspace->gathered = stage->options.has_task_head && stage->options.grid != NULL
                              ? take(&cursor, capacity->tokens * stage->hidden.all)
                              : NULL;
    workspace->head.logits = workspace->head.t_logits = NULL;
    if (stage->options.has_task_head && stage->task_head.kind == HEAD_LANGUAGE_MODELING) {
        workspace->head.logits = take(&cursor, lm_head_room(&stage->task_head));
        workspace->head.t_logits = take(&cursor, lm_head_room(&stage->task_head));
    }
    return cursor.used;
}

struct workspace *workspace_create(const struct stage *stage, const struct capacity *capacity,
                                   int num_threads) {
    struct workspace *workspace = memory_allocate(1, sizeof *workspace, "the workspace");
    const struct sizes sizes = sizes_of(stage, capacity, false);
    const size_t floats = lay_out_workspace(stage, &sizes, capacity, num_threads, NULL, workspace);
    workspace->memory = memory_allocate(floats, sizeof *workspace->memory, "the workspace");
    lay_out_workspace(stage, &sizes, capacity, num_threads, workspace->memory, workspace);
    return workspace;
}

void workspace_destroy(struct workspace **workspace) {
    if (*workspace == NULL)
        return;
    memory_free((*workspace)->memory);
    memory_free(*workspace);
    *workspace = NULL;
}

void workspace_set_pause(struct workspace *workspace, void (*pause)(void *), void *context) {
    workspace->pause = pause;
    workspace->pause_context = context;
}

/* ---- the task head: on a grid each process has all features of its rows ---- */

static const float *head_input(const struct stage *stage, const struct microbatch *microbatch,
                               struct workspace *workspace, const float *x) {
    if (stage->options.grid == NULL)
        return x;
    grid_gather_row(stage->options.grid, stage->hidden, x, head_rows(&stage->task_head, microbatch),
                    workspace->gathered);
    return workspace->gathered;
}

/* Where the head puts what goes on to d_x. */
static float *head_cotangent(const struct stage *stage, struct workspace *workspace, float *d_x) {
    return stage->options.grid == NULL ? d_x : workspace->gathered;
}

static void keep_cotangent(const struct stage *stage, const struct microbatch *microbatch,
                           const struct workspace *workspace, float *d_x) {
    if (stage->options.grid != NULL)
        grid_take_columns(stage->hidden, workspace->gathered,
                          head_rows(&stage->task_head, microbatch), d_x);
}

/* All columns of a grid compute the same gradient; one speaks for them. */
static void backward_head(const struct stage *stage, const struct point *point,
                          const struct microbatch *microbatch, struct slot *slot,
                          struct workspace *workspace, struct gradient *gradient, float *d_x) {
    head_backward(&stage->task_head, point, microbatch, &slot->head, gradient,
                  head_cotangent(stage, workspace, d_x));
    keep_cotangent(stage, microbatch, workspace, d_x);
    if (!grid_is_leader(stage->options.grid))
        memset(gradient->factors + stage->head_offset, 0,
               (stage->factors.size - stage->head_offset) * sizeof(float));
}

/* ---- the passes ---- */

double stage_forward(const struct stage *stage, const struct point *point,
                     const struct microbatch *microbatch, bool has_backward, struct slot *slot,
                     struct workspace *workspace) {
    const struct stage_options *options = &stage->options;
    if (options->has_embedding) {
        float *const *room = workspace->scratch.hidden;
        const struct embedding_activations unsaved = {room[0], room[1]};
        embedding_forward(
            &stage->embedding, &options->architecture, options->seed, point, microbatch,
            stage->embedding.words.is_trained ? &slot->embedding : &unsaved, slot_input(slot));
    }
    for (size_t i = 0; i < options->num_blocks; ++i) {
        float *output = i + 1 < options->num_blocks ? slot->blocks[i + 1].input : slot->output;
        block_forward(&stage->blocks[i], point, microbatch, &slot->blocks[i], &workspace->scratch,
                      output);
        pause_of(workspace);
    }
    if (!options->has_task_head)
        return 0;
    return head_forward(&stage->task_head, point, microbatch,
                        head_input(stage, microbatch, workspace, slot->output), &workspace->head,
                        has_backward, &slot->head);
}

/* A stage without blocks hands on what it gets; behind the frozen embedding a tangent is 0. */
static void pass_on(const struct stage *stage, const struct microbatch *microbatch, const float *x,
                    float *y) {
    const size_t bytes = stage_input_rows(stage, microbatch) * stage_width(stage) * sizeof *y;
    if (x == NULL)
        memset(y, 0, bytes);
    else
        memcpy(y, x, bytes);
}

/* The cotangents of block i: kept by the slot, or in the room that all blocks share. */
static struct block_cotangents *cotangents_of(struct slot *slot, struct workspace *workspace,
                                              size_t i) {
    return slot->kept != NULL ? &slot->kept[i] : &workspace->cotangents;
}

/* On a grid a process makes a part of a gradient; the rest of it is 0. */
static void clear_on_grid(const struct stage *stage, float *gradient, size_t size) {
    if (stage->options.grid != NULL && gradient != NULL)
        memset(gradient, 0, size * sizeof *gradient);
}

void stage_backward(const struct stage *stage, const struct point *point,
                    const struct microbatch *microbatch, struct slot *slot,
                    struct workspace *workspace, float *d_output, struct gradient *gradient,
                    float *d_input) {
    const struct stage_options *options = &stage->options;
    const size_t blocks = options->num_blocks;
    clear_on_grid(stage, gradient->factors, stage->factors.size);
    clear_on_grid(stage, gradient->selection, stage->selection_size);
    if (options->has_embedding)
        d_input = workspace->d_embedded; /* NULL unless the embedding is trained */
    float *d = blocks > 0 ? cotangents_of(slot, workspace, blocks - 1)->d_output : d_input;
    if (options->has_task_head)
        backward_head(stage, point, microbatch, slot, workspace, gradient,
                      d != NULL ? d : workspace->cotangents.d_output);
    else if (d != NULL)
        pass_on(stage, microbatch, d_output, d);
    for (size_t i = blocks; i-- > 0;) {
        float *below = i > 0 ? cotangents_of(slot, workspace, i - 1)->d_output : d_input;
        block_backward(&stage->blocks[i], point, microbatch, &slot->blocks[i],
                       cotangents_of(slot, workspace, i), &workspace->scratch, gradient, below);
        pause_of(workspace);
    }
    if (d_input != NULL && options->has_embedding)
        embedding_backward(&stage->embedding, &options->architecture, options->seed, point,
                           microbatch, &slot->embedding, gradient, d_input);
}

/* Tangents travel through two of the workspace's buffers in turn. */
static float *travelling(struct workspace *workspace, size_t i) {
    return i % 2 == 0 ? workspace->cotangents.d_query : workspace->cotangents.d_key;
}

void stage_tangent(const struct stage *stage, const struct point *point, const float *direction,
                   const struct microbatch *microbatch, struct slot *slot,
                   struct workspace *workspace, const float *t_input, float *t_output) {
    const struct stage_options *options = &stage->options;
    const size_t blocks = options->num_blocks;
    FAULT_UNLESS(slot->kept != NULL, "this slot keeps no tangents");
    const float *t_x = t_input;
    for (size_t i = 0; i < blocks; ++i) {
        float *t_y = i + 1 == blocks && t_output != NULL ? t_output : travelling(workspace, i);
        block_tangent(&stage->blocks[i], point, direction, microbatch, &slot->blocks[i], t_x,
                      &slot->tangents[i], &workspace->scratch, t_y);
        t_x = t_y;
        pause_of(workspace);
    }
    if (options->has_task_head)
        head_tangent(&stage->task_head, point, direction, microbatch,
                     head_input(stage, microbatch, workspace, t_x), &workspace->head, &slot->head);
    else if (blocks == 0)
        pass_on(stage, microbatch, t_x, t_output);
}

void stage_backward_tangent(const struct stage *stage, const struct point *point,
                            const float *direction, const struct microbatch *microbatch,
                            struct slot *slot, struct workspace *workspace, float *t_d_output,
                            float *t_d_selection, float *t_d_input) {
    const struct stage_options *options = &stage->options;
    float *t_d = t_d_output;
    clear_on_grid(stage, t_d_selection, stage->selection_size);
    if (options->has_task_head) {
        t_d = options->num_blocks == 0 && t_d_input != NULL ? t_d_input : travelling(workspace, 0);
        head_backward_tangent(&stage->task_head, point, direction, microbatch, &slot->head,
                              head_cotangent(stage, workspace, t_d));
        keep_cotangent(stage, microbatch, workspace, t_d);
    } else if (options->num_blocks == 0 && t_d_input != NULL) {
        pass_on(stage, microbatch, t_d, t_d_input);
    }
    for (size_t i = options->num_blocks; i-- > 0;) {
        block_backward_tangent(&stage->blocks[i], point, direction, microbatch, &slot->blocks[i],
                               &slot->kept[i], &slot->tangents[i], &workspace->scratch, t_d,
                               t_d_selection, i > 0 ? t_d : t_d_input);
        pause_of(workspace);
    }
}
