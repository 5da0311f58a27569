/* The four passes of a block: first those of the branches, then what the halves do around them. */
#include "model/block.h"

#include <string.h>

/* Places of hidden dropout within a block: identity = 8 * block + place. */
enum { PLACE_ATTENTION_OUTPUT = 1, PLACE_OUTPUT = 2 };

static struct dropout dropout_of(const struct block *block, const struct microbatch *microbatch,
                                 float rate, enum random_purpose purpose, uint64_t identity) {
    return (struct dropout){
        .rate = microbatch->has_dropout ? rate : 0,
        .seed = block->seed,
        .step = microbatch->step,
        .purpose = purpose,
        .identity = identity,
        .offsets = microbatch->offsets,
        .samples = microbatch->samples,
        .num_sequences = microbatch->num_sequences,
    };
}

static void hidden_dropout(const struct block *block, const struct microbatch *microbatch,
                           uint64_t place, float *x) {
    const struct dropout dropout =
        dropout_of(block, microbatch, block->hidden_dropout, RANDOM_DROPOUT_HIDDEN,
                   8 * (block->index + 1) + place);
    dropout_apply(&dropout, block->hidden_size, x);
}

static struct dropout adapter_dropout(const struct block *block,
                                      const struct microbatch *microbatch,
                                      const struct linear *linear) {
    return dropout_of(block, microbatch, linear->adapter.dropout, RANDOM_DROPOUT_ADAPTER,
                      linear->adapter.module);
}

/* The arguments that every projection of a pass shares. Keys and values are made of all `tokens`;
 * everything else has the rows that the block's output has. */
struct pass {
    const struct block *block;
    const struct point *point;
    const float *direction;
    const struct microbatch *tokens;
    struct microbatch rows;
    const struct block_activations *activations;
    struct block_scratch *scratch;
};

static struct pass pass_make(const struct block *block, const struct point *point,
                             const float *direction, const struct microbatch *microbatch,
                             const struct block_activations *activations,
                             struct block_scratch *scratch) {
    return (struct pass){
        .block = block,
        .point = point,
        .direction = direction,
        .tokens = microbatch,
        .rows = block->attention.first_rows_only ? microbatch_first_rows(microbatch) : *microbatch,
        .activations = activations,
        .scratch = scratch,
    };
}

static const struct microbatch *rows_of(const struct pass *pass, enum projection which) {
    return which == PROJECTION_KEY || which == PROJECTION_VALUE ? pass->tokens : &pass->rows;
}

/* Those rows of x [tokens, hidden] that go on: x itself, or a copy in `room`. */
static const float *gather_rows(const struct pass *pass, const float *x, float *room) {
    const size_t width = pass->block->hidden_size;
    if (!pass->block->attention.first_rows_only)
        return x;
    for (size_t s = 0; s < pass->tokens->num_sequences; ++s)
        memcpy(room + s * width, x + pass->tokens->offsets[s] * width, width * sizeof *room);
    return room;
}

/* The transpose of gather_rows. */
static void scatter_rows(const struct pass *pass, const float *rows, float *x) {
    const size_t width = pass->block->hidden_size;
    const size_t bytes = pass->tokens->num_tokens * width * sizeof *x;
    if (!pass->block->attention.first_rows_only) {
        memcpy(x, rows, bytes);
        return;
    }
    memset(x, 0, bytes);
    for (size_t s = 0; s < pass->tokens->num_sequences; ++s)
        memcpy(x + pass->tokens->offsets[s] * width, rows + s * width, width * sizeof *x);
}

static void project(const struct pass *pass, enum projection which, const float *x, float *y) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    linear_forward(linear, pass->point, x, rows->num_tokens, &dropout, &pass->scratch->linear,
                   pass->activations->low_rank[which], y);
}

static void project_backward(const struct pass *pass, enum projection which, const float *x,
                             const float *d_y, struct gradient *gradient, bool accumulate,
                             float *d_x) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    linear_backward(linear, pass->point, x, pass->activations->low_rank[which], d_y,
                    rows->num_tokens, &dropout, &pass->scratch->linear, gradient, accumulate, d_x);
}

static void project_tangent(const struct pass *pass, enum projection which, const float *x,
                            const float *t_x, struct block_tangents *tangents, float *t_y) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    linear_tangent(linear, pass->point, pass->direction, x, t_x, pass->activations->low_rank[which],
                   rows->num_tokens, &dropout, &pass->scratch->linear, tangents->low_rank[which],
                   t_y);
}

static void project_backward_tangent(const struct pass *pass, enum projection which,
                                     const struct block_tangents *tangents, const float *d_y,
                                     const float *t_d_y, float *t_d_selection, bool accumulate,
                                     float *t_d_x) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    linear_backward_tangent(linear, pass->point, pass->direction,
                            pass->activations->low_rank[which], tangents->low_rank[which], d_y,
                            t_d_y, rows->num_tokens, &dropout, &pass->scratch->linear,
                            t_d_selection, accumulate, t_d_x);
}

/* ---- the branches ---- */

static void attention_branch(const struct pass *pass, const float *n, const float *n_rows,
                             struct block_activations *activations, float *y) {
    project(pass, PROJECTION_QUERY, n_rows, activations->query);
    project(pass, PROJECTION_KEY, n, activations->key);
    project(pass, PROJECTION_VALUE, n, activations->value);
    attention_forward(&pass->block->attention, pass->tokens, activations->query, activations->key,
                      activations->value, &pass->scratch->attention, activations->probabilities,
                      activations->context);
    project(pass, PROJECTION_ATTENTION_OUTPUT, activations->context, y);
}

static size_t expanded_size(const struct pass *pass) {
    return pass->rows.num_tokens * pass->block->intermediate_size;
}

static void feed_forward_branch(const struct pass *pass, const float *n,
                                struct block_activations *activations, float *y) {
    project(pass, PROJECTION_INTERMEDIATE, n, activations->expanded);
    activation_forward(pass->block->activation, activations->expanded, expanded_size(pass),
                       pass->scratch->wide);
    project(pass, PROJECTION_OUTPUT, pass->scratch->wide, y);
}

/* What query is computed from: the rows of the attention's input. */
static const float *query_input(const struct pass *pass) {
    return pass->block->is_pre_norm ? pass->activations->attention_input
                                    : pass->activations->input_rows;
}

/* d_n [tokens, hidden] of the branch's input; NULL: not wanted. `around` [rows, hidden], unless it
 * is NULL, is the cotangent that goes around the branch: it is used up and added to d_n. */
static void attention_branch_backward(const struct pass *pass, struct block_cotangents *cotangents,
                                      const float *d_y, struct gradient *gradient, float *around,
                                      float *d_n) {
    const struct block_activations *a = pass->activations;
    project_backward(pass, PROJECTION_ATTENTION_OUTPUT, a->context, d_y, gradient, false,
                     cotangents->d_context);
    attention_backward(&pass->block->attention, pass->tokens, a->query, a->key, a->value,
                       a->probabilities, cotangents->d_context, &pass->scratch->attention,
                       cotangents->d_query, cotangents->d_key, cotangents->d_value);
    float *d_rows = d_n == NULL || around == NULL ? d_n : around;
    project_backward(pass, PROJECTION_QUERY, query_input(pass), cotangents->d_query, gradient,
                     around != NULL, d_rows);
    if (d_rows != d_n)
        scatter_rows(pass, d_rows, d_n);
    project_backward(pass, PROJECTION_KEY, a->attention_input, cotangents->d_key, gradient, true,
                     d_n);
    project_backward(pass, PROJECTION_VALUE, a->attention_input, cotangents->d_value, gradient,
                     true, d_n);
}

/* The input of the output projection, recomputed where a gradient needs it. */
static const float *activated_input(const struct pass *pass) {
    const struct linear *output = &pass->block->projections[PROJECTION_OUTPUT];
    float *wide = pass->scratch->wide;
    if (output->adapter.rank > 0 || output->weight.is_trained)
        activation_forward(pass->block->activation, pass->activations->expanded,
                           expanded_size(pass), wide);
    return wide;
}

/* Leaves d_activated in cotangents. */
static void feed_forward_branch_backward(const struct pass *pass,
                                         struct block_cotangents *cotangents, const float *d_y,
                                         struct gradient *gradient, bool accumulate, float *d_n) {
    const struct block_activations *activations = pass->activations;
    float *wide = pass->scratch->wide;
    project_backward(pass, PROJECTION_OUTPUT, activated_input(pass), d_y, gradient, false,
                     cotangents->d_activated);
    activation_backward(pass->block->activation, cotangents->d_activated, activations->expanded,
                        expanded_size(pass), wide);
    project_backward(pass, PROJECTION_INTERMEDIATE, activations->feed_forward_input, wide, gradient,
                     accumulate, d_n);
}

/* t_n, t_rows NULL: zero. */
static void attention_branch_tangent(const struct pass *pass, const float *t_n, const float *t_rows,
                                     struct block_tangents *tangents, float *t_context,
                                     float *t_y) {
    const struct block_activations *a = pass->activations;
    project_tangent(pass, PROJECTION_QUERY, query_input(pass), t_rows, tangents, tangents->query);
    project_tangent(pass, PROJECTION_KEY, a->attention_input, t_n, tangents, tangents->key);
    project_tangent(pass, PROJECTION_VALUE, a->attention_input, t_n, tangents, tangents->value);
    attention_tangent(&pass->block->attention, pass->tokens, a->query, a->key, a->value,
                      a->probabilities, tangents->query, tangents->key, tangents->value,
                      &pass->scratch->attention, tangents->probabilities, t_context);
    project_tangent(pass, PROJECTION_ATTENTION_OUTPUT, a->context, t_context, tangents, t_y);
}

static void feed_forward_branch_tangent(const struct pass *pass, const float *t_n,
                                        struct block_tangents *tangents, float *t_y) {
    const struct block_activations *activations = pass->activations;
    float *t_activated = pass->scratch->activated_tangent;
    project_tangent(pass, PROJECTION_INTERMEDIATE, activations->feed_forward_input, t_n, tangents,
                    tangents->expanded);
    activation_tangent(pass->block->activation, tangents->expanded, activations->expanded,
                       expanded_size(pass), t_activated);
    project_tangent(pass, PROJECTION_OUTPUT, activated_input(pass), t_activated, tangents, t_y);
}

/* d_y and t_d_y are used up; `around` and t_d_n as in attention_branch_backward. t_d_context [rows,
 * hidden] is room, and may be t_d_n. */
static void attention_branch_backward_tangent(const struct pass *pass,
                                              const struct block_cotangents *cotangents,
                                              const struct block_tangents *tangents, float *d_y,
                                              float *t_d_y, float *t_d_context,
                                              float *t_d_selection, float *around, float *t_d_n) {
    const struct block_activations *a = pass->activations;
    project_backward_tangent(pass, PROJECTION_ATTENTION_OUTPUT, tangents, d_y, t_d_y, t_d_selection,
                             false, t_d_context);
    const struct attention_saved saved = {
        .query = a->query,
        .key = a->key,
        .value = a->value,
        .probabilities = a->probabilities,
        .t_query = tangents->query,
        .t_key = tangents->key,
        .t_value = tangents->value,
        .t_probabilities = tangents->probabilities,
        .d_context = cotangents->d_context,
    };
    float *t_d_query = d_y, *t_d_key = t_d_y, *t_d_value = pass->scratch->hidden[3];
    attention_backward_tangent(&pass->block->attention, pass->tokens, &saved, t_d_context,
                               &pass->scratch->attention, t_d_query, t_d_key, t_d_value);
    float *t_d_rows = t_d_n == NULL || around == NULL ? t_d_n : around;
    project_backward_tangent(pass, PROJECTION_QUERY, tangents, cotangents->d_query, t_d_query,
                             t_d_selection, around != NULL, t_d_rows);
    if (t_d_rows != t_d_n)
        scatter_rows(pass, t_d_rows, t_d_n);
    project_backward_tangent(pass, PROJECTION_KEY, tangents, cotangents->d_key, t_d_key,
                             t_d_selection, true, t_d_n);
    project_backward_tangent(pass, PROJECTION_VALUE, tangents, cotangents->d_value, t_d_value,
                             t_d_selection, true, t_d_n);
}

static void feed_forward_branch_backward_tangent(const struct pass *pass,
                                                 const struct block_cotangents *cotangents,
                                                 const struct block_tangents *tangents,
                                                 const float *d_y, const float *t_d_y,
                                                 float *t_d_selection, bool accumulate,
                                                 float *t_d_n) {
    const struct block_activations *activations = pass->activations;
    const enum activation activation = pass->block->activation;
    const size_t expanded = expanded_size(pass);
    float *d_expanded = pass->scratch->wide, *t_d_expanded = pass->scratch->activated_tangent;
    project_backward_tangent(pass, PROJECTION_OUTPUT, tangents, d_y, t_d_y, t_d_selection, false,
                             t_d_expanded);
    activation_backward_tangent(activation, cotangents->d_activated, t_d_expanded,
                                activations->expanded, tangents->expanded, expanded, t_d_expanded);
    activation_backward(activation, cotangents->d_activated, activations->expanded, expanded,
                        d_expanded);
    project_backward_tangent(pass, PROJECTION_INTERMEDIATE, tangents, d_expanded, t_d_expanded,
                             t_d_selection, accumulate, t_d_n);
}

/* ---- layer norm and dropout of a half ---- */

static void norm(const struct pass *pass, enum block_half half,
                 struct block_activations *activations, const float *x, float *y) {
    const struct layer_norm *layer_norm = &pass->block->norms[half];
    layer_norm_forward(x, base_values(layer_norm->weight, pass->point),
                       base_values(layer_norm->bias, pass->point), pass->block->layer_norm_epsilon,
                       pass->rows.num_tokens, pass->block->hidden_size,
                       activations->normalized[half], activations->deviation[half], y);
}

static const float *norm_weight(const struct pass *pass, enum block_half half) {
    return base_values(pass->block->norms[half].weight, pass->point);
}

static void norm_backward(const struct pass *pass, enum block_half half, const float *d_y,
                          float *d_x) {
    layer_norm_backward(d_y, pass->activations->normalized[half],
                        pass->activations->deviation[half], norm_weight(pass, half),
                        pass->rows.num_tokens, pass->block->hidden_size, d_x);
}

/* Gradients of a layer norm's own weight and bias, where they are trained. */
static void norm_gradient(const struct pass *pass, enum block_half half, const float *d_y,
                          const struct gradient *gradient) {
    const struct layer_norm *layer_norm = &pass->block->norms[half];
    if (layer_norm->weight.is_trained)
        layer_norm_gradient(d_y, pass->activations->normalized[half], pass->rows.num_tokens,
                            pass->block->hidden_size, base_gradient(layer_norm->weight, gradient),
                            base_gradient(layer_norm->bias, gradient));
}

static void norm_tangent(const struct pass *pass, enum block_half half,
                         struct block_tangents *tangents, const float *t_x, float *t_y) {
    layer_norm_tangent(t_x, pass->activations->normalized[half], pass->activations->deviation[half],
                       norm_weight(pass, half), pass->rows.num_tokens, pass->block->hidden_size,
                       tangents->normalized[half], tangents->deviation[half], t_y);
}

static void norm_backward_tangent(const struct pass *pass, enum block_half half,
                                  const struct block_tangents *tangents, const float *d_y,
                                  const float *t_d_y, float *t_d_x) {
    layer_norm_backward_tangent(d_y, t_d_y, pass->activations->normalized[half],
                                tangents->normalized[half], pass->activations->deviation[half],
                                tangents->deviation[half], norm_weight(pass, half),
                                pass->rows.num_tokens, pass->block->hidden_size, t_d_x);
}

static const uint64_t PLACES[NUM_HALVES] = {PLACE_ATTENTION_OUTPUT, PLACE_OUTPUT};

static void drop(const struct pass *pass, enum block_half half, float *y) {
    hidden_dropout(pass->block, &pass->rows, PLACES[half], y);
}

static size_t row_size(const struct pass *pass) {
    return pass->rows.num_tokens * pass->block->hidden_size;
}

/* The bottleneck adapter of a half, where there is one. The low-rank rooms are large enough, and no
 * projection is at work. */
static void squeeze(const struct pass *pass, enum block_half half,
                    struct block_activations *activations, float *y) {
    const struct bottleneck *bottleneck = &pass->block->bottlenecks[half];
    if (bottleneck->size == 0)
        return;
    memcpy(activations->bottleneck_input[half], y, row_size(pass) * sizeof *y);
    bottleneck_forward(bottleneck, pass->point, pass->rows.num_tokens,
                       pass->scratch->linear.low_rank, activations->bottleneck[half], y);
}

/* d_branch: the cotangent of what the half's branch gives, from that of what is added to its input.
 */
static void branch_cotangent(const struct pass *pass, enum block_half half, const float *d_sum,
                             const struct gradient *gradient, float *d_branch) {
    const struct bottleneck *bottleneck = &pass->block->bottlenecks[half];
    const struct linear_scratch *scratch = &pass->scratch->linear;
    float *const rooms[] = {scratch->low_rank, scratch->low_rank_tangent};
    memcpy(d_branch, d_sum, row_size(pass) * sizeof *d_branch);
    if (bottleneck->size > 0)
        bottleneck_backward(bottleneck, pass->point, pass->activations->bottleneck_input[half],
                            pass->activations->bottleneck[half], pass->rows.num_tokens, rooms,
                            gradient, d_branch);
    drop(pass, half, d_branch);
}

static void dropped_copy(const struct pass *pass, enum block_half half, const float *x,
                         float *copy) {
    memcpy(copy, x, row_size(pass) * sizeof *copy);
    drop(pass, half, copy);
}

/* ---- the passes ---- */

void block_forward(const struct block *block, const struct point *point,
                   const struct microbatch *microbatch, struct block_activations *activations,
                   struct block_scratch *scratch, float *output) {
    const struct pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    const bool is_pre_norm = block->is_pre_norm;
    float *attended = activations->attended;
    gather_rows(&pass, activations->input, activations->input_rows);
    if (is_pre_norm)
        norm(&pass, HALF_ATTENTION, activations, activations->input, activations->attention_input);
    attention_branch(&pass, activations->attention_input, query_input(&pass), activations,
                     attended);
    drop(&pass, HALF_ATTENTION, attended);
    squeeze(&pass, HALF_ATTENTION, activations, attended);
    vector_add(activations->input_rows, row_size(&pass), attended);
    if (is_pre_norm)
        norm(&pass, HALF_FEED_FORWARD, activations, attended, activations->feed_forward_input);
    else
        norm(&pass, HALF_ATTENTION, activations, attended, attended);
    feed_forward_branch(&pass, activations->feed_forward_input, activations, output);
    drop(&pass, HALF_FEED_FORWARD, output);
    squeeze(&pass, HALF_FEED_FORWARD, activations, output);
    vector_add(attended, row_size(&pass), output);
    if (!is_pre_norm)
        norm(&pass, HALF_FEED_FORWARD, activations, output, output);
}

static void backward_pre_norm(const struct pass *pass, struct block_cotangents *cotangents,
                              struct gradient *gradient, float *d_input) {
    float *d_branch = pass->scratch->hidden[0], *d_attended = cotangents->d_attended;
    branch_cotangent(pass, HALF_FEED_FORWARD, cotangents->d_output, gradient, d_branch);
    feed_forward_branch_backward(pass, cotangents, d_branch, gradient, false,
                                 cotangents->d_feed_forward_input);
    norm_gradient(pass, HALF_FEED_FORWARD, cotangents->d_feed_forward_input, gradient);
    norm_backward(pass, HALF_FEED_FORWARD, cotangents->d_feed_forward_input, d_attended);
    vector_add(cotangents->d_output, row_size(pass), d_attended);

    const bool is_wanted = d_input != NULL || pass->block->norms[HALF_ATTENTION].weight.is_trained;
    branch_cotangent(pass, HALF_ATTENTION, d_attended, gradient, d_branch);
    attention_branch_backward(pass, cotangents, d_branch, gradient, NULL,
                              is_wanted ? cotangents->d_attention_input : NULL);
    if (is_wanted)
        norm_gradient(pass, HALF_ATTENTION, cotangents->d_attention_input, gradient);
    if (d_input == NULL)
        return;
    norm_backward(pass, HALF_ATTENTION, cotangents->d_attention_input, d_input);
    vector_add(d_attended, row_size(pass), d_input);
}

static void backward_post_norm(const struct pass *pass, struct block_cotangents *cotangents,
                               struct gradient *gradient, float *d_input) {
    float *d_branch = pass->scratch->hidden[0], *around = pass->scratch->hidden[1];
    norm_gradient(pass, HALF_FEED_FORWARD, cotangents->d_output, gradient);
    norm_backward(pass, HALF_FEED_FORWARD, cotangents->d_output, cotangents->d_attended);
    branch_cotangent(pass, HALF_FEED_FORWARD, cotangents->d_attended, gradient, d_branch);
    feed_forward_branch_backward(pass, cotangents, d_branch, gradient, true,
                                 cotangents->d_attended);

    norm_gradient(pass, HALF_ATTENTION, cotangents->d_attended, gradient);
    norm_backward(pass, HALF_ATTENTION, cotangents->d_attended, around);
    branch_cotangent(pass, HALF_ATTENTION, around, gradient, d_branch);
    attention_branch_backward(pass, cotangents, d_branch, gradient, around, d_input);
}

void block_backward(const struct block *block, const struct point *point,
                    const struct microbatch *microbatch,
                    const struct block_activations *activations,
                    struct block_cotangents *cotangents, struct block_scratch *scratch,
                    struct gradient *gradient, float *d_input) {
    const struct pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    if (block->is_pre_norm)
        backward_pre_norm(&pass, cotangents, gradient, d_input);
    else
        backward_post_norm(&pass, cotangents, gradient, d_input);
}

static void tangent_pre_norm(const struct pass *pass, const float *t_input,
                             struct block_tangents *tangents, float *t_output) {
    float *t_attended = pass->scratch->hidden[1], *t_n = pass->scratch->hidden[2];
    if (t_input != NULL)
        norm_tangent(pass, HALF_ATTENTION, tangents, t_input, t_n);
    attention_branch_tangent(pass, t_input == NULL ? NULL : t_n, t_input == NULL ? NULL : t_n,
                             tangents, pass->scratch->hidden[0], t_attended);
    drop(pass, HALF_ATTENTION, t_attended);
    if (t_input != NULL)
        vector_add(t_input, row_size(pass), t_attended);

    norm_tangent(pass, HALF_FEED_FORWARD, tangents, t_attended, t_n);
    feed_forward_branch_tangent(pass, t_n, tangents, t_output);
    drop(pass, HALF_FEED_FORWARD, t_output);
    vector_add(t_attended, row_size(pass), t_output);
}

static void tangent_post_norm(const struct pass *pass, const float *t_input,
                              struct block_tangents *tangents, float *t_output) {
    float *t_attended = pass->scratch->hidden[1];
    const float *t_rows =
        t_input == NULL ? NULL : gather_rows(pass, t_input, pass->scratch->hidden[2]);
    attention_branch_tangent(pass, t_input, t_rows, tangents, pass->scratch->hidden[0], t_attended);
    drop(pass, HALF_ATTENTION, t_attended);
    if (t_input != NULL)
        vector_add(t_rows, row_size(pass), t_attended);
    norm_tangent(pass, HALF_ATTENTION, tangents, t_attended, t_attended);

    feed_forward_branch_tangent(pass, t_attended, tangents, t_output);
    drop(pass, HALF_FEED_FORWARD, t_output);
    vector_add(t_attended, row_size(pass), t_output);
    norm_tangent(pass, HALF_FEED_FORWARD, tangents, t_output, t_output);
}

void block_tangent(const struct block *block, const struct point *point, const float *direction,
                   const struct microbatch *microbatch, const struct block_activations *activations,
                   const float *t_input, struct block_tangents *tangents,
                   struct block_scratch *scratch, float *t_output) {
    const struct pass pass = pass_make(block, point, direction, microbatch, activations, scratch);
    if (block->is_pre_norm)
        tangent_pre_norm(&pass, t_input, tangents, t_output);
    else
        tangent_post_norm(&pass, t_input, tangents, t_output);
}

static void backward_tangent_pre_norm(const struct pass *pass,
                                      const struct block_cotangents *cotangents,
                                      const struct block_tangents *tangents, float *t_d_output,
                                      float *t_d_selection, float *t_d_input) {
    float *const *hidden = pass->scratch->hidden;
    float *d_branch = hidden[0], *t_d_branch = hidden[1], *t_d_attended = hidden[2];
    float *t_d_n = hidden[3];
    dropped_copy(pass, HALF_FEED_FORWARD, cotangents->d_output, d_branch);
    dropped_copy(pass, HALF_FEED_FORWARD, t_d_output, t_d_branch);
    feed_forward_branch_backward_tangent(pass, cotangents, tangents, d_branch, t_d_branch,
                                         t_d_selection, false, t_d_n);
    norm_backward_tangent(pass, HALF_FEED_FORWARD, tangents, cotangents->d_feed_forward_input,
                          t_d_n, t_d_attended);
    vector_add(t_d_output, row_size(pass), t_d_attended);

    dropped_copy(pass, HALF_ATTENTION, cotangents->d_attended, d_branch);
    dropped_copy(pass, HALF_ATTENTION, t_d_attended, t_d_branch);
    t_d_n = t_d_output; /* no longer needed */
    attention_branch_backward_tangent(pass, cotangents, tangents, d_branch, t_d_branch, t_d_n,
                                      t_d_selection, NULL, t_d_input == NULL ? NULL : t_d_n);
    if (t_d_input == NULL)
        return;
    norm_backward_tangent(pass, HALF_ATTENTION, tangents, cotangents->d_attention_input, t_d_n,
                          t_d_input);
    vector_add(t_d_attended, row_size(pass), t_d_input);
}

static void backward_tangent_post_norm(const struct pass *pass,
                                       const struct block_cotangents *cotangents,
                                       const struct block_tangents *tangents, float *t_d_output,
                                       float *t_d_selection, float *t_d_input) {
    float *const *hidden = pass->scratch->hidden;
    float *d_branch = hidden[0], *t_d_branch = hidden[1], *around = hidden[2];
    norm_backward(pass, HALF_FEED_FORWARD, cotangents->d_output, d_branch);
    drop(pass, HALF_FEED_FORWARD, d_branch);
    norm_backward_tangent(pass, HALF_FEED_FORWARD, tangents, cotangents->d_output, t_d_output,
                          around);
    dropped_copy(pass, HALF_FEED_FORWARD, around, t_d_branch);
    feed_forward_branch_backward_tangent(pass, cotangents, tangents, d_branch, t_d_branch,
                                         t_d_selection, true, around);

    norm_backward(pass, HALF_ATTENTION, cotangents->d_attended, d_branch);
    drop(pass, HALF_ATTENTION, d_branch);
    norm_backward_tangent(pass, HALF_ATTENTION, tangents, cotangents->d_attended, around, around);
    dropped_copy(pass, HALF_ATTENTION, around, t_d_branch);
    attention_branch_backward_tangent(pass, cotangents, tangents, d_branch, t_d_branch, t_d_output,
                                      t_d_selection, around, t_d_input);
}

void block_backward_tangent(const struct block *block, const struct point *point,
                            const float *direction, const struct microbatch *microbatch,
                            const struct block_activations *activations,
                            const struct block_cotangents *cotangents,
                            const struct block_tangents *tangents, struct block_scratch *scratch,
                            float *t_d_output, float *t_d_selection, float *t_d_input) {
    const struct pass pass = pass_make(block, point, direction, microbatch, activations, scratch);
    if (block->is_pre_norm)
        backward_tangent_pre_norm(&pass, cotangents, tangents, t_d_output, t_d_selection,
                                  t_d_input);
    else
        backward_tangent_post_norm(&pass, cotangents, tangents, t_d_output, t_d_selection,
                                   t_d_input);
}
