/* Bottleneck adapters. */
#include "model/bottleneck.h"

#include "math/gemm.h"
#include "math/kernels.h"

static struct matrix down_weight(const struct bottleneck *b, const struct point *point) {
    return matrix_of(point->factors + b->down_weight_offset, b->size, b->hidden_size);
}

static struct matrix up_weight(const struct bottleneck *b, const struct point *point) {
    return matrix_of(point->factors + b->up_weight_offset, b->hidden_size, b->size);
}

void bottleneck_forward(const struct bottleneck *b, const struct point *point, size_t tokens,
                        float *room, float *u, float *y) {
    const size_t size = b->size, width = b->hidden_size;
    gemm(1, matrix_of(y, tokens, width), matrix_transpose(down_weight(b, point)), false, u, size);
    bias_add(point->factors + b->down_bias_offset, tokens, size, u);
    gelu_forward(u, tokens * size, room);
    gemm(1, matrix_of(room, tokens, size), matrix_transpose(up_weight(b, point)), true, y, width);
    bias_add(point->factors + b->up_bias_offset, tokens, width, y);
}

void bottleneck_backward(const struct bottleneck *b, const struct point *point, const float *h,
                         const float *u, size_t tokens, float *const rooms[2],
                         const struct gradient *gradient, float *d) {
    const size_t size = b->size, width = b->hidden_size;
    const struct matrix d_view = matrix_of(d, tokens, width);
    /* y = h + U g + c, g = gelu(u) */
    float *g = rooms[0], *d_u = rooms[1];
    gelu_forward(u, tokens * size, g);
    gemm(1, matrix_transpose(d_view), matrix_of(g, tokens, size), false,
         gradient->factors + b->up_weight_offset, size);
    column_sums(d, tokens, width, gradient->factors + b->up_bias_offset);
    gemm(1, d_view, up_weight(b, point), false, d_u, size);
    gelu_backward(d_u, u, tokens * size, d_u);
    /* u = D h + b */
    gemm(1, matrix_transpose(matrix_of(d_u, tokens, size)), matrix_of(h, tokens, width), false,
         gradient->factors + b->down_weight_offset, width);
    column_sums(d_u, tokens, size, gradient->factors + b->down_bias_offset);
    gemm(1, matrix_of(d_u, tokens, size), down_weight(b, point), true, d, width);
}
