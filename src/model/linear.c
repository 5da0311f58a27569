/* A projection with an optional low-rank adapter. Backward quotes the forward line it
 * differentiates. */
#include "model/linear.h"

#include "math/gemm.h"

#include <string.h>

static struct matrix factor_a(const struct linear *linear, const float *factors) {
    return matrix_of(factors + linear->adapter.a_offset, linear->adapter.rank, linear->input_size);
}

static struct matrix factor_b(const struct linear *linear, const float *factors) {
    return matrix_of(factors + linear->adapter.b_offset, linear->adapter.rank, linear->output_size);
}

static struct matrix weight_of(const struct linear *linear, const struct point *point) {
    return (struct matrix){base_values(linear->weight, point), linear->output_size,
                           linear->input_size, linear->output_stride, linear->input_stride};
}

/* q; NULL: all ones. */
static const float *components(const struct linear *linear, const struct point *point) {
    if (linear->adapter.has_singular_values)
        return point->factors + linear->adapter.singular_offset;
    return point->selection == NULL ? NULL : point->selection + linear->adapter.selection_offset;
}

/* z = s h * q. */
static void select_components(const struct linear *linear, const struct point *point,
                              const float *h, size_t tokens, float *z) {
    const size_t rank = linear->adapter.rank;
    const float scale = linear->adapter.scale;
    const float *q = components(linear, point);
    for (size_t i = 0; i < tokens; ++i)
        for (size_t j = 0; j < rank; ++j)
            z[i * rank + j] = scale * h[i * rank + j] * (q == NULL ? 1.0f : q[j]);
}

/* Scratch copy of x with the adapter's dropout applied; x itself where there is none. */
static const float *dropped_input(const float *x, size_t tokens, size_t width,
                                  const struct dropout *dropout, float *copy) {
    if (dropout->rate == 0)
        return x;
    memcpy(copy, x, tokens * width * sizeof *x);
    dropout_apply(dropout, width, copy);
    return copy;
}

/* d_x += dropout(d_h A). */
static void add_adapter_input(const struct linear *linear, const float *factors, const float *d_h,
                              size_t tokens, const struct dropout *dropout, float *wide,
                              float *d_x) {
    const struct matrix d_h_view = matrix_of(d_h, tokens, linear->adapter.rank);
    const size_t width = linear->input_size;
    if (dropout->rate == 0) {
        gemm(1, d_h_view, factor_a(linear, factors), true, d_x, width);
        return;
    }
    gemm(1, d_h_view, factor_a(linear, factors), false, wide, width);
    dropout_apply(dropout, width, wide);
    vector_add(wide, tokens * width, d_x);
}

void linear_forward(const struct linear *linear, const struct point *point, const float *x,
                    size_t tokens, const struct dropout *dropout, struct linear_scratch *scratch,
                    float *h, float *y) {
    const size_t width = linear->output_size, rank = linear->adapter.rank;
    gemm(1, matrix_of(x, tokens, linear->input_size), matrix_transpose(weight_of(linear, point)),
         false, y, width);
    bias_add(base_values(linear->bias, point), tokens, width, y);
    if (rank == 0)
        return;
    const float *dropped = dropped_input(x, tokens, linear->input_size, dropout, scratch->wide);
    gemm(1, matrix_of(dropped, tokens, linear->input_size),
         matrix_transpose(factor_a(linear, point->factors)), false, h, rank);
    select_components(linear, point, h, tokens, scratch->low_rank);
    gemm(1, matrix_of(scratch->low_rank, tokens, rank), factor_b(linear, point->factors), true, y,
         width);
}

/* d_q_j = s sum_t d_z_tj h_tj (plus a second product of the same kind, where given). */
static void selection_gradient(const struct linear *linear, const float *d_z, const float *h,
                               const float *more_d_z, const float *more_h, size_t tokens,
                               float *d_q) {
    const size_t rank = linear->adapter.rank;
    for (size_t j = 0; j < rank; ++j) {
        double sum = 0;
        for (size_t i = 0; i < tokens; ++i) {
            sum += (double)d_z[i * rank + j] * h[i * rank + j];
            if (more_d_z != NULL)
                sum += (double)more_d_z[i * rank + j] * more_h[i * rank + j];
        }
        d_q[j] = (float)(linear->adapter.scale * sum);
    }
}

/* y = x W^T + b */
static void base_backward(const struct linear *linear, const float *x, const float *d_y,
                          size_t tokens, const struct gradient *gradient) {
    const struct matrix left = matrix_of(d_y, tokens, linear->output_size);
    const struct matrix right = matrix_of(x, tokens, linear->input_size);
    if (linear->bias.is_trained)
        column_sums(d_y, tokens, linear->output_size, base_gradient(linear->bias, gradient));
    if (!linear->weight.is_trained)
        return;
    const bool is_transposed = linear->output_stride == 1; /* stored [in, out] */
    gemm(1, matrix_transpose(is_transposed ? right : left), is_transposed ? left : right, false,
         base_gradient(linear->weight, gradient),
         is_transposed ? linear->input_stride : linear->output_stride);
}

void linear_backward(const struct linear *linear, const struct point *point, const float *x,
                     const float *h, const float *d_y, size_t tokens, const struct dropout *dropout,
                     struct linear_scratch *scratch, struct gradient *gradient, bool accumulate,
                     float *d_x) {
    const struct adapter *adapter = &linear->adapter;
    const size_t rank = adapter->rank;
    const struct matrix d_y_view = matrix_of(d_y, tokens, linear->output_size);
    if (d_x != NULL) /* y = x W^T */
        gemm(1, d_y_view, weight_of(linear, point), accumulate, d_x, linear->input_size);
    base_backward(linear, x, d_y, tokens, gradient);
    if (rank == 0)
        return;
    /* y += z B, z = s h * q */
    float *z = scratch->low_rank, *d_z = scratch->low_rank_tangent;
    select_components(linear, point, h, tokens, z);
    gemm(1, matrix_transpose(matrix_of(z, tokens, rank)), d_y_view, false,
         gradient->factors + adapter->b_offset, linear->output_size);
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, d_z, rank);
    if (adapter->has_singular_values)
        selection_gradient(linear, d_z, h, NULL, NULL, tokens,
                           gradient->factors + adapter->singular_offset);
    else if (gradient->selection != NULL)
        selection_gradient(linear, d_z, h, NULL, NULL, tokens,
                           gradient->selection + adapter->selection_offset);
    /* h = dropout(x) A^T */
    float *d_h = z;
    select_components(linear, point, d_z, tokens, d_h);
    const float *dropped = dropped_input(x, tokens, linear->input_size, dropout, scratch->wide);
    gemm(1, matrix_transpose(matrix_of(d_h, tokens, rank)),
         matrix_of(dropped, tokens, linear->input_size), false,
         gradient->factors + adapter->a_offset, linear->input_size);
    if (d_x != NULL)
        add_adapter_input(linear, point->factors, d_h, tokens, dropout, scratch->wide, d_x);
}

void linear_tangent(const struct linear *linear, const struct point *point, const float *direction,
                    const float *x, const float *t_x, const float *h, size_t tokens,
                    const struct dropout *dropout, struct linear_scratch *scratch, float *t_h,
                    float *t_y) {
    const size_t width = linear->output_size, rank = linear->adapter.rank;
    const size_t input = linear->input_size;
    if (t_x != NULL)
        gemm(1, matrix_of(t_x, tokens, input), matrix_transpose(weight_of(linear, point)), false,
             t_y, width);
    else
        memset(t_y, 0, tokens * width * sizeof *t_y);
    if (rank == 0)
        return;
    const float *dropped = dropped_input(x, tokens, input, dropout, scratch->wide);
    gemm(1, matrix_of(dropped, tokens, input), matrix_transpose(factor_a(linear, direction)), false,
         t_h, rank);
    if (t_x != NULL) {
        dropped = dropped_input(t_x, tokens, input, dropout, scratch->wide);
        gemm(1, matrix_of(dropped, tokens, input),
             matrix_transpose(factor_a(linear, point->factors)), true, t_h, rank);
    }
    select_components(linear, point, t_h, tokens, scratch->low_rank);
    gemm(1, matrix_of(scratch->low_rank, tokens, rank), factor_b(linear, point->factors), true, t_y,
         width);
    select_components(linear, point, h, tokens, scratch->low_rank);
    gemm(1, matrix_of(scratch->low_rank, tokens, rank), factor_b(linear, direction), true, t_y,
         width);
}

void linear_backward_tangent(const struct linear *linear, const struct point *point,
                             const float *direction, const float *h, const float *t_h,
                             const float *d_y, const float *t_d_y, size_t tokens,
                             const struct dropout *dropout, struct linear_scratch *scratch,
                             float *t_d_selection, bool accumulate, float *t_d_x) {
    const struct adapter *adapter = &linear->adapter;
    const size_t rank = adapter->rank;
    const struct matrix t_d_y_view = matrix_of(t_d_y, tokens, linear->output_size);
    const struct matrix d_y_view = matrix_of(d_y, tokens, linear->output_size);
    if (t_d_x != NULL)
        gemm(1, t_d_y_view, weight_of(linear, point), accumulate, t_d_x, linear->input_size);
    if (rank == 0)
        return;
    float *d_z = scratch->low_rank, *t_d_z = scratch->low_rank_tangent;
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, d_z, rank);
    gemm(1, t_d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, t_d_z, rank);
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, direction)), true, t_d_z, rank);
    if (t_d_selection != NULL)
        selection_gradient(linear, t_d_z, h, d_z, t_h, tokens,
                           t_d_selection + adapter->selection_offset);
    if (t_d_x == NULL)
        return;
    /* d_x += dropout(d_h A) with d_h = s d_z * q */
    select_components(linear, point, t_d_z, tokens, t_d_z);
    select_components(linear, point, d_z, tokens, d_z);
    add_adapter_input(linear, point->factors, t_d_z, tokens, dropout, scratch->wide, t_d_x);
    add_adapter_input(linear, direction, d_z, tokens, dropout, scratch->wide, t_d_x);
}
