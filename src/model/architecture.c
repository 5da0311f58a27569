/* Names and sizes of the model families: one row each. */
#include "model/architecture.h"

#include "base/memory.h"

static const char *const PROJECTION_NAMES[NUM_PROJECTIONS] = {
    [PROJECTION_QUERY] = "query",
    [PROJECTION_KEY] = "key",
    [PROJECTION_VALUE] = "value",
    [PROJECTION_ATTENTION_OUTPUT] = "attention_output",
    [PROJECTION_INTERMEDIATE] = "intermediate",
    [PROJECTION_OUTPUT] = "output",
};

#define ENCODER_PATHS                                                                              \
    {                                                                                              \
        [PROJECTION_QUERY] = "attention.self.query", [PROJECTION_KEY] = "attention.self.key",      \
        [PROJECTION_VALUE] = "attention.self.value",                                               \
        [PROJECTION_ATTENTION_OUTPUT] = "attention.output.dense",                                  \
        [PROJECTION_INTERMEDIATE] = "intermediate.dense", [PROJECTION_OUTPUT] = "output.dense",    \
    }

static const struct family {
    const char *name, *prefix, *blocks;
    const char *projections[NUM_PROJECTIONS], *norms[NUM_HALVES];
    bool is_fused; /* query, key and value are stored as one, called as the query without suffix */
    bool is_transposed, is_pre_norm, is_causal;
} FAMILIES[NUM_FAMILIES] = {
    [FAMILY_BERT] = {"bert",
                     "bert.",
                     "encoder.layer",
                     ENCODER_PATHS,
                     {"attention.output.LayerNorm", "output.LayerNorm"}},
    [FAMILY_ROBERTA] = {"roberta",
                        "roberta.",
                        "encoder.layer",
                        ENCODER_PATHS,
                        {"attention.output.LayerNorm", "output.LayerNorm"}},
    [FAMILY_GPT2] = {"gpt2",
                     "transformer.",
                     "h",
                     {
                         [PROJECTION_QUERY] = "attn.c_attn.query",
                         [PROJECTION_KEY] = "attn.c_attn.key",
                         [PROJECTION_VALUE] = "attn.c_attn.value",
                         [PROJECTION_ATTENTION_OUTPUT] = "attn.c_proj",
                         [PROJECTION_INTERMEDIATE] = "mlp.c_fc",
                         [PROJECTION_OUTPUT] = "mlp.c_proj",
                     },
                     {"ln_1", "ln_2"},
                     .is_fused = true,
                     .is_transposed = true,
                     .is_pre_norm = true,
                     .is_causal = true},
};

static const char FUSED_PATH[] = "attn.c_attn";

static const struct family *family_of(const struct architecture *architecture) {
    return &FAMILIES[architecture->family];
}

bool architecture_is_pre_norm(const struct architecture *architecture) {
    return family_of(architecture)->is_pre_norm;
}

bool architecture_is_causal(const struct architecture *architecture) {
    return family_of(architecture)->is_causal;
}

size_t architecture_longest(const struct architecture *architecture) {
    return architecture->max_positions - architecture->first_position;
}

const char *projection_name(enum projection projection) {
    return PROJECTION_NAMES[projection];
}

size_t projection_input_size(const struct architecture *architecture, enum projection projection) {
    return projection == PROJECTION_OUTPUT ? architecture->intermediate_size
                                           : architecture->hidden_size;
}

size_t projection_output_size(const struct architecture *architecture, enum projection projection) {
    return projection == PROJECTION_INTERMEDIATE ? architecture->intermediate_size
                                                 : architecture->hidden_size;
}

static char *name_in_block(const struct architecture *architecture, size_t block,
                           const char *path) {
    const struct family *family = family_of(architecture);
    return memory_format("%s%s.%zu.%s", family->prefix, family->blocks, block, path);
}

const char *architecture_projection_path(const struct architecture *architecture,
                                         enum projection projection) {
    return family_of(architecture)->projections[projection];
}

char *architecture_module_name(const struct architecture *architecture, size_t block,
                               enum projection projection) {
    return name_in_block(architecture, block,
                         architecture_projection_path(architecture, projection));
}

char *architecture_norm_name(const struct architecture *architecture, size_t block,
                             enum block_half half) {
    return name_in_block(architecture, block, family_of(architecture)->norms[half]);
}

const char *model_family_name(enum model_family family) {
    return FAMILIES[family].name;
}

const char *model_family_prefix(enum model_family family) {
    return FAMILIES[family].prefix;
}

struct projection_storage architecture_storage(const struct architecture *architecture,
                                               size_t block, enum projection projection) {
    const struct family *family = family_of(architecture);
    const bool is_fused = family->is_fused && projection <= PROJECTION_VALUE;
    const size_t in = projection_input_size(architecture, projection);
    const size_t out = projection_output_size(architecture, projection);
    const size_t outputs = is_fused ? 3 * out : out;
    return (struct projection_storage){
        .module = is_fused ? name_in_block(architecture, block, FUSED_PATH)
                           : architecture_module_name(architecture, block, projection),
        .rows = family->is_transposed ? in : outputs,
        .columns = family->is_transposed ? outputs : in,
        .is_transposed = family->is_transposed,
        .first_output = is_fused ? (size_t)projection * out : 0,
        .outputs = outputs,
    };
}
