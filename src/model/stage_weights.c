/* The pretrained tensors of a stage: their names, shapes and places, and which are trained. */
#include "model/stage_weights.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

struct weight_list {
    struct stage *stage;
    const struct architecture *architecture;
    struct stage_weight *weights;
    size_t count;
};

static void list_weight(struct weight_list *list, char *name, size_t rows, size_t columns,
                        size_t offset, enum initialization initialization,
                        struct base_tensor *place) {
    list->weights = memory_resize(list->weights, list->count + 1, sizeof *list->weights,
                                  "the table of frozen tensors");
    list->weights[list->count++] = (struct stage_weight){.name = name,
                                                         .rows = rows,
                                                         .columns = columns,
                                                         .offset = offset,
                                                         .place = place,
                                                         .stage = list->stage,
                                                         .piece_rows = share_whole(rows),
                                                         .piece_columns = share_whole(columns),
                                                         .row_stride = columns,
                                                         .column_stride = 1,
                                                         .initialization = initialization,
                                                         .deviation = 0.02f};
}

/* Of the tensor listed last only these elements are here. */
static void keep_piece(struct weight_list *list, struct share rows, struct share columns,
                       size_t row_stride, size_t column_stride) {
    struct stage_weight *weight = &list->weights[list->count - 1];
    weight->piece_rows = rows;
    weight->piece_columns = columns;
    weight->row_stride = row_stride;
    weight->column_stride = column_stride;
}

static void keep_columns(struct weight_list *list, struct share columns) {
    keep_piece(list, share_whole(1), columns, 0, 1);
}

/* A tensor outside the blocks, by its name behind the family's prefix. */
static void list_table(struct weight_list *list, const char *name, size_t rows,
                       struct base_tensor *place) {
    const char *prefix = model_family_prefix(list->architecture->family);
    list_weight(list, memory_format("%s%s.weight", prefix, name), rows,
                list->architecture->hidden_size, 0, INITIALIZE_NORMAL, place);
}

/* A table of which the columns `hidden` and these rows are here. */
static void keep_table(struct weight_list *list, struct share rows) {
    const struct share hidden = list->stage->hidden;
    keep_piece(list, rows, hidden, hidden.all, 1);
}

/* Takes ownership of module. */
static void list_norm(struct weight_list *list, char *module, struct layer_norm *norm,
                      struct share features) {
    const size_t width = list->architecture->hidden_size;
    list_weight(list, memory_format("%s.weight", module), width, 1, 0, INITIALIZE_ONE,
                &norm->weight);
    keep_columns(list, features);
    list_weight(list, memory_format("%s.bias", module), width, 1, 0, INITIALIZE_ZERO, &norm->bias);
    keep_columns(list, features);
    memory_free(module);
}

static char *outer_name(const struct weight_list *list, const char *name) {
    return memory_format("%s%s", model_family_prefix(list->architecture->family), name);
}

/* GPT-2: what is added to the stream of the residuals adds up to the usual deviation. */
static float residual_deviation(const struct architecture *architecture) {
    return 0.02f / sqrtf(2.0f * (float)architecture->num_blocks);
}

/* The piece of W, or of its transpose, that is here, and of the bias. */
static void keep_dealt(struct weight_list *list, const struct linear *linear, bool is_bias) {
    const struct dealt_weight *dealt = &linear->dealt;
    if (dealt->grid == NULL)
        return;
    if (is_bias)
        keep_columns(list, dealt->outputs);
    else if (dealt->splits_outputs)
        keep_piece(list, dealt->rows, dealt->columns, linear->input_stride, linear->output_stride);
    else
        keep_piece(list, dealt->rows, dealt->columns, linear->output_stride, linear->input_stride);
}

static void list_projections(struct weight_list *list, struct block *block) {
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        struct linear *linear = &block->projections[p];
        const struct projection_storage storage =
            architecture_storage(list->architecture, block->index, (enum projection)p);
        const size_t first = storage.first_output;
        list_weight(list, memory_format("%s.weight", storage.module), storage.rows, storage.columns,
                    first * linear->output_stride, INITIALIZE_NORMAL, &linear->weight);
        keep_dealt(list, linear, false);
        if (list->architecture->family == FAMILY_GPT2 &&
            (p == PROJECTION_ATTENTION_OUTPUT || p == PROJECTION_OUTPUT))
            list->weights[list->count - 1].deviation = residual_deviation(list->architecture);
        list_weight(list, memory_format("%s.bias", storage.module), storage.outputs, 1, first,
                    INITIALIZE_ZERO, &linear->bias);
        keep_dealt(list, linear, true);
        memory_free(storage.module);
    }
}

static void list_norms(struct weight_list *list, struct block *block) {
    for (int h = 0; h < NUM_HALVES; ++h)
        list_norm(list,
                  architecture_norm_name(list->architecture, block->index, (enum block_half)h),
                  &block->norms[h], list->stage->hidden);
}

static void list_block(struct weight_list *list, struct block *block) {
    list_projections(list, block);
    list_norms(list, block);
}

static void list_embedding(struct weight_list *list, struct embedding *embedding) {
    const struct architecture *architecture = list->architecture;
    const bool is_gpt2 = architecture->family == FAMILY_GPT2;
    list_table(list, is_gpt2 ? "wte" : "embeddings.word_embeddings", architecture->vocabulary_size,
               &embedding->words);
    keep_table(list, list->stage->words);
    list_table(list, is_gpt2 ? "wpe" : "embeddings.position_embeddings",
               architecture->max_positions, &embedding->positions);
    keep_table(list, share_whole(architecture->max_positions));
    if (architecture->num_token_types > 0) {
        list_table(list, "embeddings.token_type_embeddings", architecture->num_token_types,
                   &embedding->types);
        keep_table(list, share_whole(architecture->num_token_types));
    }
    if (!architecture_is_pre_norm(architecture))
        list_norm(list, outer_name(list, "embeddings.LayerNorm"), &embedding->norm,
                  list->stage->hidden);
}

static void list_head(struct weight_list *list, struct task_head *head) {
    const struct architecture *architecture = list->architecture;
    const size_t width = architecture->hidden_size, words = architecture->vocabulary_size;
    if (head->kind == HEAD_LANGUAGE_MODELING) {
        list_norm(list, outer_name(list, "ln_f"), &head->final_norm, share_whole(width));
        if (architecture->is_head_tied)
            list_table(list, "wte", words, &head->words);
        else
            list_weight(list, memory_copy_string("lm_head.weight"), words, width, 0,
                        INITIALIZE_NORMAL, &head->words);
        list->weights[list->count - 1].is_tied = architecture->is_head_tied;
    } else if (head->kind != HEAD_TOKEN_CLASSIFICATION && !head->has_new_dense) {
        list_weight(list, outer_name(list, "pooler.dense.weight"), width, width, 0,
                    INITIALIZE_NORMAL, &head->dense_weight);
        list_weight(list, outer_name(list, "pooler.dense.bias"), width, 1, 0, INITIALIZE_ZERO,
                    &head->dense_bias);
    }
}

static struct weight_list list_of(struct stage *stage) {
    return (struct weight_list){.stage = stage, .architecture = &stage->options.architecture};
}

struct stage_weight *stage_weights(struct stage *stage, size_t *count) {
    struct weight_list list = list_of(stage);
    if (stage->options.has_embedding)
        list_embedding(&list, &stage->embedding);
    for (size_t i = 0; i < stage->options.num_blocks; ++i)
        list_block(&list, &stage->blocks[i]);
    if (stage->options.has_task_head)
        list_head(&list, &stage->task_head);
    *count = 0;
    for (size_t i = 0; i < list.count; ++i)
        if (list.weights[i].place->is_trained)
            memory_free(list.weights[i].name);
        else
            list.weights[(*count)++] = list.weights[i];
    return list.weights;
}

/* An entry for the tensor, unless it is another part of one that has its entry. Takes the name. */
static size_t add_entry(struct stage *stage, struct stage_weight *weight, size_t first_entry) {
    struct parameter_table *table = &stage->factors;
    for (size_t i = first_entry; i < table->count; ++i)
        if (strcmp(table->entries[i].name, weight->name) == 0)
            return table->entries[i].offset;
    const size_t offset = parameter_table_add(
        table, weight->name, weight->rows, weight->columns, weight->initialization,
        weight->initialization == INITIALIZE_NORMAL, parameter_identity(weight->name));
    struct parameter *entry = &table->entries[table->count - 1];
    entry->deviation = weight->deviation;
    entry->is_pretrained = true;
    entry->is_copy = weight->is_tied;
    weight->name = NULL;
    return offset;
}

/* The listed tensors become factors. */
static void train(struct stage *stage, struct weight_list *list) {
    const size_t first_entry = stage->factors.count;
    for (size_t i = 0; i < list->count; ++i) {
        struct stage_weight *weight = &list->weights[i];
        const size_t offset = add_entry(stage, weight, first_entry);
        *weight->place =
            (struct base_tensor){.is_trained = true, .offset = offset + weight->offset};
        if (weight->is_tied)
            stage->tied_copy_offset = offset;
    }
    stage_weights_free(list->weights, list->count);
}

void stage_train_embedding(struct stage *stage) {
    struct weight_list list = list_of(stage);
    if (!stage->options.trains_all)
        return;
    list_embedding(&list, &stage->embedding);
    train(stage, &list);
    stage->tied_offset = stage->embedding.words.offset;
}

void stage_train_block(struct stage *stage, struct block *block) {
    struct weight_list list = list_of(stage);
    if (stage->options.trains_all)
        list_block(&list, block);
    else if (stage->options.adapters.bottleneck > 0)
        list_norms(&list, block);
    train(stage, &list);
}

void stage_train_head(struct stage *stage) {
    struct weight_list list = list_of(stage);
    if (!stage->options.trains_all)
        return;
    list_head(&list, &stage->task_head);
    train(stage, &list);
}

static float *copy_piece(const struct stage_weight *weight, const float *values) {
    const size_t rows = weight->piece_rows.count, columns = weight->piece_columns.count;
    float *piece = memory_allocate(rows * columns, sizeof *piece, weight->name);
    const float *first = values + weight->piece_rows.first * weight->row_stride +
                         weight->piece_columns.first * weight->column_stride;
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < columns; ++j)
            piece[i * columns + j] = first[i * weight->row_stride + j * weight->column_stride];
    return piece;
}

void stage_weight_set(const struct stage_weight *weight, const float *values) {
    struct stage *stage = weight->stage;
    weight->place->frozen = values + weight->offset;
    if (stage->options.grid == NULL)
        return;
    stage->pieces = memory_resize(stage->pieces, stage->num_pieces + 1, sizeof *stage->pieces,
                                  "the list of frozen tensors");
    weight->place->frozen = stage->pieces[stage->num_pieces++] =
        copy_piece(weight, values + weight->offset);
}

void stage_weights_free(struct stage_weight *weights, size_t count) {
    for (size_t i = 0; i < count; ++i)
        memory_free(weights[i].name);
    memory_free(weights);
}
