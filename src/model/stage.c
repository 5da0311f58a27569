/* A stage: construction. Its pretrained tensors are in stage_weights.c, the passes in
 * stage_passes.c. Trained tensors are added part by part of the model, so that their order does not
 * depend on how it is split into stages. */
#include "model/stage.h"

#include "base/memory.h"
#include "base/report.h"
#include "model/stage_weights.h"

#include <math.h>

/* Identities of trained tensors for their random starts. */
enum {
    IDENTITY_HEAD_WEIGHT = 1,
    IDENTITY_HEAD_BIAS = 2,
    IDENTITY_HEAD_DENSE_WEIGHT = 3,
    IDENTITY_HEAD_DENSE_BIAS = 4,
    IDENTITY_FIRST_ADAPTER = 16
};

size_t adapter_targets_per_block(const struct adapter_options *adapters) {
    size_t count = 0;
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        count += adapters->is_target[p];
    return count;
}

static void add_adapter(struct stage *stage, size_t block, enum projection projection,
                        size_t module, struct linear *linear) {
    const struct adapter_options *adapters = &stage->options.adapters;
    struct adapter *adapter = &linear->adapter;
    adapter->rank = adapters->ranks[module];
    adapter->scale = adapters->scales[module];
    adapter->dropout = adapters->dropout;
    adapter->module = module;
    adapter->selection_offset = (module - stage->first_module) * adapters->num_components;
    if (adapter->rank == 0)
        return;
    FAULT_UNLESS(adapters->num_components == 0 || adapters->num_components == adapter->rank,
                 "module %zu has %zu components and %zu selection variables", module, adapter->rank,
                 adapters->num_components);
    char *name = architecture_module_name(&stage->options.architecture, block, projection);
    const bool is_svd = adapter->has_singular_values = adapters->has_singular_values;
    adapter->a_offset = parameter_table_add(
        &stage->factors, memory_format("%s.lora_A", name), adapter->rank, linear->input_size,
        is_svd ? INITIALIZE_NORMAL : INITIALIZE_KAIMING, true, IDENTITY_FIRST_ADAPTER + 2 * module);
    adapter->b_offset =
        parameter_table_add(&stage->factors, memory_format("%s.lora_B", name), adapter->rank,
                            linear->output_size, is_svd ? INITIALIZE_NORMAL : INITIALIZE_ZERO, true,
                            IDENTITY_FIRST_ADAPTER + 2 * module + 1);
    if (is_svd) /* zeros: no random numbers, so any identity will do */
        adapter->singular_offset =
            parameter_table_add(&stage->factors, memory_format("%s.lora_E", name), adapter->rank, 1,
                                INITIALIZE_ZERO, true, 0);
    memory_free(name);
    if (adapter->rank > stage->largest_rank)
        stage->largest_rank = adapter->rank;
}

static size_t add_bottleneck_tensor(struct stage *stage, const char *module, const char *part,
                                    size_t rows, size_t columns, bool is_bias) {
    char *name = memory_format("%s.adapter.%s", module, part);
    const size_t offset = parameter_table_add(&stage->factors, name, rows, columns,
                                              is_bias ? INITIALIZE_ZERO : INITIALIZE_NORMAL,
                                              !is_bias, parameter_identity(name));
    stage->factors.entries[stage->factors.count - 1].deviation = 0.01f; /* near the identity */
    return offset;
}

static struct bottleneck add_bottleneck(struct stage *stage, size_t block, int half) {
    const struct architecture *architecture = &stage->options.architecture;
    const size_t size = stage->options.adapters.bottleneck, width = architecture->hidden_size;
    char *module = architecture_module_name(architecture, block,
                                            half == HALF_ATTENTION ? PROJECTION_ATTENTION_OUTPUT
                                                                   : PROJECTION_OUTPUT);
    const struct bottleneck bottleneck = {
        .size = size,
        .hidden_size = width,
        .down_weight_offset =
            add_bottleneck_tensor(stage, module, "down.weight", size, width, false),
        .down_bias_offset = add_bottleneck_tensor(stage, module, "down.bias", 1, size, true),
        .up_weight_offset = add_bottleneck_tensor(stage, module, "up.weight", width, size, false),
        .up_bias_offset = add_bottleneck_tensor(stage, module, "up.bias", 1, width, true),
    };
    memory_free(module);
    if (size > stage->largest_rank)
        stage->largest_rank = size;
    return bottleneck;
}

static struct attention attention_of(const struct stage *stage, size_t index) {
    const struct stage_options *options = &stage->options;
    const struct architecture *architecture = &options->architecture;
    const size_t head_size = architecture->hidden_size / architecture->num_attention_heads;
    const float divisor = sqrtf((float)head_size) *
                          (architecture->scales_attention_by_block ? (float)index + 1.0f : 1.0f);
    return (struct attention){
        .num_heads = stage->heads.count,
        .first_head = stage->heads.first,
        .head_size = head_size,
        .dropout = architecture->attention_dropout,
        .seed = options->seed,
        .block = index,
        .first_rows_only = index + 1 == architecture->num_blocks && stage_keeps_first_rows(options),
        .is_causal = architecture_is_causal(architecture),
        .scale = 1.0f / divisor,
    };
}

/* On a grid: the piece of W that is here. What is wider than the hidden features stays, so that
 * they are what travels. */
static struct dealt_weight deal(const struct stage *stage, enum projection projection) {
    const struct grid *grid = stage->options.grid;
    if (grid == NULL)
        return (struct dealt_weight){0};
    const bool is_down = projection == PROJECTION_OUTPUT;
    return dealt_weight_of(
        grid, is_down ? stage->intermediate : stage->hidden,
        projection == PROJECTION_INTERMEDIATE ? stage->intermediate : stage->hidden, !is_down);
}

static void create_block(struct stage *stage, struct block *block, size_t index) {
    const struct stage_options *options = &stage->options;
    const struct architecture *architecture = &options->architecture;
    *block = (struct block){
        .index = index,
        .hidden_size = stage->hidden.count,
        .intermediate_size = stage->intermediate.count,
        .grid = options->grid,
        .hidden = stage->hidden,
        .is_pre_norm = architecture_is_pre_norm(architecture),
        .activation = architecture->activation,
        .layer_norm_epsilon = architecture->layer_norm_epsilon,
        .hidden_dropout = architecture->hidden_dropout,
        .seed = options->seed,
        .attention = attention_of(stage, index),
    };
    size_t module = index * adapter_targets_per_block(&options->adapters);
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        struct linear *linear = &block->projections[p];
        linear->input_size = projection_input_size(architecture, (enum projection)p);
        linear->output_size = projection_output_size(architecture, (enum projection)p);
        const struct projection_storage storage =
            architecture_storage(architecture, index, (enum projection)p);
        linear->output_stride = storage.is_transposed ? 1 : storage.columns;
        linear->input_stride = storage.is_transposed ? storage.columns : 1;
        linear->dealt = deal(stage, (enum projection)p);
        memory_free(storage.module);
        if (options->adapters.is_target[p])
            add_adapter(stage, index, (enum projection)p, module++, linear);
    }
    for (int h = 0; h < NUM_HALVES && options->adapters.bottleneck > 0; ++h)
        block->bottlenecks[h] = add_bottleneck(stage, index, h);
    stage_train_block(stage, block);
}

static size_t add_head_tensor(struct stage *stage, const char *name, size_t rows, size_t columns,
                              bool is_bias, uint64_t identity) {
    return parameter_table_add(&stage->factors, memory_copy_string(name), rows, columns,
                               is_bias ? INITIALIZE_ZERO : INITIALIZE_NORMAL, !is_bias, identity);
}

static struct base_tensor head_tensor(struct stage *stage, const char *name, size_t rows,
                                      size_t columns, bool is_bias, uint64_t identity) {
    return (struct base_tensor){.is_trained = true,
                                .offset =
                                    add_head_tensor(stage, name, rows, columns, is_bias, identity)};
}

static void create_task_head(struct stage *stage) {
    const struct stage_options *options = &stage->options;
    const struct architecture *architecture = &options->architecture;
    const size_t width = architecture->hidden_size, labels = options->num_labels;
    const bool is_lm = options->head_kind == HEAD_LANGUAGE_MODELING;
    struct task_head *head = &stage->task_head;
    stage->head_offset = stage->factors.size;
    *head = (struct task_head){
        .kind = options->head_kind,
        .is_regression = options->is_regression,
        .label_smoothing = options->label_smoothing,
        .hidden_size = width,
        .num_labels = is_lm ? architecture->vocabulary_size : labels,
        .has_new_dense = options->head_kind == HEAD_SEQUENCE_CLASSIFICATION &&
                         architecture->family == FAMILY_ROBERTA,
        .dropout = architecture->classifier_dropout,
        .seed = options->seed,
        .layer_norm_epsilon = architecture->layer_norm_epsilon,
    };
    stage_train_head(stage);
    if (is_lm)
        return;
    const bool is_inner = head->has_new_dense;
    if (is_inner) {
        head->dense_weight = head_tensor(stage, "classifier.dense.weight", width, width, false,
                                         IDENTITY_HEAD_DENSE_WEIGHT);
        head->dense_bias =
            head_tensor(stage, "classifier.dense.bias", 1, width, true, IDENTITY_HEAD_DENSE_BIAS);
    }
    head->weight_offset =
        add_head_tensor(stage, is_inner ? "classifier.out_proj.weight" : "classifier.weight",
                        labels, width, false, IDENTITY_HEAD_WEIGHT);
    head->bias_offset =
        add_head_tensor(stage, is_inner ? "classifier.out_proj.bias" : "classifier.bias", 1, labels,
                        true, IDENTITY_HEAD_BIAS);
}

bool stage_check_grid(const struct architecture *architecture, size_t rows, size_t columns,
                      struct problem *problem) {
    const size_t heads = architecture->num_attention_heads;
    const struct share last = share_of(heads, 1, columns - 1, columns);
    if (rows > 1 || columns > 1)
        return last.count > 0 ||
               problem_set(
                   problem, EXIT_USAGE,
                   "parallel.grid is [%zu, %zu], but %zu attention heads on %zu columns, %zu "
                   "each, leave a column without: take %zu columns",
                   rows, columns, heads, columns, last.block,
                   (heads + last.block - 1) / last.block);
    return true;
}

/* What of the model is here. The feed-forward features have no heads. */
static void take_shares(struct stage *stage) {
    const struct architecture *architecture = &stage->options.architecture;
    const struct grid *grid = stage->options.grid;
    const size_t heads = architecture->num_attention_heads;
    const size_t column = grid == NULL ? 0 : grid->column,
                 columns = grid == NULL ? 1 : grid->columns;
    FAULT_UNLESS(grid == NULL ||
                     (!stage->options.trains_all && stage->options.adapters.bottleneck == 0),
                 "frozen weights are spread over a grid, others are not");
    stage->heads = share_of(heads, 1, column, columns);
    stage->hidden = share_of(heads, architecture->hidden_size / heads, column, columns);
    stage->intermediate = share_of(architecture->intermediate_size, 1, column, columns);
    stage->words = share_of(architecture->vocabulary_size, 1, grid == NULL ? 0 : grid->row,
                            grid == NULL ? 1 : grid->rows);
    stage->embedding.grid = grid;
    stage->embedding.hidden = stage->hidden;
    stage->embedding.vocabulary = stage->words;
}

struct stage *stage_create(const struct stage_options *options) {
    struct stage *stage = memory_allocate(1, sizeof *stage, "a stage");
    stage->options = *options;
    take_shares(stage);
    const size_t targets = adapter_targets_per_block(&options->adapters);
    stage->num_modules = options->num_blocks * targets;
    stage->first_module = options->first_block * targets;
    stage->selection_size = stage->num_modules * options->adapters.num_components;
    stage->blocks = memory_allocate(options->num_blocks, sizeof *stage->blocks, "blocks");
    if (options->has_embedding)
        stage_train_embedding(stage);
    for (size_t i = 0; i < options->num_blocks; ++i)
        create_block(stage, &stage->blocks[i], options->first_block + i);
    if (options->has_task_head)
        create_task_head(stage);
    if (options->trains_all && options->head_kind == HEAD_LANGUAGE_MODELING &&
        options->architecture.is_head_tied)
        stage->tied_size =
            options->architecture.vocabulary_size * options->architecture.hidden_size;
    return stage;
}

void stage_destroy(struct stage **stage) {
    if (*stage == NULL)
        return;
    parameter_table_free(&(*stage)->factors);
    for (size_t i = 0; i < (*stage)->num_pieces; ++i)
        memory_free((*stage)->pieces[i]);
    memory_free((*stage)->pieces);
    memory_free((*stage)->blocks);
    memory_free(*stage);
    *stage = NULL;
}
