/* The task heads and the loss. */
#include "model/task_head.h"

#include "math/gemm.h"
#include "model/lm_head.h"

#include <math.h>
#include <string.h>

/* Identity of the head's hidden dropout; blocks use 8 and up, the embedding 0. */
enum { HEAD_PLACE = 4, HEAD_INPUT_PLACE = 5 };

size_t head_rows(const struct task_head *head, const struct microbatch *microbatch) {
    return head->kind == HEAD_SEQUENCE_CLASSIFICATION ? microbatch->num_sequences
                                                      : microbatch->num_tokens;
}

static struct matrix classifier_weight(const struct task_head *head, const float *factors) {
    return matrix_of(factors + head->weight_offset, head->num_labels, head->hidden_size);
}

static struct matrix dense_weight(const struct task_head *head, const struct point *point) {
    return matrix_of(base_values(head->dense_weight, point), head->hidden_size, head->hidden_size);
}

static void drop_rows(const struct task_head *head, const struct microbatch *microbatch,
                      uint64_t place, float *rows) {
    const bool one = head->kind == HEAD_SEQUENCE_CLASSIFICATION;
    const struct dropout dropout = {
        .rate = microbatch->has_dropout ? head->dropout : 0,
        .seed = head->seed,
        .step = microbatch->step,
        .purpose = RANDOM_DROPOUT_HIDDEN,
        .identity = place,
        .offsets = one ? microbatch->sequence_numbers : microbatch->offsets,
        .samples = microbatch->samples,
        .num_sequences = microbatch->num_sequences,
    };
    dropout_apply(&dropout, head->hidden_size, rows);
}

static void drop_features(const struct task_head *head, const struct microbatch *microbatch,
                          float *features) {
    drop_rows(head, microbatch, HEAD_PLACE, features);
}

/* Dense's input: x, or a copy where it is trained, after dropout where it is new. */
static const float *dense_input(const struct task_head *head, const struct microbatch *microbatch,
                                const float *x, float *copy) {
    if (!head->dense_weight.is_trained)
        return x;
    memcpy(copy, x, head_rows(head, microbatch) * head->hidden_size * sizeof *copy);
    if (head->has_new_dense)
        drop_rows(head, microbatch, HEAD_INPUT_PLACE, copy);
    return copy;
}

static double mean_of(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += values[i];
    return sum / (double)count;
}

/* probabilities = softmax(logits) and the sum of (1 - e) nll + e mean(-log p), where nll is -log
 * probability of the label and e the label smoothing. */
static double cross_entropy_forward(const float *logits, const int32_t *labels, size_t rows,
                                    size_t num_labels, float smoothing, float *probabilities) {
    double loss = 0;
    for (size_t i = 0; i < rows; ++i) {
        const float *l = logits + i * num_labels;
        float *p = probabilities + i * num_labels;
        double largest = l[0], sum = 0;
        for (size_t j = 1; j < num_labels; ++j)
            largest = l[j] > largest ? l[j] : largest;
        for (size_t j = 0; j < num_labels; ++j)
            sum += exp(l[j] - largest);
        for (size_t j = 0; j < num_labels; ++j)
            p[j] = (float)(exp(l[j] - largest) / sum);
        if (labels != NULL && labels[i] >= 0) {
            double target = l[labels[i]];
            if (smoothing > 0)
                target += smoothing * (mean_of(l, num_labels) - target);
            loss += log(sum) + largest - target;
        } else if (!isfinite(sum))
            loss = NAN;
    }
    return loss;
}

/* d_logits = scale (p - target), 0 in rows without label; target = (1 - e) onehot + e / labels. */
static void cross_entropy_backward(const float *probabilities, const int32_t *labels, size_t rows,
                                   size_t num_labels, float smoothing, float scale,
                                   float *d_logits) {
    const float even = smoothing / (float)num_labels;
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < num_labels; ++j) {
            const float target = (labels[i] == (int32_t)j ? 1.0f - smoothing : 0.0f) + even;
            d_logits[i * num_labels + j] =
                labels[i] < 0 ? 0 : scale * (probabilities[i * num_labels + j] - target);
        }
}

/* t_d_logits = scale p (t_l - p . t_l), 0 in rows without label; the target is constant. */
static void cross_entropy_backward_tangent(const float *probabilities, const float *t_logits,
                                           const int32_t *labels, size_t rows, size_t num_labels,
                                           float scale, float *t_d_logits) {
    for (size_t i = 0; i < rows; ++i) {
        const float *p = probabilities + i * num_labels, *t = t_logits + i * num_labels;
        double mean = 0;
        for (size_t j = 0; j < num_labels; ++j)
            mean += (double)p[j] * t[j];
        for (size_t j = 0; j < num_labels; ++j)
            t_d_logits[i * num_labels + j] =
                labels[i] < 0 ? 0 : scale * p[j] * (t[j] - (float)mean);
    }
}

/* residuals = logits - targets, 0 in rows without label, and the sum of their squares. */
static double squared_error_forward(const float *logits, const int32_t *labels,
                                    const float *targets, size_t rows, float *residuals) {
    double loss = 0;
    for (size_t i = 0; i < rows; ++i) {
        const bool is_labelled = labels != NULL && targets != NULL && labels[i] >= 0;
        residuals[i] = is_labelled ? logits[i] - targets[i] : 0;
        loss += (double)residuals[i] * residuals[i];
    }
    return loss;
}

/* d_logits = 2 scale residuals */
static void squared_error_backward(const float *residuals, size_t rows, float scale,
                                   float *d_logits) {
    for (size_t i = 0; i < rows; ++i)
        d_logits[i] = 2 * scale * residuals[i];
}

/* t_d_logits = 2 scale t_l, 0 in rows without label. */
static void squared_error_backward_tangent(const float *t_logits, const int32_t *labels,
                                           size_t rows, float scale, float *t_d_logits) {
    for (size_t i = 0; i < rows; ++i)
        t_d_logits[i] = labels[i] < 0 ? 0 : 2 * scale * t_logits[i];
}

/* The loss of the head's kind; each passes on to one of the functions above. */
static double loss_forward(const struct task_head *head, const struct microbatch *microbatch,
                           bool has_backward, struct head_activations *activations) {
    const size_t rows = head_rows(head, microbatch);
    if (head->is_regression)
        return squared_error_forward(activations->logits, microbatch->labels, microbatch->targets,
                                     rows, activations->probabilities);
    return cross_entropy_forward(activations->logits, microbatch->labels, rows, head->num_labels,
                                 has_backward ? head->label_smoothing : 0,
                                 activations->probabilities);
}

static void loss_backward(const struct task_head *head, const struct microbatch *microbatch,
                          const struct head_activations *activations, float *d_logits) {
    const size_t rows = head_rows(head, microbatch);
    if (head->is_regression)
        squared_error_backward(activations->probabilities, rows, microbatch->loss_scale, d_logits);
    else
        cross_entropy_backward(activations->probabilities, microbatch->labels, rows,
                               head->num_labels, head->label_smoothing, microbatch->loss_scale,
                               d_logits);
}

static void loss_backward_tangent(const struct task_head *head, const struct microbatch *microbatch,
                                  const struct head_activations *activations, float *t_d_logits) {
    const size_t rows = head_rows(head, microbatch);
    if (head->is_regression)
        squared_error_backward_tangent(activations->t_logits, microbatch->labels, rows,
                                       microbatch->loss_scale, t_d_logits);
    else
        cross_entropy_backward_tangent(activations->probabilities, activations->t_logits,
                                       microbatch->labels, rows, head->num_labels,
                                       microbatch->loss_scale, t_d_logits);
}

double head_forward(const struct task_head *head, const struct point *point,
                    const struct microbatch *microbatch, const float *x,
                    struct head_scratch *scratch, bool has_backward,
                    struct head_activations *activations) {
    if (head->kind == HEAD_LANGUAGE_MODELING)
        return lm_head_forward(head, point, microbatch, x, scratch, has_backward, activations);
    const size_t rows = head_rows(head, microbatch), width = head->hidden_size;
    const size_t labels = head->num_labels;
    if (head->kind == HEAD_SEQUENCE_CLASSIFICATION) {
        const float *input = dense_input(head, microbatch, x, activations->inputs);
        gemm(1, matrix_of(input, rows, width), matrix_transpose(dense_weight(head, point)), false,
             activations->pooled, width);
        bias_add(base_values(head->dense_bias, point), rows, width, activations->pooled);
        for (size_t i = 0; i < rows * width; ++i)
            activations->pooled[i] = tanhf(activations->pooled[i]);
        memcpy(activations->features, activations->pooled, rows * width * sizeof *x);
    } else {
        memcpy(activations->features, x, rows * width * sizeof *x);
    }
    drop_features(head, microbatch, activations->features);
    gemm(1, matrix_of(activations->features, rows, width),
         matrix_transpose(classifier_weight(head, point->factors)), false, activations->logits,
         labels);
    bias_add(point->factors + head->bias_offset, rows, labels, activations->logits);
    return loss_forward(head, microbatch, has_backward, activations) *
           (double)microbatch->loss_scale;
}

void head_backward(const struct task_head *head, const struct point *point,
                   const struct microbatch *microbatch, struct head_activations *activations,
                   struct gradient *gradient, float *d_x) {
    if (head->kind == HEAD_LANGUAGE_MODELING) {
        lm_head_backward(head, point, microbatch, activations, gradient, d_x);
        return;
    }
    const size_t rows = head_rows(head, microbatch), width = head->hidden_size;
    const size_t labels = head->num_labels;
    float *d_logits = activations->t_logits; /* free until the tangent pass */
    loss_backward(head, microbatch, activations, d_logits);
    /* logits = features W^T + b */
    gemm(1, matrix_transpose(matrix_of(d_logits, rows, labels)),
         matrix_of(activations->features, rows, width), false,
         gradient->factors + head->weight_offset, width);
    column_sums(d_logits, rows, labels, gradient->factors + head->bias_offset);
    gemm(1, matrix_of(d_logits, rows, labels), classifier_weight(head, point->factors), false,
         activations->d_features, width);
    if (head->kind == HEAD_TOKEN_CLASSIFICATION) {
        memcpy(d_x, activations->d_features, rows * width * sizeof *d_x);
        drop_features(head, microbatch, d_x);
        return;
    }
    /* features = dropout(tanh(u)), u = dense(x) */
    float *d_u = activations->t_features;
    memcpy(d_u, activations->d_features, rows * width * sizeof *d_u);
    drop_features(head, microbatch, d_u);
    for (size_t i = 0; i < rows * width; ++i)
        d_u[i] *= 1.0f - activations->pooled[i] * activations->pooled[i];
    gemm(1, matrix_of(d_u, rows, width), dense_weight(head, point), false, d_x, width);
    if (!head->dense_weight.is_trained)
        return;
    gemm(1, matrix_transpose(matrix_of(d_u, rows, width)),
         matrix_of(activations->inputs, rows, width), false,
         base_gradient(head->dense_weight, gradient), width);
    column_sums(d_u, rows, width, base_gradient(head->dense_bias, gradient));
    if (head->has_new_dense)
        drop_rows(head, microbatch, HEAD_INPUT_PLACE, d_x);
}

void head_tangent(const struct task_head *head, const struct point *point, const float *direction,
                  const struct microbatch *microbatch, const float *t_x,
                  struct head_scratch *scratch, struct head_activations *activations) {
    if (head->kind == HEAD_LANGUAGE_MODELING) {
        lm_head_tangent(head, point, microbatch, t_x, scratch, activations);
        return;
    }
    const size_t rows = head_rows(head, microbatch), width = head->hidden_size;
    const size_t labels = head->num_labels;
    float *t_features = activations->t_features;
    if (head->kind == HEAD_SEQUENCE_CLASSIFICATION) {
        const float *t_input = dense_input(head, microbatch, t_x, activations->t_inputs);
        gemm(1, matrix_of(t_input, rows, width), matrix_transpose(dense_weight(head, point)), false,
             activations->t_pooled, width);
        if (head->has_new_dense) {
            gemm(1, matrix_of(activations->inputs, rows, width),
                 matrix_transpose(matrix_of(direction + head->dense_weight.offset, width, width)),
                 true, activations->t_pooled, width);
            bias_add(direction + head->dense_bias.offset, rows, width, activations->t_pooled);
        }
        for (size_t i = 0; i < rows * width; ++i)
            activations->t_pooled[i] *= 1.0f - activations->pooled[i] * activations->pooled[i];
        memcpy(t_features, activations->t_pooled, rows * width * sizeof *t_x);
    } else {
        memcpy(t_features, t_x, rows * width * sizeof *t_x);
    }
    drop_features(head, microbatch, t_features);
    gemm(1, matrix_of(t_features, rows, width),
         matrix_transpose(classifier_weight(head, point->factors)), false, activations->t_logits,
         labels);
    gemm(1, matrix_of(activations->features, rows, width),
         matrix_transpose(classifier_weight(head, direction)), true, activations->t_logits, labels);
    bias_add(direction + head->bias_offset, rows, labels, activations->t_logits);
}

void head_backward_tangent(const struct task_head *head, const struct point *point,
                           const float *direction, const struct microbatch *microbatch,
                           struct head_activations *activations, float *t_d_x) {
    if (head->kind == HEAD_LANGUAGE_MODELING) {
        lm_head_backward_tangent(head, point, microbatch, activations, t_d_x);
        return;
    }
    const size_t rows = head_rows(head, microbatch), width = head->hidden_size;
    const size_t labels = head->num_labels;
    float *t_d_logits = activations->logits, *d_logits = activations->probabilities;
    loss_backward_tangent(head, microbatch, activations, t_d_logits);
    loss_backward(head, microbatch, activations, d_logits);
    /* d_features = d_logits W */
    float *t_d_features = activations->t_features;
    gemm(1, matrix_of(t_d_logits, rows, labels), classifier_weight(head, point->factors), false,
         t_d_features, width);
    gemm(1, matrix_of(d_logits, rows, labels), classifier_weight(head, direction), true,
         t_d_features, width);
    drop_features(head, microbatch, t_d_features);
    if (head->kind == HEAD_TOKEN_CLASSIFICATION) {
        memcpy(t_d_x, t_d_features, rows * width * sizeof *t_d_x);
        return;
    }
    /* d_u = dropout(d_features) (1 - p^2), so t_d_u has two terms; d_features is not needed again
     */
    float *d_features = activations->d_features;
    drop_features(head, microbatch, d_features);
    for (size_t i = 0; i < rows * width; ++i) {
        const float p = activations->pooled[i], slope = 1.0f - p * p;
        t_d_features[i] =
            t_d_features[i] * slope - 2.0f * p * activations->t_pooled[i] * d_features[i];
        d_features[i] *= slope; /* d_u */
    }
    gemm(1, matrix_of(t_d_features, rows, width), dense_weight(head, point), false, t_d_x, width);
    if (!head->has_new_dense)
        return;
    gemm(1, matrix_of(d_features, rows, width),
         matrix_of(direction + head->dense_weight.offset, width, width), true, t_d_x, width);
    drop_rows(head, microbatch, HEAD_INPUT_PLACE, t_d_x);
}
