/* One transformer block of the BERT family. */
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

void block_forward(const struct block *block, const struct point *point,
                   const struct microbatch *microbatch, struct block_activations *activations,
                   struct block_scratch *scratch, float *output) {
    const struct pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    const size_t rows = pass.rows.num_tokens, hidden = block->hidden_size;
    const float *x = activations->input;
    gather_rows(&pass, x, activations->input_rows);
    project(&pass, PROJECTION_QUERY, activations->input_rows, activations->query);
    project(&pass, PROJECTION_KEY, x, activations->key);
    project(&pass, PROJECTION_VALUE, x, activations->value);
    attention_forward(&block->attention, microbatch, activations->query, activations->key,
                      activations->value, &scratch->attention, activations->probabilities,
                      activations->context);
    float *y1 = activations->attended;
    project(&pass, PROJECTION_ATTENTION_OUTPUT, activations->context, y1);
    hidden_dropout(block, &pass.rows, PLACE_ATTENTION_OUTPUT, y1);
    vector_add(activations->input_rows, rows * hidden, y1);
    layer_norm_forward(y1, block->attention_norm.weight, block->attention_norm.bias,
                       block->layer_norm_epsilon, rows, hidden, activations->attention_normalized,
                       activations->attention_deviation, y1);

    project(&pass, PROJECTION_INTERMEDIATE, y1, activations->expanded);
    gelu_forward(activations->expanded, rows * block->intermediate_size, scratch->wide);
    project(&pass, PROJECTION_OUTPUT, scratch->wide, output);
    hidden_dropout(block, &pass.rows, PLACE_OUTPUT, output);
    vector_add(y1, rows * hidden, output);
    layer_norm_forward(output, block->output_norm.weight, block->output_norm.bias,
                       block->layer_norm_epsilon, rows, hidden, activations->output_normalized,
                       activations->output_deviation, output);
}

/* The input of the output projection, recomputed where its adapter needs it. */
static const float *activated_input(const struct block *block,
                                    const struct block_activations *activations, size_t rows,
                                    float *wide) {
    if (block->projections[PROJECTION_OUTPUT].adapter.rank > 0)
        gelu_forward(activations->expanded, rows * block->intermediate_size, wide);
    return wide;
}

/* The second half of the block, backwards: leaves d_attended and d_activated in cotangents. */
static void backward_feed_forward(const struct pass *pass, struct block_cotangents *cotangents,
                                  struct gradient *gradient) {
    const struct block *block = pass->block;
    const struct block_activations *activations = pass->activations;
    const size_t rows = pass->rows.num_tokens, hidden = block->hidden_size;
    const size_t expanded = rows * block->intermediate_size;
    float *d_b = cotangents->d_attended, *d_branch = pass->scratch->hidden[0];
    /* y = layer_norm(y1 + dropout(branch)) */
    layer_norm_backward(cotangents->d_output, activations->output_normalized,
                        activations->output_deviation, block->output_norm.weight, rows, hidden,
                        d_b);
    memcpy(d_branch, d_b, rows * hidden * sizeof *d_b);
    hidden_dropout(block, &pass->rows, PLACE_OUTPUT, d_branch);
    /* branch = output(gelu(u)), u = intermediate(y1) */
    float *wide = pass->scratch->wide;
    const float *activated = activated_input(block, activations, rows, wide);
    project_backward(pass, PROJECTION_OUTPUT, activated, d_branch, gradient, false,
                     cotangents->d_activated);
    gelu_backward(cotangents->d_activated, activations->expanded, expanded, wide);
    project_backward(pass, PROJECTION_INTERMEDIATE, activations->attended, wide, gradient, true,
                     cotangents->d_attended);
}

void block_backward(const struct block *block, const struct point *point,
                    const struct microbatch *microbatch,
                    const struct block_activations *activations,
                    struct block_cotangents *cotangents, struct block_scratch *scratch,
                    struct gradient *gradient, float *d_input) {
    const struct pass pass = pass_make(block, point, NULL, microbatch, activations, scratch);
    const size_t rows = pass.rows.num_tokens, hidden = block->hidden_size;
    backward_feed_forward(&pass, cotangents, gradient);
    /* y1 = layer_norm(x + dropout(branch)), branch = attention_output(context) */
    float *d_a = scratch->hidden[1], *d_branch = scratch->hidden[0];
    layer_norm_backward(cotangents->d_attended, activations->attention_normalized,
                        activations->attention_deviation, block->attention_norm.weight, rows,
                        hidden, d_a);
    memcpy(d_branch, d_a, rows * hidden * sizeof *d_a);
    hidden_dropout(block, &pass.rows, PLACE_ATTENTION_OUTPUT, d_branch);
    project_backward(&pass, PROJECTION_ATTENTION_OUTPUT, activations->context, d_branch, gradient,
                     false, cotangents->d_context);
    attention_backward(&block->attention, microbatch, activations->query, activations->key,
                       activations->value, activations->probabilities, cotangents->d_context,
                       &scratch->attention, cotangents->d_query, cotangents->d_key,
                       cotangents->d_value);
    const float *x = activations->input;
    project_backward(&pass, PROJECTION_QUERY, activations->input_rows, cotangents->d_query,
                     gradient, true, d_input == NULL ? NULL : d_a);
    if (d_input != NULL)
        scatter_rows(&pass, d_a, d_input);
    project_backward(&pass, PROJECTION_KEY, x, cotangents->d_key, gradient, true, d_input);
    project_backward(&pass, PROJECTION_VALUE, x, cotangents->d_value, gradient, true, d_input);
}

void block_tangent(const struct block *block, const struct point *point, const float *direction,
                   const struct microbatch *microbatch, const struct block_activations *activations,
                   const float *t_input, struct block_tangents *tangents,
                   struct block_scratch *scratch, float *t_output) {
    const struct pass pass = pass_make(block, point, direction, microbatch, activations, scratch);
    const size_t rows = pass.rows.num_tokens, hidden = block->hidden_size;
    const float *x = activations->input;
    const float *t_rows = t_input == NULL ? NULL : gather_rows(&pass, t_input, scratch->hidden[2]);
    project_tangent(&pass, PROJECTION_QUERY, activations->input_rows, t_rows, tangents,
                    tangents->query);
    project_tangent(&pass, PROJECTION_KEY, x, t_input, tangents, tangents->key);
    project_tangent(&pass, PROJECTION_VALUE, x, t_input, tangents, tangents->value);
    float *t_context = scratch->hidden[0], *t_attended = scratch->hidden[1];
    attention_tangent(&block->attention, microbatch, activations->query, activations->key,
                      activations->value, activations->probabilities, tangents->query,
                      tangents->key, tangents->value, &scratch->attention, tangents->probabilities,
                      t_context);
    project_tangent(&pass, PROJECTION_ATTENTION_OUTPUT, activations->context, t_context, tangents,
                    t_attended);
    hidden_dropout(block, &pass.rows, PLACE_ATTENTION_OUTPUT, t_attended);
    if (t_input != NULL)
        vector_add(t_rows, rows * hidden, t_attended);
    layer_norm_tangent(t_attended, activations->attention_normalized,
                       activations->attention_deviation, block->attention_norm.weight, rows, hidden,
                       tangents->attention_normalized, tangents->attention_deviation, t_attended);

    project_tangent(&pass, PROJECTION_INTERMEDIATE, activations->attended, t_attended, tangents,
                    tangents->expanded);
    float *t_activated = scratch->activated_tangent;
    gelu_tangent(tangents->expanded, activations->expanded, rows * block->intermediate_size,
                 t_activated);
    const float *activated = activated_input(block, activations, rows, scratch->wide);
    project_tangent(&pass, PROJECTION_OUTPUT, activated, t_activated, tangents, t_output);
    hidden_dropout(block, &pass.rows, PLACE_OUTPUT, t_output);
    vector_add(t_attended, rows * hidden, t_output);
    layer_norm_tangent(t_output, activations->output_normalized, activations->output_deviation,
                       block->output_norm.weight, rows, hidden, tangents->output_normalized,
                       tangents->output_deviation, t_output);
}

/* The second half of the block: from t_d_output to the tangent of d_attended. */
static void backward_tangent_feed_forward(const struct pass *pass,
                                          const struct block_cotangents *cotangents,
                                          const struct block_tangents *tangents,
                                          const float *t_d_output, float *t_d_selection,
                                          float *t_d_attended) {
    const struct block *block = pass->block;
    const struct block_activations *activations = pass->activations;
    struct block_scratch *scratch = pass->scratch;
    const size_t rows = pass->rows.num_tokens, hidden = block->hidden_size;
    const size_t expanded = rows * block->intermediate_size;
    float *d_branch = scratch->hidden[0], *t_d_branch = scratch->hidden[1];
    layer_norm_backward(cotangents->d_output, activations->output_normalized,
                        activations->output_deviation, block->output_norm.weight, rows, hidden,
                        d_branch);
    hidden_dropout(block, &pass->rows, PLACE_OUTPUT, d_branch);
    layer_norm_backward_tangent(cotangents->d_output, t_d_output, activations->output_normalized,
                                tangents->output_normalized, activations->output_deviation,
                                tangents->output_deviation, block->output_norm.weight, rows, hidden,
                                t_d_attended);
    memcpy(t_d_branch, t_d_attended, rows * hidden * sizeof *t_d_branch);
    hidden_dropout(block, &pass->rows, PLACE_OUTPUT, t_d_branch);

    float *d_expanded = scratch->wide, *t_d_expanded = scratch->activated_tangent;
    project_backward_tangent(pass, PROJECTION_OUTPUT, tangents, d_branch, t_d_branch, t_d_selection,
                             false, t_d_expanded);
    gelu_backward_tangent(cotangents->d_activated, t_d_expanded, activations->expanded,
                          tangents->expanded, expanded, t_d_expanded);
    gelu_backward(cotangents->d_activated, activations->expanded, expanded, d_expanded);
    project_backward_tangent(pass, PROJECTION_INTERMEDIATE, tangents, d_expanded, t_d_expanded,
                             t_d_selection, true, t_d_attended);
}

void block_backward_tangent(const struct block *block, const struct point *point,
                            const float *direction, const struct microbatch *microbatch,
                            const struct block_activations *activations,
                            const struct block_cotangents *cotangents,
                            const struct block_tangents *tangents, struct block_scratch *scratch,
                            float *t_d_output, float *t_d_selection, float *t_d_input) {
    const struct pass pass = pass_make(block, point, direction, microbatch, activations, scratch);
    const size_t rows = pass.rows.num_tokens, hidden = block->hidden_size;
    float *t_d_a = scratch->hidden[2];
    backward_tangent_feed_forward(&pass, cotangents, tangents, t_d_output, t_d_selection, t_d_a);

    float *d_branch = scratch->hidden[0], *t_d_branch = scratch->hidden[1];
    layer_norm_backward(cotangents->d_attended, activations->attention_normalized,
                        activations->attention_deviation, block->attention_norm.weight, rows,
                        hidden, d_branch);
    hidden_dropout(block, &pass.rows, PLACE_ATTENTION_OUTPUT, d_branch);
    layer_norm_backward_tangent(cotangents->d_attended, t_d_a, activations->attention_normalized,
                                tangents->attention_normalized, activations->attention_deviation,
                                tangents->attention_deviation, block->attention_norm.weight, rows,
                                hidden, t_d_a);
    memcpy(t_d_branch, t_d_a, rows * hidden * sizeof *t_d_branch);
    hidden_dropout(block, &pass.rows, PLACE_ATTENTION_OUTPUT, t_d_branch);
    float *t_d_context = t_d_output; /* no longer needed */
    project_backward_tangent(&pass, PROJECTION_ATTENTION_OUTPUT, tangents, d_branch, t_d_branch,
                             t_d_selection, false, t_d_context);

    const struct attention_saved saved = {
        .query = activations->query,
        .key = activations->key,
        .value = activations->value,
        .probabilities = activations->probabilities,
        .t_query = tangents->query,
        .t_key = tangents->key,
        .t_value = tangents->value,
        .t_probabilities = tangents->probabilities,
        .d_context = cotangents->d_context,
    };
    float *t_d_query = scratch->hidden[0], *t_d_key = scratch->hidden[1];
    float *t_d_value = scratch->hidden[3];
    attention_backward_tangent(&block->attention, microbatch, &saved, t_d_context,
                               &scratch->attention, t_d_query, t_d_key, t_d_value);
    project_backward_tangent(&pass, PROJECTION_QUERY, tangents, cotangents->d_query, t_d_query,
                             t_d_selection, true, t_d_input == NULL ? NULL : t_d_a);
    if (t_d_input != NULL)
        scatter_rows(&pass, t_d_a, t_d_input);
    project_backward_tangent(&pass, PROJECTION_KEY, tangents, cotangents->d_key, t_d_key,
                             t_d_selection, true, t_d_input);
    project_backward_tangent(&pass, PROJECTION_VALUE, tangents, cotangents->d_value, t_d_value,
                             t_d_selection, true, t_d_input);
}
