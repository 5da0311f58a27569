/* Operations of a stage's passes. One function a part of the model, one line a pass: so many
 * products of one size as the function of that name makes. */
#include "model/operations.h"

/* What a pass is given. */
struct size {
    double tokens, rows, pairs; /* of model/block.h; queries times keys */
    bool wants_input;           /* the derivative with respect to the block's input is computed */
};

/* model/linear.c */
static double linear_operations(const struct linear *linear, enum stage_pass pass, double rows,
                                bool wants_input) {
    const double in = (double)linear->input_size, out = (double)linear->output_size;
    const double rank = (double)linear->adapter.rank, input = wants_input ? 1 : 0;
    const double base = 2 * rows * in * out, a = 2 * rows * in * rank, b = 2 * rows * rank * out;
    switch (pass) {
    case PASS_FORWARD:
    case PASS_EVALUATE:
        return base + a + b;
    case PASS_BACKWARD:
        return base * (input + (linear->weight.is_trained ? 1 : 0)) + a * (1 + input) + 2 * b;
    case PASS_TANGENT:
        return base * input + a * (1 + input) + 2 * b;
    case PASS_BACKWARD_TANGENT:
        return base * input + 2 * a * input + 3 * b;
    case NUM_STAGE_PASSES:
        break;
    }
    return 0;
}

/* model/attention.c */
static double attention_operations(enum stage_pass pass, double pairs, double width) {
    static const double products[NUM_STAGE_PASSES] = {
        [PASS_FORWARD] = 2,          [PASS_BACKWARD] = 4, [PASS_TANGENT] = 4,
        [PASS_BACKWARD_TANGENT] = 9, [PASS_EVALUATE] = 2,
    };
    return 2 * products[pass] * pairs * width;
}

/* model/bottleneck.c */
static double bottleneck_operations(const struct bottleneck *bottleneck, enum stage_pass pass,
                                    double rows) {
    const double both = 4 * rows * (double)(bottleneck->size * bottleneck->hidden_size);
    return pass == PASS_BACKWARD ? 2 * both : both;
}

/* model/block_branches.c */
static double block_operations(const struct block *block, enum stage_pass pass, struct size size) {
    double sum = attention_operations(pass, size.pairs, (double)block->hidden_size);
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        const bool is_of_all = p == PROJECTION_KEY || p == PROJECTION_VALUE;
        const bool is_outer = p == PROJECTION_QUERY || is_of_all;
        sum += linear_operations(&block->projections[p], pass, is_of_all ? size.tokens : size.rows,
                                 size.wants_input || !is_outer);
    }
    for (int h = 0; h < NUM_HALVES; ++h)
        sum += bottleneck_operations(&block->bottlenecks[h], pass, size.rows);
    return sum;
}

/* model/lm_head.c; the forward pass of a training makes the gradient's product too. */
static double lm_head_operations(const struct task_head *head, enum stage_pass pass, double rows) {
    const double words = 2 * rows * (double)(head->hidden_size * head->num_labels);
    switch (pass) {
    case PASS_EVALUATE:
        return words;
    case PASS_FORWARD:
        return words * (head->words.is_trained ? 3 : 2);
    case PASS_TANGENT:
        return 3 * words;
    default:
        return 0;
    }
}

/* model/task_head.c */
static double task_head_operations(const struct task_head *head, enum stage_pass pass,
                                   double rows) {
    const double width = (double)head->hidden_size;
    const double dense = head->kind == HEAD_TOKEN_CLASSIFICATION ? 0 : 2 * rows * width * width;
    const double classifier = 2 * rows * width * (double)head->num_labels;
    if (pass == PASS_FORWARD || pass == PASS_EVALUATE)
        return dense + classifier;
    return dense * (head->dense_weight.is_trained ? 2 : 1) + 2 * classifier;
}

static double labelled_rows(const struct microbatch *microbatch) {
    size_t count = 0;
    for (size_t i = 0; i < microbatch->num_tokens; ++i)
        count += microbatch->labels[i] >= 0;
    return (double)count;
}

static double head_operations(const struct stage *stage, enum stage_pass pass,
                              const struct microbatch *microbatch) {
    const struct task_head *head = &stage->task_head;
    if (head->kind == HEAD_LANGUAGE_MODELING)
        return lm_head_operations(head, pass, labelled_rows(microbatch));
    const size_t rows = head->kind == HEAD_TOKEN_CLASSIFICATION ? microbatch->num_tokens
                                                                : microbatch->num_sequences;
    return task_head_operations(head, pass, (double)rows);
}

static double pairs_of(const struct microbatch *microbatch) {
    return (double)microbatch->pair_offsets[microbatch->num_sequences];
}

/* Of the first block: is something trained in front of its projections? */
static bool has_trained_input(const struct stage *stage, const struct block *block) {
    return stage->options.trains_all ||
           (block->is_pre_norm && block->norms[HALF_ATTENTION].weight.is_trained);
}

double stage_operations(const struct stage *stage, enum stage_pass pass,
                        const struct microbatch *microbatch) {
    double sum = 0;
    for (size_t i = 0; i < stage->options.num_blocks; ++i) {
        const struct block *block = &stage->blocks[i];
        const bool is_narrow = block->attention.first_rows_only;
        const double tokens = (double)microbatch->num_tokens;
        const struct size size = {
            .tokens = tokens,
            .rows = is_narrow ? (double)microbatch->num_sequences : tokens,
            .pairs = is_narrow ? tokens : pairs_of(microbatch),
            .wants_input = block->index > 0 || has_trained_input(stage, block),
        };
        sum += block_operations(block, pass, size);
    }
    return stage->options.has_task_head ? sum + head_operations(stage, pass, microbatch) : sum;
}
