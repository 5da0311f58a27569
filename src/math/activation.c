/* gelu in its tanh form, and the choice between the two forms. */
#include "math/activation.h"

#include "math/elementary.h"
#include "math/kernels.h"

enum { CHUNK = 4096 };

/* With s = c (u + a u^3): (1 + tanh s) / 2 = 1 / (1 + exp(-2 s)) = g, so y = u g. */
static const float TWICE_ROOT = 1.5957691216057308f; /* 2 sqrt(2 / pi) = 2 c */
static const float CUBIC = 0.044715f;                /* a */

static inline float gate(float u) {
    return 1.0f / (1.0f + exp_float(-TWICE_ROOT * (u + CUBIC * u * u * u)));
}

/* (2 s)' and y' = g + u g', g' = g (1 - g) (2 s)'. */
static inline float gate_slope(float u) {
    return TWICE_ROOT * (1.0f + 3.0f * CUBIC * u * u);
}

static inline float first_derivative(float u) {
    const float g = gate(u);
    return g + u * g * (1.0f - g) * gate_slope(u);
}

/* y'' = 2 g' + u g'', g'' = g (1 - g) ((1 - 2 g) (2 s)'^2 + (2 s)''). */
static inline float second_derivative(float u) {
    const float g = gate(u), bend = g * (1.0f - g), slope = gate_slope(u);
    const float curve = TWICE_ROOT * 6.0f * CUBIC * u;
    return bend * (2.0f * slope + u * ((1.0f - 2.0f * g) * slope * slope + curve));
}

static void gelu_tanh_forward(const float *u, size_t count, float *y) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i)
        y[i] = u[i] * gate(u[i]);
}

static void gelu_tanh_backward(const float *d_y, const float *u, size_t count, float *d_u) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i)
        d_u[i] = d_y[i] * first_derivative(u[i]);
}

static void gelu_tanh_backward_tangent(const float *d_y, const float *t_d_y, const float *u,
                                       const float *t_u, size_t count, float *t_d_u) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i)
        t_d_u[i] = t_d_y[i] * first_derivative(u[i]) + d_y[i] * second_derivative(u[i]) * t_u[i];
}

void activation_forward(enum activation activation, const float *u, size_t count, float *y) {
    if (activation == ACTIVATION_GELU)
        gelu_forward(u, count, y);
    else
        gelu_tanh_forward(u, count, y);
}

void activation_backward(enum activation activation, const float *d_y, const float *u, size_t count,
                         float *d_u) {
    if (activation == ACTIVATION_GELU)
        gelu_backward(d_y, u, count, d_u);
    else
        gelu_tanh_backward(d_y, u, count, d_u);
}

void activation_tangent(enum activation activation, const float *t_u, const float *u, size_t count,
                        float *t_y) {
    activation_backward(activation, t_u, u, count, t_y); /* the Jacobian is diagonal */
}

void activation_backward_tangent(enum activation activation, const float *d_y, const float *t_d_y,
                                 const float *u, const float *t_u, size_t count, float *t_d_u) {
    if (activation == ACTIVATION_GELU)
        gelu_backward_tangent(d_y, t_d_y, u, t_u, count, t_d_u);
    else
        gelu_tanh_backward_tangent(d_y, t_d_y, u, t_u, count, t_d_u);
}
