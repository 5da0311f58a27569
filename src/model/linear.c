/* A projection with an optional low-rank adapter. Backward quotes the forward line it
 * differentiates. */
#include "model/linear.h"

#include "math/gemm.h"

#include <string.h>

/* The columns of A and B that belong to this rank's inputs and outputs. */
static struct matrix factor_columns(const struct linear *linear, const float *factor,
                                    struct share columns) {
    return matrix_strided(factor + columns.first, linear->adapter.rank, columns.count, columns.all);
}

static struct matrix factor_a(const struct linear *linear, const float *factors) {
    return factor_columns(linear, factors + linear->adapter.a_offset, linear_inputs(linear));
}

static struct matrix factor_b(const struct linear *linear, const float *factors) {
    return factor_columns(linear, factors + linear->adapter.b_offset, linear_outputs(linear));
}

static struct matrix weight_of(const struct linear *linear, const struct point *point) {
    return (struct matrix){base_values(linear->weight, point), linear->output_size,
                           linear->input_size, linear->output_stride, linear->input_stride};
}

/* y = x W^T. */
static void base_product(const struct linear *linear, const struct point *point, const float *x,
                         size_t tokens, const struct linear_scratch *scratch, float *y) {
    if (linear->dealt.grid != NULL)
        grid_product(&linear->dealt, linear->weight.frozen, scratch->row_block, x, false, false, y);
    else
        gemm(1, matrix_of(x, tokens, linear->input_size),
             matrix_transpose(weight_of(linear, point)), false, y, linear->output_size);
}

/* d_x = d_y W. */
static void base_product_back(const struct linear *linear, const struct point *point,
                              const float *d_y, size_t tokens, const struct linear_scratch *scratch,
                              bool accumulate, float *d_x) {
    if (linear->dealt.grid != NULL)
        grid_product(&linear->dealt, linear->weight.frozen, scratch->row_block, d_y, true,
                     accumulate, d_x);
    else
        gemm(1, matrix_of(d_y, tokens, linear->output_size), weight_of(linear, point), accumulate,
             d_x, linear->input_size);
}

/* What was summed over this rank's columns becomes the sum over all. */
static void sum_low_rank(const struct linear *linear, size_t tokens, float *h) {
    grid_row_sum(linear->dealt.grid, h, tokens * linear->adapter.rank);
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
    const size_t width = linear_inputs(linear).count;
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
    const size_t width = linear_outputs(linear).count, rank = linear->adapter.rank;
    const size_t input = linear_inputs(linear).count;
    base_product(linear, point, x, tokens, scratch, y);
    bias_add(base_values(linear->bias, point), tokens, width, y);
    if (rank == 0)
        return;
    const float *dropped = dropped_input(x, tokens, input, dropout, scratch->wide);
    gemm(1, matrix_of(dropped, tokens, input), matrix_transpose(factor_a(linear, point->factors)),
         false, h, rank);
    sum_low_rank(linear, tokens, h);
    select_components(linear, point, h, tokens, scratch->low_rank);
    gemm(1, matrix_of(scratch->low_rank, tokens, rank), factor_b(linear, point->factors), true, y,
         width);
}

/* d_q_j = s sum_t d_z_tj h_tj (plus a second product of the same kind, where given). All columns
 * of a grid have the same d_z and h, so one speaks for them. */
static void selection_gradient(const struct linear *linear, const float *d_z, const float *h,
                               const float *more_d_z, const float *more_h, size_t tokens,
                               float *d_q) {
    const size_t rank = linear->adapter.rank;
    if (!grid_is_leader(linear->dealt.grid))
        return;
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
    const struct share inputs = linear_inputs(linear), outputs = linear_outputs(linear);
    const struct matrix d_y_view = matrix_of(d_y, tokens, outputs.count);
    if (d_x != NULL) /* y = x W^T */
        base_product_back(linear, point, d_y, tokens, scratch, accumulate, d_x);
    base_backward(linear, x, d_y, tokens, gradient);
    if (rank == 0)
        return;
    /* y += z B, z = s h * q */
    float *z = scratch->low_rank, *d_z = scratch->low_rank_tangent;
    select_components(linear, point, h, tokens, z);
    gemm(1, matrix_transpose(matrix_of(z, tokens, rank)), d_y_view, false,
         gradient->factors + adapter->b_offset + outputs.first, outputs.all);
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, d_z, rank);
    sum_low_rank(linear, tokens, d_z);
    if (adapter->has_singular_values)
        selection_gradient(linear, d_z, h, NULL, NULL, tokens,
                           gradient->factors + adapter->singular_offset);
    else if (gradient->selection != NULL)
        selection_gradient(linear, d_z, h, NULL, NULL, tokens,
                           gradient->selection + adapter->selection_offset);
    /* h = dropout(x) A^T */
    float *d_h = z;
    select_components(linear, point, d_z, tokens, d_h);
    const float *dropped = dropped_input(x, tokens, inputs.count, dropout, scratch->wide);
    gemm(1, matrix_transpose(matrix_of(d_h, tokens, rank)),
         matrix_of(dropped, tokens, inputs.count), false,
         gradient->factors + adapter->a_offset + inputs.first, inputs.all);
    if (d_x != NULL)
        add_adapter_input(linear, point->factors, d_h, tokens, dropout, scratch->wide, d_x);
}

void linear_tangent(const struct linear *linear, const struct point *point, const float *direction,
                    const float *x, const float *t_x, const float *h, size_t tokens,
                    const struct dropout *dropout, struct linear_scratch *scratch, float *t_h,
                    float *t_y) {
    const size_t width = linear_outputs(linear).count, rank = linear->adapter.rank;
    const size_t input = linear_inputs(linear).count;
    if (t_x != NULL)
        base_product(linear, point, t_x, tokens, scratch, t_y);
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
    sum_low_rank(linear, tokens, t_h);
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
    const struct matrix t_d_y_view = matrix_of(t_d_y, tokens, linear_outputs(linear).count);
    const struct matrix d_y_view = matrix_of(d_y, tokens, linear_outputs(linear).count);
    if (t_d_x != NULL)
        base_product_back(linear, point, t_d_y, tokens, scratch, accumulate, t_d_x);
    if (rank == 0)
        return;
    float *d_z = scratch->low_rank, *t_d_z = scratch->low_rank_tangent;
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, d_z, rank);
    gemm(1, t_d_y_view, matrix_transpose(factor_b(linear, point->factors)), false, t_d_z, rank);
    gemm(1, d_y_view, matrix_transpose(factor_b(linear, direction)), true, t_d_z, rank);
    sum_low_rank(linear, tokens, d_z);
    sum_low_rank(linear, tokens, t_d_z);
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
