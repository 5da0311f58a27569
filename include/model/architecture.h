/* The shape of a pretrained transformer, as its config.json states it, and the names that its
 * checkpoints use. */
#ifndef AUTOLORA_MODEL_ARCHITECTURE_H
#define AUTOLORA_MODEL_ARCHITECTURE_H

#include "math/activation.h"

#include <stdbool.h>
#include <stddef.h>

enum model_family {
    FAMILY_BERT,    /* encoder, layer norm behind each half of a block, token types, pooler */
    FAMILY_ROBERTA, /* the same with positions that count from first_position, its own head */
    FAMILY_GPT2,    /* causal decoder, layer norm before each half of a block and at the end */
    NUM_FAMILIES
};

struct architecture {
    enum model_family family;
    size_t vocabulary_size, hidden_size, num_blocks, num_attention_heads, intermediate_size;
    size_t max_positions, first_position; /* rows of the position table; row of the first token */
    size_t num_token_types;               /* 0: no table of them */
    enum activation activation;
    bool is_head_tied;              /* the language modelling head is the word embedding */
    bool scales_attention_by_block; /* also by 1 / (block + 1) */
    float layer_norm_epsilon;
    /* rates in training: embedding, each half's output, attention probabilities, head */
    float embedding_dropout, hidden_dropout, attention_dropout, classifier_dropout;
};

/* GPT-2's blocks: y = x + f(norm(x)) instead of y = norm(x + f(x)), and no look ahead. */
bool architecture_is_pre_norm(const struct architecture *architecture);
bool architecture_is_causal(const struct architecture *architecture);
/* Tokens of the longest sequence. */
size_t architecture_longest(const struct architecture *architecture);

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
/* Columns and rows of the projection's weight [out, in]. */
size_t projection_input_size(const struct architecture *architecture, enum projection projection);
size_t projection_output_size(const struct architecture *architecture, enum projection projection);

/* A module's name in the checkpoint: "bert.encoder.layer.3.attention.self.query"; a part of GPT-2's
 * fused projection has a suffix: "transformer.h.3.attn.c_attn.query". Free with memory_free. */
char *architecture_module_name(const struct architecture *architecture, size_t block,
                               enum projection projection);
/* The module's path within its block: "attention.self.query". */
const char *architecture_projection_path(const struct architecture *architecture,
                                         enum projection projection);

/* "bert", "roberta", "gpt2": config.json's model_type. */
const char *model_family_name(enum model_family family);
/* What tensor names begin with: "bert.", "roberta.", "transformer.". */
const char *model_family_prefix(enum model_family family);

/* Where a projection's frozen weight and bias are. */
struct projection_storage {
    char *module;                 /* the tensor's name without ".weight"; free with memory_free */
    size_t rows, columns;         /* the stored weight's shape */
    bool is_transposed;           /* stored [in, out] (Conv1D) */
    size_t first_output, outputs; /* first of this projection's outputs among all `outputs` there */
};
struct projection_storage architecture_storage(const struct architecture *architecture,
                                               size_t block, enum projection projection);

/* The layer norms of a block, by the half that they belong to. */
enum block_half { HALF_ATTENTION, HALF_FEED_FORWARD, NUM_HALVES };
/* "bert.encoder.layer.3.output.LayerNorm"; free with memory_free. */
char *architecture_norm_name(const struct architecture *architecture, size_t block,
                             enum block_half half);

#endif
