/* The two branches of a block, attention and feed-forward: their four passes. */
#include "model/block_pass.h"

#include <string.h>

struct dropout block_dropout(const struct block *block, const struct microbatch *microbatch,
                             float rate, enum random_purpose purpose, uint64_t identity,
                             struct share features) {
    return (struct dropout){
        .rate = microbatch->has_dropout ? rate : 0,
        .seed = block->seed,
        .step = microbatch->step,
        .purpose = purpose,
        .identity = identity,
        .offsets = microbatch->offsets,
        .samples = microbatch->samples,
        .num_sequences = microbatch->num_sequences,
        .first_feature = features.first,
        .all_features = features.all,
    };
}

struct share block_features(const struct block *block) {
    return block->grid != NULL ? block->hidden : share_whole(block->hidden_size);
}

static struct dropout adapter_dropout(const struct block *block,
                                      const struct microbatch *microbatch,
                                      const struct linear *linear) {
    return block_dropout(block, microbatch, linear->adapter.dropout, RANDOM_DROPOUT_ADAPTER,
                         linear->adapter.module, linear_inputs(linear));
}

static const struct microbatch *rows_of(const struct block_pass *pass, enum projection which) {
    return which == PROJECTION_KEY || which == PROJECTION_VALUE ? pass->tokens : &pass->rows;
}

/* x [tokens, hidden] from the rows that went on, 0 elsewhere: the transpose of gathering them. */
static void scatter_rows(const struct block_pass *pass, const float *rows, float *x) {
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

static void project(const struct block_pass *pass, enum projection which, const float *x,
                    float *y) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    pass->scratch->linear.row_block = rows->most_tokens;
    linear_forward(linear, pass->point, x, rows->num_tokens, &dropout, &pass->scratch->linear,
                   pass->activations->low_rank[which], y);
}

static void project_backward(const struct block_pass *pass, enum projection which, const float *x,
                             const float *d_y, struct gradient *gradient, bool accumulate,
                             float *d_x) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    pass->scratch->linear.row_block = rows->most_tokens;
    linear_backward(linear, pass->point, x, pass->activations->low_rank[which], d_y,
                    rows->num_tokens, &dropout, &pass->scratch->linear, gradient, accumulate, d_x);
}

static void project_tangent(const struct block_pass *pass, enum projection which, const float *x,
                            const float *t_x, struct block_tangents *tangents, float *t_y) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    pass->scratch->linear.row_block = rows->most_tokens;
    linear_tangent(linear, pass->point, pass->direction, x, t_x, pass->activations->low_rank[which],
                   rows->num_tokens, &dropout, &pass->scratch->linear, tangents->low_rank[which],
                   t_y);
}

static void project_backward_tangent(const struct block_pass *pass, enum projection which,
                                     const struct block_tangents *tangents, const float *d_y,
                                     const float *t_d_y, float *t_d_selection, bool accumulate,
                                     float *t_d_x) {
    const struct linear *linear = &pass->block->projections[which];
    const struct microbatch *rows = rows_of(pass, which);
    const struct dropout dropout = adapter_dropout(pass->block, rows, linear);
    pass->scratch->linear.row_block = rows->most_tokens;
    linear_backward_tangent(linear, pass->point, pass->direction,
                            pass->activations->low_rank[which], tangents->low_rank[which], d_y,
                            t_d_y, rows->num_tokens, &dropout, &pass->scratch->linear,
                            t_d_selection, accumulate, t_d_x);
}

void attention_branch_forward(const struct block_pass *pass, const float *n, const float *n_rows,
                              struct block_activations *activations, float *y) {
    project(pass, PROJECTION_QUERY, n_rows, activations->query);
    project(pass, PROJECTION_KEY, n, activations->key);
    project(pass, PROJECTION_VALUE, n, activations->value);
    attention_forward(&pass->block->attention, pass->tokens, activations->query, activations->key,
                      activations->value, &pass->scratch->attention, activations->probabilities,
                      activations->context);
    project(pass, PROJECTION_ATTENTION_OUTPUT, activations->context, y);
}

static size_t expanded_size(const struct block_pass *pass) {
    return pass->rows.num_tokens * pass->block->intermediate_size;
}

void feed_forward_branch_forward(const struct block_pass *pass, const float *n,
                                 struct block_activations *activations, float *y) {
    project(pass, PROJECTION_INTERMEDIATE, n, activations->expanded);
    activation_forward(pass->block->activation, activations->expanded, expanded_size(pass),
                       pass->scratch->wide);
    project(pass, PROJECTION_OUTPUT, pass->scratch->wide, y);
}

const float *branch_query_input(const struct block_pass *pass) {
    return pass->block->is_pre_norm ? pass->activations->attention_input
                                    : pass->activations->input_rows;
}

void attention_branch_backward(const struct block_pass *pass, struct block_cotangents *cotangents,
                               const float *d_y, struct gradient *gradient, float *around,
                               float *d_n) {
    const struct block_activations *a = pass->activations;
    project_backward(pass, PROJECTION_ATTENTION_OUTPUT, a->context, d_y, gradient, false,
                     cotangents->d_context);
    attention_backward(&pass->block->attention, pass->tokens, a->query, a->key, a->value,
                       a->probabilities, cotangents->d_context, &pass->scratch->attention,
                       cotangents->d_query, cotangents->d_key, cotangents->d_value);
    float *d_rows = d_n == NULL || around == NULL ? d_n : around;
    project_backward(pass, PROJECTION_QUERY, branch_query_input(pass), cotangents->d_query,
                     gradient, around != NULL, d_rows);
    if (d_rows != d_n)
        scatter_rows(pass, d_rows, d_n);
    project_backward(pass, PROJECTION_KEY, a->attention_input, cotangents->d_key, gradient, true,
                     d_n);
    project_backward(pass, PROJECTION_VALUE, a->attention_input, cotangents->d_value, gradient,
                     true, d_n);
}

/* The input of the output projection, recomputed where a gradient needs it. */
static const float *activated_input(const struct block_pass *pass) {
    const struct linear *output = &pass->block->projections[PROJECTION_OUTPUT];
    float *wide = pass->scratch->wide;
    if (output->adapter.rank > 0 || output->weight.is_trained)
        activation_forward(pass->block->activation, pass->activations->expanded,
                           expanded_size(pass), wide);
    return wide;
}

void feed_forward_branch_backward(const struct block_pass *pass,
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

void attention_branch_tangent(const struct block_pass *pass, const float *t_n, const float *t_rows,
                              struct block_tangents *tangents, float *t_context, float *t_y) {
    const struct block_activations *a = pass->activations;
    project_tangent(pass, PROJECTION_QUERY, branch_query_input(pass), t_rows, tangents,
                    tangents->query);
    project_tangent(pass, PROJECTION_KEY, a->attention_input, t_n, tangents, tangents->key);
    project_tangent(pass, PROJECTION_VALUE, a->attention_input, t_n, tangents, tangents->value);
    attention_tangent(&pass->block->attention, pass->tokens, a->query, a->key, a->value,
                      a->probabilities, tangents->query, tangents->key, tangents->value,
                      &pass->scratch->attention, tangents->probabilities, t_context);
    project_tangent(pass, PROJECTION_ATTENTION_OUTPUT, a->context, t_context, tangents, t_y);
}

void feed_forward_branch_tangent(const struct block_pass *pass, const float *t_n,
                                 struct block_tangents *tangents, float *t_y) {
    const struct block_activations *activations = pass->activations;
    float *t_activated = pass->scratch->activated_tangent;
    project_tangent(pass, PROJECTION_INTERMEDIATE, activations->feed_forward_input, t_n, tangents,
                    tangents->expanded);
    activation_tangent(pass->block->activation, tangents->expanded, activations->expanded,
                       expanded_size(pass), t_activated);
    project_tangent(pass, PROJECTION_OUTPUT, activated_input(pass), t_activated, tangents, t_y);
}

void attention_branch_backward_tangent(const struct block_pass *pass,
                                       const struct block_cotangents *cotangents,
                                       const struct block_tangents *tangents, float *d_y,
                                       float *t_d_y, float *t_d_context, float *t_d_selection,
                                       float *around, float *t_d_n) {
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

void feed_forward_branch_backward_tangent(const struct block_pass *pass,
                                          const struct block_cotangents *cotangents,
                                          const struct block_tangents *tangents, const float *d_y,
                                          const float *t_d_y, float *t_d_selection, bool accumulate,
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
