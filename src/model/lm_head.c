/* The language modelling head. Rows are those of labelled tokens, in order. */
#include "model/lm_head.h"

#include "math/gemm.h"
#include "math/kernels.h"
#include "math/row.h"

#include <math.h>
#include <string.h>

enum { CHUNK_ROWS = 64 };

size_t lm_head_room(const struct task_head *head) {
    return CHUNK_ROWS * head->num_labels;
}

static struct matrix words_of(const struct task_head *head, const struct point *point) {
    return matrix_of(base_values(head->words, point), head->num_labels, head->hidden_size);
}

static size_t gather_labelled(const struct task_head *head, const struct microbatch *microbatch,
                              const float *x, float *rows) {
    const size_t width = head->hidden_size;
    size_t count = 0;
    for (size_t i = 0; i < microbatch->num_tokens; ++i)
        if (microbatch->labels[i] >= 0)
            memcpy(rows + count++ * width, x + i * width, width * sizeof *rows);
    return count;
}

static void scatter_labelled(const struct task_head *head, const struct microbatch *microbatch,
                             const float *rows, float *x) {
    const size_t width = head->hidden_size;
    size_t count = 0;
    for (size_t i = 0; i < microbatch->num_tokens; ++i)
        if (microbatch->labels[i] >= 0)
            memcpy(x + i * width, rows + count++ * width, width * sizeof *x);
        else
            memset(x + i * width, 0, width * sizeof *x);
}

static size_t count_labelled(const struct microbatch *microbatch) {
    size_t count = 0;
    for (size_t i = 0; i < microbatch->num_tokens; ++i)
        count += microbatch->labels[i] >= 0;
    return count;
}

/* The labels of the labelled tokens one by one. */
static int32_t next_label(const struct microbatch *microbatch, size_t *token) {
    while (microbatch->labels[*token] < 0)
        ++*token;
    return microbatch->labels[(*token)++];
}

/* Loss of a row, (1 - e) (-log p_label) + e mean(-log p) with the smoothing e; logits become the
 * cotangent p - (1 - e) onehot - e / words. */
static double row_loss(size_t words, float label_smoothing, int32_t label, float *row) {
    const double at_label = (double)row[label], smoothing = (double)label_smoothing;
    const double mean = smoothing > 0 ? (double)row_sum(row, words) / (double)words : 0;
    const struct row_normalizer normalizer = row_softmax(row, words);
    const double log_sum = log((double)normalizer.sum) + (double)normalizer.largest;
    row[label] -= 1.0f - label_smoothing;
    if (smoothing > 0) {
        const float share = label_smoothing / (float)words;
#pragma omp simd
        for (size_t j = 0; j < words; ++j)
            row[j] -= share;
    }
    return log_sum - (1 - smoothing) * at_label - smoothing * mean;
}

static size_t chunk_size(size_t first, size_t rows) {
    return rows - first < CHUNK_ROWS ? rows - first : CHUNK_ROWS;
}

static void chunk_logits(const struct task_head *head, const struct point *point,
                         const float *features, size_t rows, float *logits) {
    gemm(1, matrix_of(features, rows, head->hidden_size), matrix_transpose(words_of(head, point)),
         false, logits, head->num_labels);
}

static double chunk_loss(const struct task_head *head, float label_smoothing, const int32_t *labels,
                         size_t rows, float *logits) {
    double losses[CHUNK_ROWS], sum = 0;
#pragma omp parallel for schedule(static, 1)
    for (size_t i = 0; i < rows; ++i)
        losses[i] =
            row_loss(head->num_labels, label_smoothing, labels[i], logits + i * head->num_labels);
    for (size_t i = 0; i < rows; ++i)
        sum += losses[i];
    return sum;
}

/* d_words += d_logits^T features of one chunk, d_logits without their scale. */
static void chunk_words(const struct task_head *head, const struct microbatch *microbatch,
                        const float *d_logits, const float *features, size_t rows, bool is_first,
                        float *d_words) {
    gemm(microbatch->loss_scale, matrix_transpose(matrix_of(d_logits, rows, head->num_labels)),
         matrix_of(features, rows, head->hidden_size), !is_first, d_words, head->hidden_size);
}

double lm_head_forward(const struct task_head *head, const struct point *point,
                       const struct microbatch *microbatch, const float *x,
                       struct head_scratch *scratch, bool has_backward,
                       struct head_activations *activations) {
    const size_t width = head->hidden_size;
    float *features = activations->features, *d_features = activations->d_features;
    const size_t rows = gather_labelled(head, microbatch, x, features);
    layer_norm_forward(features, base_values(head->final_norm.weight, point),
                       base_values(head->final_norm.bias, point), head->layer_norm_epsilon, rows,
                       width, activations->normalized, activations->deviation, features);
    double loss = 0;
    size_t token = 0;
    for (size_t first = 0; first < rows; first += CHUNK_ROWS) {
        const size_t count = chunk_size(first, rows);
        int32_t labels[CHUNK_ROWS];
        for (size_t i = 0; i < count; ++i)
            labels[i] = next_label(microbatch, &token);
        chunk_logits(head, point, features + first * width, count, scratch->logits);
        loss += chunk_loss(head, has_backward ? head->label_smoothing : 0, labels, count,
                           scratch->logits);
        if (!has_backward)
            continue;
        gemm(microbatch->loss_scale, matrix_of(scratch->logits, count, head->num_labels),
             words_of(head, point), false, d_features + first * width, width);
        if (head->words.is_trained)
            chunk_words(head, microbatch, scratch->logits, features + first * width, count,
                        first == 0, activations->d_words);
    }
    return loss * (double)microbatch->loss_scale;
}

void lm_head_backward(const struct task_head *head, const struct point *point,
                      const struct microbatch *microbatch,
                      const struct head_activations *activations, const struct gradient *gradient,
                      float *d_x) {
    const size_t rows = count_labelled(microbatch), width = head->hidden_size;
    if (head->words.is_trained) {
        float *d_words = base_gradient(head->words, gradient);
        if (rows > 0)
            memcpy(d_words, activations->d_words, head->num_labels * width * sizeof *d_words);
        else
            memset(d_words, 0, head->num_labels * width * sizeof *d_words);
    }
    if (head->final_norm.weight.is_trained)
        layer_norm_gradient(activations->d_features, activations->normalized, rows, width,
                            base_gradient(head->final_norm.weight, gradient),
                            base_gradient(head->final_norm.bias, gradient));
    /* features = norm(x) */
    float *d_rows = activations->t_features; /* free until the tangent pass */
    layer_norm_backward(activations->d_features, activations->normalized, activations->deviation,
                        base_values(head->final_norm.weight, point), rows, width, d_rows);
    scatter_labelled(head, microbatch, d_rows, d_x);
}

/* t_d_logits = p (t_logits - p . t_logits), in place of t_logits. */
static void chunk_tangent(size_t words, size_t rows, float *logits, float *t_logits) {
#pragma omp parallel for schedule(static, 1)
    for (size_t i = 0; i < rows; ++i) {
        float *p = logits + i * words, *t = t_logits + i * words;
        row_softmax(p, words);
        const float mean = row_dot(p, t, words);
#pragma omp simd
        for (size_t j = 0; j < words; ++j)
            t[j] = p[j] * (t[j] - mean);
    }
}

/* Leaves the tangent of d_features in t_features. */
void lm_head_tangent(const struct task_head *head, const struct point *point,
                     const struct microbatch *microbatch, const float *t_x,
                     struct head_scratch *scratch, struct head_activations *activations) {
    const size_t width = head->hidden_size, words = head->num_labels;
    float *t_features = activations->t_features;
    const size_t rows = gather_labelled(head, microbatch, t_x, t_features);
    layer_norm_tangent(t_features, activations->normalized, activations->deviation,
                       base_values(head->final_norm.weight, point), rows, width,
                       activations->t_normalized, activations->t_deviation, t_features);
    for (size_t first = 0; first < rows; first += CHUNK_ROWS) {
        const size_t count = chunk_size(first, rows);
        chunk_logits(head, point, activations->features + first * width, count, scratch->logits);
        chunk_logits(head, point, t_features + first * width, count, scratch->t_logits);
        chunk_tangent(words, count, scratch->logits, scratch->t_logits);
        gemm(microbatch->loss_scale, matrix_of(scratch->t_logits, count, words),
             words_of(head, point), false, t_features + first * width, width);
    }
}

void lm_head_backward_tangent(const struct task_head *head, const struct point *point,
                              const struct microbatch *microbatch,
                              const struct head_activations *activations, float *t_d_x) {
    float *t_d_rows = activations->t_features;
    layer_norm_backward_tangent(activations->d_features, activations->t_features,
                                activations->normalized, activations->t_normalized,
                                activations->deviation, activations->t_deviation,
                                base_values(head->final_norm.weight, point),
                                count_labelled(microbatch), head->hidden_size, t_d_rows);
    scatter_labelled(head, microbatch, t_d_rows, t_d_x);
}

void lm_head_logits(const struct task_head *head, const struct point *point, const float *x,
                    size_t rows, float *room, float *logits) {
    const size_t size = rows * head->hidden_size;
    float deviation[CHUNK_ROWS];
    for (size_t first = 0; first < rows; first += CHUNK_ROWS) {
        const size_t count = chunk_size(first, rows), at = first * head->hidden_size;
        layer_norm_forward(x + at, base_values(head->final_norm.weight, point),
                           base_values(head->final_norm.bias, point), head->layer_norm_epsilon,
                           count, head->hidden_size, room + size + at, deviation, room + at);
    }
    chunk_logits(head, point, room, rows, logits);
}
