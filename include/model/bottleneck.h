/* A bottleneck adapter (Houlsby et al. 2019), in place behind an output projection:
 *     y = h + U gelu(u) + c,   u = D h + b
 * with D [size, hidden], U [hidden, size]; all four are trained. It has no tangents. */
#ifndef AUTOLORA_MODEL_BOTTLENECK_H
#define AUTOLORA_MODEL_BOTTLENECK_H

#include "model/point.h"

#include <stddef.h>

struct bottleneck {
    size_t size, hidden_size; /* size 0: no adapter */
    size_t down_weight_offset, down_bias_offset, up_weight_offset, up_bias_offset; /* factors */
};

/* y [tokens, hidden] is h, then the result; u [tokens, size] is kept for the backward pass. room:
 * [tokens, size]. */
void bottleneck_forward(const struct bottleneck *bottleneck, const struct point *point,
                        size_t tokens, float *room, float *u, float *y);

/* d [tokens, hidden] is the cotangent of y, then of h. rooms: two of [tokens, size]. */
void bottleneck_backward(const struct bottleneck *bottleneck, const struct point *point,
                         const float *h, const float *u, size_t tokens, float *const rooms[2],
                         const struct gradient *gradient, float *d);

#endif
