/* The shape of a pretrained transformer, as its config.json states it. */
#ifndef AUTOLORA_MODEL_ARCHITECTURE_H
#define AUTOLORA_MODEL_ARCHITECTURE_H

#include <stddef.h>

/* The BERT family: post-layer-norm encoder, absolute positions, gelu. */
struct architecture {
    size_t vocabulary_size, hidden_size, num_blocks, num_attention_heads, intermediate_size;
    size_t max_positions, num_token_types;
    float layer_norm_epsilon;
    float hidden_dropout, attention_dropout; /* rates in training */
};

/* The projections of a block that an adapter can sit on, in the order in which modules are
 * numbered. */
enum projection {
    PROJECTION_QUERY,
    PROJECTION_KEY,
    PROJECTION_VALUE,
    PROJECTION_ATTENTION_OUTPUT,
    PROJECTION_INTERMEDIATE,
    PROJECTION_OUTPUT,
    NUM_PROJECTIONS
};

/* Name in input files: "query", "key", "value", "attention_output", "intermediate", "output". */
const char *projection_name(enum projection projection);
/* Path within a block in the checkpoint: "attention.self.query", ... */
const char *projection_path(enum projection projection);
/* Columns and rows of the projection's weight [out, in]. */
size_t projection_input_size(const struct architecture *architecture, enum projection projection);
size_t projection_output_size(const struct architecture *architecture, enum projection projection);

/* "bert.encoder.layer.3.attention.self.query"; free with memory_free. */
char *architecture_module_name(size_t block, enum projection projection);

#endif
