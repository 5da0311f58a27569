/* The embedding. */
#include "model/embedding.h"

#include "math/split_norm.h"

#include <string.h>

/* The features of x that are here. */
static struct share features_of(const struct embedding *embedding,
                                const struct architecture *architecture) {
    return embedding->grid != NULL ? embedding->hidden : share_whole(architecture->hidden_size);
}

/* x = words[id]. */
static void look_up_words(const struct embedding *embedding, size_t width,
                          const struct point *point, const struct microbatch *microbatch,
                          float *x) {
    const float *words = base_values(embedding->words, point);
    if (embedding->grid != NULL) {
        grid_look_up(embedding->grid, embedding->vocabulary, words, width, microbatch->token_ids,
                     microbatch->num_tokens, microbatch->most_tokens, x);
        return;
    }
    for (size_t i = 0; i < microbatch->num_tokens; ++i)
        memcpy(x + i * width, words + (size_t)microbatch->token_ids[i] * width, width * sizeof *x);
}

static void add_row(const float *row, size_t width, float *sum) {
#pragma omp simd
    for (size_t j = 0; j < width; ++j)
        sum[j] += row[j];
}

static void sum_tables(const struct embedding *embedding, size_t width, size_t first_position,
                       const struct point *point, const struct microbatch *microbatch, float *x) {
    const float *positions = base_values(embedding->positions, point);
    const float *types = base_values(embedding->types, point);
    look_up_words(embedding, width, point, microbatch, x);
    for (size_t s = 0; s < microbatch->num_sequences; ++s)
        for (size_t i = microbatch->offsets[s]; i < microbatch->offsets[s + 1]; ++i) {
            const size_t position = first_position + i - microbatch->offsets[s];
            add_row(positions + position * width, width, x + i * width);
            if (types != NULL)
                add_row(types + (size_t)microbatch->type_ids[i] * width, width, x + i * width);
        }
}

static void drop(const struct embedding *embedding, const struct architecture *architecture,
                 uint64_t seed, const struct microbatch *microbatch, float *x) {
    const struct share features = features_of(embedding, architecture);
    const struct dropout dropout = {
        .rate = microbatch->has_dropout ? architecture->embedding_dropout : 0,
        .seed = seed,
        .step = microbatch->step,
        .purpose = RANDOM_DROPOUT_HIDDEN,
        .identity = 0,
        .offsets = microbatch->offsets,
        .samples = microbatch->samples,
        .num_sequences = microbatch->num_sequences,
        .first_feature = features.first,
        .all_features = features.all,
    };
    dropout_apply(&dropout, features.count, x);
}

void embedding_forward(const struct embedding *embedding, const struct architecture *architecture,
                       uint64_t seed, const struct point *point,
                       const struct microbatch *microbatch,
                       const struct embedding_activations *activations, float *x) {
    const struct share features = features_of(embedding, architecture);
    sum_tables(embedding, features.count, architecture->first_position, point, microbatch, x);
    if (base_is_there(embedding->norm.weight))
        split_norm_forward(embedding->grid, features, x, base_values(embedding->norm.weight, point),
                           base_values(embedding->norm.bias, point),
                           architecture->layer_norm_epsilon, microbatch->num_tokens,
                           activations->normalized, activations->deviation, x);
    drop(embedding, architecture, seed, microbatch, x);
}

static float *cleared_gradient(struct base_tensor table, const struct gradient *gradient,
                               size_t rows, size_t width) {
    float *d_table = base_gradient(table, gradient);
    memset(d_table, 0, rows * width * sizeof *d_table);
    return d_table;
}

/* The transpose of sum_tables; rows are added token by token. */
static void add_to_tables(const struct embedding *embedding,
                          const struct architecture *architecture,
                          const struct microbatch *microbatch, const struct gradient *gradient,
                          const float *d_x) {
    const size_t width = architecture->hidden_size, types = architecture->num_token_types;
    float *d_words =
        cleared_gradient(embedding->words, gradient, architecture->vocabulary_size, width);
    float *d_positions =
        cleared_gradient(embedding->positions, gradient, architecture->max_positions, width);
    float *d_types = types > 0 ? cleared_gradient(embedding->types, gradient, types, width) : NULL;
    for (size_t s = 0; s < microbatch->num_sequences; ++s)
        for (size_t i = microbatch->offsets[s]; i < microbatch->offsets[s + 1]; ++i) {
            const size_t position = architecture->first_position + i - microbatch->offsets[s];
            add_row(d_x + i * width, width, d_words + (size_t)microbatch->token_ids[i] * width);
            add_row(d_x + i * width, width, d_positions + position * width);
            if (d_types != NULL)
                add_row(d_x + i * width, width, d_types + (size_t)microbatch->type_ids[i] * width);
        }
}

void embedding_backward(const struct embedding *embedding, const struct architecture *architecture,
                        uint64_t seed, const struct point *point,
                        const struct microbatch *microbatch,
                        const struct embedding_activations *activations,
                        const struct gradient *gradient, float *d_x) {
    const struct layer_norm *norm = &embedding->norm;
    const size_t width = architecture->hidden_size, tokens = microbatch->num_tokens;
    drop(embedding, architecture, seed, microbatch, d_x);
    if (base_is_there(norm->weight)) {
        layer_norm_gradient(d_x, activations->normalized, tokens, width,
                            base_gradient(norm->weight, gradient),
                            base_gradient(norm->bias, gradient));
        layer_norm_backward(d_x, activations->normalized, activations->deviation,
                            base_values(norm->weight, point), tokens, width, d_x);
    }
    add_to_tables(embedding, architecture, microbatch, gradient, d_x);
}
