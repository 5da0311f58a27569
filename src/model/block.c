/* The four passes of a block: what its halves do around their branches. */
#include "model/block_pass.h"

#include "math/split_norm.h"

#include <string.h>

/* Places of hidden dropout within a block: identity = 8 * block + place. */
enum { PLACE_ATTENTION_OUTPUT = 1, PLACE_OUTPUT = 2 };

static void hidden_dropout(const struct block *block, const struct microbatch *microbatch,
                           uint64_t place, float *x) {
    const struct dropout dropout =
        block_dropout(block, microbatch, block->hidden_dropout, RANDOM_DROPOUT_HIDDEN,
                      8 * (block->index + 1) + place, block_features(block));
    dropout_apply(&dropout, block->hidden_size, x);
}

static struct block_pass pass_make(const struct block *block, const struct point *point,
                                   const float *direction, const struct microbatch *microbatch,
                                   const struct block_activations *activations,
                                   struct block_scratch *scratch) {
    return (struct block_pass){
        .block = block,
        .point = point,
        .direction = direction,
        .tokens = microbatch,
        .rows = block->attention.first_rows_only ? microbatch_first_rows(microbatch) : *microbatch,
        .activations = activations,
        .scratch = scratch,
    };
}

/* Those rows of x [tokens, hidden] that go on: x itself, or a copy in `room`. */
static const float *gather_rows(const struct block_pass *pass, const float *x, float *room) {
    const size_t width = pass->block->hidden_size;
    if (!pass->block->attention.first_rows_only)
        return x;
    for (size_t s = 0; s < pass->tokens->num_sequences; ++s)
        memcpy(room + s * width, x + pass->tokens->offsets[s] * width, width * sizeof *room);
    return room;
}

/* ---- layer norm and dropout of a half ---- */

static void norm(const struct block_pass *pass, enum block_half half,
                 struct block_activations *activations, const float *x, float *y) {
    const struct layer_norm *layer_norm = &pass->block->norms[half];
    split_norm_forward(pass->block->grid, block_features(pass->block), x,
                       base_values(layer_norm->weight, pass->point),
                       base_values(layer_norm->bias, pass->point), pass->block->layer_norm_epsilon,
                       pass->rows.num_tokens, activations->normalized[half],
                       activations->deviation[half], y);
}

static const float *norm_weight(const struct block_pass *pass, enum block_half half) {
    return base_values(pass->block->norms[half].weight, pass->point);
}

static void norm_backward(const struct block_pass *pass, enum block_half half, const float *d_y,
                          float *d_x) {
    split_norm_backward(pass->block->grid, block_features(pass->block), d_y,
                        pass->activations->normalized[half], pass->activations->deviation[half],
                        norm_weight(pass, half), pass->rows.num_tokens, d_x);
}

/* Gradients of a layer norm's own weight and bias, where they are trained. */
static void norm_gradient(const struct block_pass *pass, enum block_half half, const float *d_y,
                          const struct gradient *gradient) {
    const struct layer_norm *layer_norm = &pass->block->norms[half];
    if (layer_norm->weight.is_trained)
        layer_norm_gradient(d_y, pass->activations->normalized[half], pass->rows.num_tokens,
                            pass->block->hidden_size, base_gradient(layer_norm->weight, gradient),
                            base_gradient(layer_norm->bias, gradient));
}

static void norm_tangent(const struct block_pass *pass, enum block_half half,
                         struct block_tangents *tangents, const float *t_x, float *t_y) {
    split_norm_tangent(pass->block->grid, block_features(pass->block), t_x,
                       pass->activations->normalized[half], pass->activations->deviation[half],
                       norm_weight(pass, half), pass->rows.num_tokens, tangents->normalized[half],
                       tangents->deviation[half], t_y);
}

static void norm_backward_tangent(const struct block_pass *pass, enum block_half half,
                                  const struct block_tangents *tangents, const float *d_y,
                                  const float *t_d_y, float *t_d_x) {
    split_norm_backward_tangent(pass->block->grid, block_features(pass->block), d_y, t_d_y,
                                pass->activations->normalized[half], tangents->normalized[half],
                                pass->activations->deviation[half], tangents->deviation[half],
                                norm_weight(pass, half), pass->rows.num_tokens, t_d_x);
}

static const uint64_t PLACES[NUM_HALVES] = {PLACE_ATTENTION_OUTPUT, PLACE_OUTPUT};

static void drop(const struct block_pass *pass, enum block_half half, float *y) {
    hidden_dropout(pass->block, &pass->rows, PLACES[half], y);
}

static size_t row_size(const struct block_pass *pass) {
    return pass->rows.num_tokens * pass->block->hidden_size;
}

/* The bottleneck adapter of a half, where there is one. The low-rank rooms are large enough, and no
 * projection is at work. */
static void squeeze(const struct block_pass *pass, enum block_half half,
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
static void branch_cotangent(const struct block_pass *pass, enum block_half half,
                             const float *d_sum, const struct gradient *gradient, float *d_branch) {
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

static void dropped_copy(const struct block_pass *pass, enum block_half half, const float *x,
                         float *copy) {
    memcpy(copy, x, row_size(pass) * sizeof *copy);
    drop(pass, half, copy);
}

/* ---- the passes ---- */

void block_forward(const struct block *block, const struct point *point,
                   const struct microbatch *microbatch, struct block_activations *activations,
                   struct block_scratch *scratch, float *output) {
    const struct block_pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    const bool is_pre_norm = block->is_pre_norm;
    float *attended = activations->attended;
    gather_rows(&pass, activations->input, activations->input_rows);
    if (is_pre_norm)
        norm(&pass, HALF_ATTENTION, activations, activations->input, activations->attention_input);
    attention_branch_forward(&pass, activations->attention_input, branch_query_input(&pass),
                             activations, attended);
    drop(&pass, HALF_ATTENTION, attended);
    squeeze(&pass, HALF_ATTENTION, activations, attended);
    vector_add(activations->input_rows, row_size(&pass), attended);
    if (is_pre_norm)
        norm(&pass, HALF_FEED_FORWARD, activations, attended, activations->feed_forward_input);
    else
        norm(&pass, HALF_ATTENTION, activations, attended, attended);
    feed_forward_branch_forward(&pass, activations->feed_forward_input, activations, output);
    drop(&pass, HALF_FEED_FORWARD, output);
    squeeze(&pass, HALF_FEED_FORWARD, activations, output);
    vector_add(attended, row_size(&pass), output);
    if (!is_pre_norm)
        norm(&pass, HALF_FEED_FORWARD, activations, output, output);
}

static void backward_pre_norm(const struct block_pass *pass, struct block_cotangents *cotangents,
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

static void backward_post_norm(const struct block_pass *pass, struct block_cotangents *cotangents,
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
    const struct block_pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    if (block->is_pre_norm)
        backward_pre_norm(&pass, cotangents, gradient, d_input);
    else
        backward_post_norm(&pass, cotangents, gradient, d_input);
}

static void tangent_pre_norm(const struct block_pass *pass, const float *t_input,
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

static void tangent_post_norm(const struct block_pass *pass, const float *t_input,
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
    const struct block_pass pass =
        pass_make(block, point, direction, microbatch, activations, scratch);
    if (block->is_pre_norm)
        tangent_pre_norm(&pass, t_input, tangents, t_output);
    else
        tangent_post_norm(&pass, t_input, tangents, t_output);
}

static void backward_tangent_pre_norm(const struct block_pass *pass,
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

static void backward_tangent_post_norm(const struct block_pass *pass,
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
    const struct block_pass pass =
        pass_make(block, point, direction, microbatch, activations, scratch);
    if (block->is_pre_norm)
        backward_tangent_pre_norm(&pass, cotangents, tangents, t_d_output, t_d_selection,
                                  t_d_input);
    else
        backward_tangent_post_norm(&pass, cotangents, tangents, t_d_output, t_d_selection,
                                   t_d_input);
}
