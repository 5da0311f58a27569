/* A projection, frozen unless all weights are trained, with an optional low-rank adapter:
 *     y = x W^T + b + s ((x A^T) * q) B,     W [out, in], A [r, in], B [r, out]
 * B is kept transposed to the usual LoRA layout so that all its products run along rows. q [r] are
 * the selection variables (AutoLoRA, eq. 3); without them q = 1 (plain LoRA). In the form of a
 * singular value decomposition (AdaLoRA) q are the singular values, which are trained factors
 * themselves; the tangents then hold them constant.
 * On a grid a rank has some columns of x and y, a piece of W, and all of A and
 * B: of their gradients it makes its columns, of q's what its row adds, in column 0. */
#ifndef AUTOLORA_MODEL_LINEAR_H
#define AUTOLORA_MODEL_LINEAR_H

#include "math/grid.h"
#include "math/kernels.h"
#include "model/point.h"

#include <stdbool.h>
#include <stddef.h>

struct adapter {
    size_t rank;               /* lora_rank; 0: no adapter */
    float scale;               /* lora_scale s */
    size_t a_offset, b_offset; /* into the factors */
    size_t selection_offset;   /* into the selection variables */
    bool has_singular_values;
    size_t singular_offset; /* into the factors: [r] */
    size_t module;          /* number of the module in the whole model */
    float dropout;          /* rate on the adapter's input */
};

struct linear {
    struct base_tensor weight, bias;    /* element (out, in) and element (out) */
    size_t input_size, output_size;     /* of the whole W */
    size_t output_stride, input_stride; /* of the weight: in, 1 for [out, in]; 1, n for [in, n] */
    struct dealt_weight dealt; /* dealt.grid NULL: no grid; else how weight.frozen is a piece */
    struct adapter adapter;
};

/* Which columns of x and y are here. */
static inline struct share linear_inputs(const struct linear *linear) {
    return linear->dealt.grid != NULL ? linear->dealt.inputs : share_whole(linear->input_size);
}

static inline struct share linear_outputs(const struct linear *linear) {
    return linear->dealt.grid != NULL ? linear->dealt.outputs : share_whole(linear->output_size);
}

/* Room for one linear's intermediate results; contents do not survive a call. */
struct linear_scratch {
    float *low_rank, *low_rank_tangent; /* [tokens, largest rank] */
    float *wide;                        /* [tokens, largest input or output size] */
    size_t row_block; /* on a grid: the most tokens that a row of it has in this call */
};

/* All below: x [tokens, in], y [tokens, out] (their columns that are here); h = (dropped-out x) A^T
 * [tokens, rank] is saved by the forward pass. `dropout` describes the adapter's own dropout (its
 * rate may be 0). */
void linear_forward(const struct linear *linear, const struct point *point, const float *x,
                    size_t tokens, const struct dropout *dropout, struct linear_scratch *scratch,
                    float *h, float *y);

/* Gradients of A, B, q, of W and b where they are trained, and, unless d_x is NULL, d_x [tokens,
 * in] (added to if accumulate). */
void linear_backward(const struct linear *linear, const struct point *point, const float *x,
                     const float *h, const float *d_y, size_t tokens, const struct dropout *dropout,
                     struct linear_scratch *scratch, struct gradient *gradient, bool accumulate,
                     float *d_x);

/* t_y and t_h along (t_x, direction of the factors); t_x == NULL means zero. W and b must be
 * frozen. */
void linear_tangent(const struct linear *linear, const struct point *point, const float *direction,
                    const float *x, const float *t_x, const float *h, size_t tokens,
                    const struct dropout *dropout, struct linear_scratch *scratch, float *t_h,
                    float *t_y);

/* Tangents of the gradient of q (t_d_selection, all modules of the stage) and, unless t_d_x is
 * NULL, of d_x. */
void linear_backward_tangent(const struct linear *linear, const struct point *point,
                             const float *direction, const float *h, const float *t_h,
                             const float *d_y, const float *t_d_y, size_t tokens,
                             const struct dropout *dropout, struct linear_scratch *scratch,
                             float *t_d_selection, bool accumulate, float *t_d_x);

#endif
