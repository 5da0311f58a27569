/* The embedding. */
#include "model/embedding.h"

static void sum_tables(const struct embedding *embedding, size_t width, size_t first_position,
                       const struct microbatch *microbatch, float *x) {
    for (size_t s = 0; s < microbatch->num_sequences; ++s) {
        for (size_t i = microbatch->offsets[s]; i < microbatch->offsets[s + 1]; ++i) {
            const float *word = embedding->words + (size_t)microbatch->token_ids[i] * width;
            const float *position =
                embedding->positions + (first_position + i - microbatch->offsets[s]) * width;
#pragma omp simd
            for (size_t j = 0; j < width; ++j)
                x[i * width + j] = word[j] + position[j];
            if (embedding->types == NULL)
                continue;
            const float *type = embedding->types + (size_t)microbatch->type_ids[i] * width;
#pragma omp simd
            for (size_t j = 0; j < width; ++j)
                x[i * width + j] += type[j];
        }
    }
}

void embedding_forward(const struct embedding *embedding, const struct architecture *architecture,
                       uint64_t seed, const struct microbatch *microbatch,
                       struct block_scratch *scratch, float *x) {
    const size_t width = architecture->hidden_size;
    sum_tables(embedding, width, architecture->first_position, microbatch, x);
    if (embedding->norm.weight != NULL)
        layer_norm_forward(x, embedding->norm.weight, embedding->norm.bias,
                           architecture->layer_norm_epsilon, microbatch->num_tokens, width,
                           scratch->hidden[0], scratch->hidden[1], x);
    const struct dropout dropout = {
        .rate = microbatch->has_dropout ? architecture->embedding_dropout : 0,
        .seed = seed,
        .step = microbatch->step,
        .purpose = RANDOM_DROPOUT_HIDDEN,
        .identity = 0,
        .offsets = microbatch->offsets,
        .samples = microbatch->samples,
        .num_sequences = microbatch->num_sequences,
    };
    dropout_apply(&dropout, width, x);
}
