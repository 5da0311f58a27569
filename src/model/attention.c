/* Multi-head self-attention. One task per (sequence, head): tasks write disjoint parts, so the
 * result does not depend on the number of threads. A task works on [length, length] matrices in its
 * thread's scratch. */
#include "model/attention.h"

#include "base/random.h"
#include "math/row.h"
#include "math/small_product.h"

#include <omp.h>
#include <string.h>

enum { SCRATCH_MATRICES = 6 };

size_t attention_scratch_floats(size_t longest) {
    return SCRATCH_MATRICES * (longest * longest + 16);
}

/* One head of one sequence. */
struct task {
    size_t rows, length;           /* queries, keys */
    size_t head_size, stride;      /* stride: the hidden size */
    size_t first_query, first_key; /* element of the head's first row in the two kinds of matrix */
    size_t pairs;                  /* element of its probabilities */
    float scale, dropout;
    struct random_stream stream;
    float *scratch[SCRATCH_MATRICES];
};

static struct task task_make(const struct attention *attention, const struct microbatch *microbatch,
                             struct attention_scratch *scratch, size_t index) {
    const size_t sequence = index / attention->num_heads, head = index % attention->num_heads;
    const size_t begin = microbatch->offsets[sequence];
    const size_t length = microbatch->offsets[sequence + 1] - begin;
    const bool one = attention->first_rows_only;
    const size_t rows = one ? 1 : length, stride = attention->num_heads * attention->head_size;
    const size_t pairs_before = one ? begin : microbatch->pair_offsets[sequence];
    struct task task = {
        .rows = rows,
        .length = length,
        .head_size = attention->head_size,
        .stride = stride,
        .first_query = (one ? sequence : begin) * stride + head * attention->head_size,
        .first_key = begin * stride + head * attention->head_size,
        .pairs = attention->num_heads * pairs_before + head * rows * length,
        .scale = attention->scale,
        .dropout = microbatch->has_dropout ? attention->dropout : 0,
        .stream = random_stream_make(attention->seed, RANDOM_DROPOUT_ATTENTION,
                                     attention->block * 4096 + attention->first_head + head,
                                     microbatch->step, microbatch->samples[sequence]),
    };
    float *values = scratch->values + scratch->floats_per_thread * (size_t)omp_get_thread_num();
    const size_t step = (rows * length + 15) / 16 * 16;
    for (size_t i = 0; i < SCRATCH_MATRICES; ++i)
        task.scratch[i] = values + i * step;
    return task;
}

static size_t task_count(const struct attention *attention, const struct microbatch *microbatch) {
    return microbatch->num_sequences * attention->num_heads;
}

/* The head's part [rows, head_size] of query, context and their derivatives. */
static struct matrix query_head(const struct task *task, const float *matrix) {
    return matrix_strided(matrix + task->first_query, task->rows, task->head_size, task->stride);
}

/* The head's part [length, head_size] of key, value and their derivatives. */
static struct matrix key_head(const struct task *task, const float *matrix) {
    return matrix_strided(matrix + task->first_key, task->length, task->head_size, task->stride);
}

/* Probabilities and the like. */
static struct matrix pairs_of(const struct task *task, const float *values) {
    return matrix_of(values, task->rows, task->length);
}

static void product_to_query(const struct task *task, float scale, struct matrix a, struct matrix b,
                             bool accumulate, float *matrix) {
    small_product(scale, a, b, accumulate, matrix + task->first_query, task->stride);
}

static void product_to_key(const struct task *task, float scale, struct matrix a, struct matrix b,
                           bool accumulate, float *matrix) {
    small_product(scale, a, b, accumulate, matrix + task->first_key, task->stride);
}

/* pairs = scale a b^T. */
static void product_to_pairs(const struct task *task, float scale, struct matrix a, struct matrix b,
                             bool accumulate, float *pairs) {
    small_product(scale, a, matrix_transpose(b), accumulate, pairs, task->length);
}

/* The dropped-out probabilities: a copy in `copy`, or the original where there is no dropout. */
static const float *dropped(const struct task *task, const float *probabilities, float *copy) {
    if (task->dropout == 0)
        return probabilities;
    memcpy(copy, probabilities, task->rows * task->length * sizeof *copy);
    random_dropout_multiply(&task->stream, task->dropout, task->rows * task->length, copy);
    return copy;
}

static void drop_in_place(const struct task *task, float *pairs) {
    if (task->dropout != 0)
        random_dropout_multiply(&task->stream, task->dropout, task->rows * task->length, pairs);
}

static void softmax(const struct task *task, bool is_causal, float *pairs) {
    for (size_t i = 0; i < task->rows; ++i) {
        float *row = pairs + i * task->length;
        const size_t seen = is_causal ? i + 1 : task->length;
        row_softmax(row, seen);
        memset(row + seen, 0, (task->length - seen) * sizeof *row);
    }
}

void attention_forward(const struct attention *attention, const struct microbatch *microbatch,
                       const float *query, const float *key, const float *value,
                       struct attention_scratch *scratch, float *probabilities, float *context) {
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t index = 0; index < task_count(attention, microbatch); ++index) {
        const struct task task = task_make(attention, microbatch, scratch, index);
        float *p = probabilities + task.pairs;
        product_to_pairs(&task, task.scale, query_head(&task, query), key_head(&task, key), false,
                         p);
        softmax(&task, attention->is_causal, p);
        product_to_query(&task, 1, pairs_of(&task, dropped(&task, p, task.scratch[0])),
                         key_head(&task, value), false, context);
    }
}

/* d_S = P * (d_P - rowsum(P * d_P)), in place of d_P. */
static void softmax_backward(const struct task *task, const float *p, float *d_p) {
    const size_t n = task->length;
    for (size_t i = 0; i < task->rows; ++i) {
        const float mean = row_dot(p + i * n, d_p + i * n, n);
#pragma omp simd
        for (size_t j = 0; j < n; ++j)
            d_p[i * n + j] = p[i * n + j] * (d_p[i * n + j] - mean);
    }
}

void attention_backward(const struct attention *attention, const struct microbatch *microbatch,
                        const float *query, const float *key, const float *value,
                        const float *probabilities, const float *d_context,
                        struct attention_scratch *scratch, float *d_query, float *d_key,
                        float *d_value) {
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t index = 0; index < task_count(attention, microbatch); ++index) {
        const struct task task = task_make(attention, microbatch, scratch, index);
        const float *p = probabilities + task.pairs;
        const struct matrix d_o = query_head(&task, d_context);
        const struct matrix kept = pairs_of(&task, dropped(&task, p, task.scratch[0]));
        /* O = dropout(P) V */
        product_to_key(&task, 1, matrix_transpose(kept), d_o, false, d_value);
        float *d_s = task.scratch[1];
        product_to_pairs(&task, 1, d_o, key_head(&task, value), false, d_s);
        drop_in_place(&task, d_s);
        /* P = softmax(S), S = scale Q K^T */
        softmax_backward(&task, p, d_s);
        const struct matrix d_s_view = pairs_of(&task, d_s);
        product_to_query(&task, task.scale, d_s_view, key_head(&task, key), false, d_query);
        product_to_key(&task, task.scale, matrix_transpose(d_s_view), query_head(&task, query),
                       false, d_key);
    }
}

void attention_tangent(const struct attention *attention, const struct microbatch *microbatch,
                       const float *query, const float *key, const float *value,
                       const float *probabilities, const float *t_query, const float *t_key,
                       const float *t_value, struct attention_scratch *scratch,
                       float *t_probabilities, float *t_context) {
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t index = 0; index < task_count(attention, microbatch); ++index) {
        const struct task task = task_make(attention, microbatch, scratch, index);
        const float *p = probabilities + task.pairs;
        float *t_p = t_probabilities + task.pairs;
        product_to_pairs(&task, task.scale, query_head(&task, t_query), key_head(&task, key), false,
                         t_p);
        product_to_pairs(&task, task.scale, query_head(&task, query), key_head(&task, t_key), true,
                         t_p);
        softmax_backward(&task, p, t_p); /* the softmax's Jacobian is symmetric */
        product_to_query(&task, 1, pairs_of(&task, dropped(&task, t_p, task.scratch[0])),
                         key_head(&task, value), false, t_context);
        product_to_query(&task, 1, pairs_of(&task, dropped(&task, p, task.scratch[0])),
                         key_head(&task, t_value), true, t_context);
    }
}

/* The tangent of softmax_backward: from d_P, t_d_P to d_S, t_d_S, both in place. */
static void softmax_backward_tangent(const struct task *task, const float *p, const float *t_p,
                                     float *d_p, float *t_d_p) {
    const size_t n = task->length;
    for (size_t i = 0; i < task->rows; ++i) {
        const float *p_i = p + i * n, *t_p_i = t_p + i * n;
        float *d_i = d_p + i * n, *t_d_i = t_d_p + i * n;
        const float mean = row_dot(p_i, d_i, n);
        const float t_mean = row_dot(t_p_i, d_i, n) + row_dot(p_i, t_d_i, n);
#pragma omp simd
        for (size_t j = 0; j < n; ++j) {
            t_d_i[j] = t_p_i[j] * (d_i[j] - mean) + p_i[j] * (t_d_i[j] - t_mean);
            d_i[j] = p_i[j] * (d_i[j] - mean);
        }
    }
}

static void backward_tangent_task(const struct task *task, const struct attention_saved *saved,
                                  const float *t_d_context, float *t_d_query, float *t_d_key,
                                  float *t_d_value) {
    const float *p = saved->probabilities + task->pairs;
    const float *t_p = saved->t_probabilities + task->pairs;
    const struct matrix d_o = query_head(task, saved->d_context);
    const struct matrix t_d_o = query_head(task, t_d_context);
    /* d_V = dropout(P)^T d_O */
    const struct matrix kept = pairs_of(task, dropped(task, p, task->scratch[0]));
    const struct matrix t_kept = pairs_of(task, dropped(task, t_p, task->scratch[1]));
    product_to_key(task, 1, matrix_transpose(t_kept), d_o, false, t_d_value);
    product_to_key(task, 1, matrix_transpose(kept), t_d_o, true, t_d_value);
    /* d_P = dropout(d_O V^T) */
    float *d_s = task->scratch[2], *t_d_s = task->scratch[3];
    product_to_pairs(task, 1, d_o, key_head(task, saved->value), false, d_s);
    product_to_pairs(task, 1, t_d_o, key_head(task, saved->value), false, t_d_s);
    product_to_pairs(task, 1, d_o, key_head(task, saved->t_value), true, t_d_s);
    drop_in_place(task, d_s);
    drop_in_place(task, t_d_s);
    softmax_backward_tangent(task, p, t_p, d_s, t_d_s);
    /* d_Q = scale d_S K, d_K = scale d_S^T Q */
    const struct matrix d_s_view = pairs_of(task, d_s), t_d_s_view = pairs_of(task, t_d_s);
    product_to_query(task, task->scale, t_d_s_view, key_head(task, saved->key), false, t_d_query);
    product_to_query(task, task->scale, d_s_view, key_head(task, saved->t_key), true, t_d_query);
    product_to_key(task, task->scale, matrix_transpose(t_d_s_view), query_head(task, saved->query),
                   false, t_d_key);
    product_to_key(task, task->scale, matrix_transpose(d_s_view), query_head(task, saved->t_query),
                   true, t_d_key);
}

void attention_backward_tangent(const struct attention *attention,
                                const struct microbatch *microbatch,
                                const struct attention_saved *saved, const float *t_d_context,
                                struct attention_scratch *scratch, float *t_d_query, float *t_d_key,
                                float *t_d_value) {
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t index = 0; index < task_count(attention, microbatch); ++index) {
        const struct task task = task_make(attention, microbatch, scratch, index);
        backward_tangent_task(&task, saved, t_d_context, t_d_query, t_d_key, t_d_value);
    }
}
