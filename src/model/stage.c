/* A stage: construction, and the table of its frozen tensors. The passes are in stage_passes.c. */
#include "model/stage.h"

#include "base/memory.h"
#include "base/report.h"

/* Identities of trained tensors for their random starts. */
enum { IDENTITY_HEAD_WEIGHT = 1, IDENTITY_HEAD_BIAS = 2, IDENTITY_FIRST_ADAPTER = 16 };

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
    char *name = architecture_module_name(block, projection);
    adapter->a_offset = parameter_table_add(&stage->factors, memory_format("%s.lora_A", name),
                                            adapter->rank, linear->input_size, INITIALIZE_KAIMING,
                                            true, IDENTITY_FIRST_ADAPTER + 2 * module);
    adapter->b_offset = parameter_table_add(&stage->factors, memory_format("%s.lora_B", name),
                                            adapter->rank, linear->output_size, INITIALIZE_ZERO,
                                            true, IDENTITY_FIRST_ADAPTER + 2 * module + 1);
    memory_free(name);
    if (adapter->rank > stage->largest_rank)
        stage->largest_rank = adapter->rank;
}

static void create_block(struct stage *stage, struct block *block, size_t index) {
    const struct stage_options *options = &stage->options;
    const struct architecture *architecture = &options->architecture;
    *block = (struct block){
        .index = index,
        .hidden_size = architecture->hidden_size,
        .intermediate_size = architecture->intermediate_size,
        .layer_norm_epsilon = architecture->layer_norm_epsilon,
        .hidden_dropout = architecture->hidden_dropout,
        .seed = options->seed,
        .attention =
            {
                .num_heads = architecture->num_attention_heads,
                .head_size = architecture->hidden_size / architecture->num_attention_heads,
                .dropout = architecture->attention_dropout,
                .seed = options->seed,
                .block = index,
                .first_rows_only = index + 1 == architecture->num_blocks &&
                                   options->head_kind == HEAD_SEQUENCE_CLASSIFICATION,
            },
    };
    size_t module = index * adapter_targets_per_block(&options->adapters);
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        struct linear *linear = &block->projections[p];
        linear->input_size = projection_input_size(architecture, (enum projection)p);
        linear->output_size = projection_output_size(architecture, (enum projection)p);
        if (options->adapters.is_target[p])
            add_adapter(stage, index, (enum projection)p, module++, linear);
    }
}

static void create_task_head(struct stage *stage) {
    const struct stage_options *options = &stage->options;
    const size_t width = options->architecture.hidden_size, labels = options->num_labels;
    stage->task_head = (struct task_head){
        .kind = options->head_kind,
        .label_smoothing = options->label_smoothing,
        .hidden_size = width,
        .num_labels = labels,
        .dropout = options->architecture.hidden_dropout,
        .seed = options->seed,
        .weight_offset =
            parameter_table_add(&stage->factors, memory_copy_string("classifier.weight"), labels,
                                width, INITIALIZE_NORMAL, true, IDENTITY_HEAD_WEIGHT),
    };
    stage->task_head.bias_offset =
        parameter_table_add(&stage->factors, memory_copy_string("classifier.bias"), 1, labels,
                            INITIALIZE_ZERO, false, IDENTITY_HEAD_BIAS);
}

struct stage *stage_create(const struct stage_options *options) {
    struct stage *stage = memory_allocate(1, sizeof *stage, "a stage");
    stage->options = *options;
    const size_t targets = adapter_targets_per_block(&options->adapters);
    stage->num_modules = options->num_blocks * targets;
    stage->first_module = options->first_block * targets;
    stage->selection_size = stage->num_modules * options->adapters.num_components;
    stage->blocks = memory_allocate(options->num_blocks, sizeof *stage->blocks, "blocks");
    for (size_t i = 0; i < options->num_blocks; ++i)
        create_block(stage, &stage->blocks[i], options->first_block + i);
    if (options->has_task_head)
        create_task_head(stage);
    return stage;
}

void stage_destroy(struct stage **stage) {
    if (*stage == NULL)
        return;
    parameter_table_free(&(*stage)->factors);
    memory_free((*stage)->blocks);
    memory_free(*stage);
    *stage = NULL;
}

struct weight_list {
    struct stage_weight *weights;
    size_t count;
};

static void list_weight(struct weight_list *list, char *name, size_t rows, size_t columns,
                        const float **place) {
    list->weights = memory_resize(list->weights, list->count + 1, sizeof *list->weights,
                                  "the table of frozen tensors");
    list->weights[list->count++] = (struct stage_weight){name, rows, columns, place};
}

static void list_pair(struct weight_list *list, char *module, size_t rows, size_t columns,
                      const float **weight, const float **bias) {
    list_weight(list, memory_format("%s.weight", module), rows, columns, weight);
    list_weight(list, memory_format("%s.bias", module), rows, 1, bias);
    memory_free(module);
}

static void list_block(struct weight_list *list, const struct architecture *architecture,
                       struct block *block) {
    const size_t width = architecture->hidden_size;
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        struct linear *linear = &block->projections[p];
        list_pair(list, architecture_module_name(block->index, (enum projection)p),
                  linear->output_size, linear->input_size, &linear->weight, &linear->bias);
    }
    list_pair(list,
              memory_format("bert.encoder.layer.%zu.attention.output.LayerNorm", block->index),
              width, 1, &block->attention_norm.weight, &block->attention_norm.bias);
    list_pair(list, memory_format("bert.encoder.layer.%zu.output.LayerNorm", block->index), width,
              1, &block->output_norm.weight, &block->output_norm.bias);
}

struct stage_weight *stage_weights(struct stage *stage, size_t *count) {
    const struct architecture *architecture = &stage->options.architecture;
    const size_t width = architecture->hidden_size;
    struct weight_list list = {0};
    if (stage->options.has_embedding) {
        struct embedding *embedding = &stage->embedding;
        list_weight(&list, memory_copy_string("bert.embeddings.word_embeddings.weight"),
                    architecture->vocabulary_size, width, &embedding->words);
        list_weight(&list, memory_copy_string("bert.embeddings.position_embeddings.weight"),
                    architecture->max_positions, width, &embedding->positions);
        list_weight(&list, memory_copy_string("bert.embeddings.token_type_embeddings.weight"),
                    architecture->num_token_types, width, &embedding->types);
        list_pair(&list, memory_copy_string("bert.embeddings.LayerNorm"), width, 1,
                  &embedding->norm.weight, &embedding->norm.bias);
    }
    for (size_t i = 0; i < stage->options.num_blocks; ++i)
        list_block(&list, architecture, &stage->blocks[i]);
    if (stage->options.has_task_head && stage->task_head.kind == HEAD_SEQUENCE_CLASSIFICATION)
        list_pair(&list, memory_copy_string("bert.pooler.dense"), width, width,
                  &stage->task_head.pooler_weight, &stage->task_head.pooler_bias);
    *count = list.count;
    return list.weights;
}

void stage_weights_free(struct stage_weight *weights, size_t count) {
    for (size_t i = 0; i < count; ++i)
        memory_free(weights[i].name);
    memory_free(weights);
}
