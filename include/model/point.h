/* Where a loss is evaluated, its gradient there, and tensors that may be frozen or a part of that
 * point. */
#ifndef AUTOLORA_MODEL_POINT_H
#define AUTOLORA_MODEL_POINT_H

#include <stdbool.h>
#include <stddef.h>

/* Where the loss is evaluated: factors W (parameter_table layout) and selection variables q
 * (NULL: all ones). */
struct point {
    const float *factors;
    const float *selection;
};

/* Gradients in the layouts of a point. A pass overwrites the entries it computes. */
struct gradient {
    float *factors;
    float *selection; /* d loss / d q; NULL: not wanted */
};

/* A tensor of the pretrained model: frozen where the checkpoint has it, or trained. */
struct base_tensor {
    const float *frozen; /* NULL: trained, or not there */
    bool is_trained;
    size_t offset; /* into the factors, if trained */
};

static inline bool base_is_there(struct base_tensor tensor) {
    return tensor.is_trained || tensor.frozen != NULL;
}

static inline const float *base_values(struct base_tensor tensor, const struct point *point) {
    return tensor.is_trained ? point->factors + tensor.offset : tensor.frozen;
}

/* Only of a trained tensor. */
static inline float *base_gradient(struct base_tensor tensor, const struct gradient *gradient) {
    return gradient->factors + tensor.offset;
}

#endif
