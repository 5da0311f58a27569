/* Elementary functions in a form that compilers turn into vector code: branch-free, float32.
 * exp_float is within 2 units in the last place, normal_distribution within 3e-7
 * (tests/unit/test_elementary.c). */
#ifndef AUTOLORA_MATH_ELEMENTARY_H
#define AUTOLORA_MATH_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float float_from_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* e^x: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor series of e^r to degree 7, then the exponent. */
static inline float exp_float(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = rintf(x * 1.44269504f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int32_t exponent = x == x ? (int32_t)n : 0; /* NaN goes through p */
    return p * float_from_bits((exponent + 127) << 23);
}

/* Standard normal density at u: exp(-u^2/2) / sqrt(2 pi). */
static inline float normal_density(float u) {
    return 0.39894228f * exp_float(-0.5f * u * u);
}

/* Standard normal distribution function at u, given its density there. With z = |u| / sqrt 2 and
 * t = 1 / (1 + 0.4 z) the tail is erfc(z) / 2 = exp(-z^2) t P(t) / 2, P of degree 8 fitted by
 * weighted least squares to a relative error of 6e-8. */
static inline float normal_distribution(float u, float density) {
    const float t = 1.0f / (1.0f + 0.28284271f * fabsf(u));
    float p = 0.03914106264710426f;
    p = p * t - 0.12989328801631927f;
    p = p * t + 0.06208182871341705f;
    p = p * t + 0.11348675936460495f;
    p = p * t + 0.06176652014255524f;
    p = p * t + 0.20122846961021423f;
    p = p * t + 0.19983354210853577f;
    p = p * t + 0.2267387956380844f;
    p = p * t + 0.22561636567115784f;
    const float tail = 1.25331414f * density * p * t;
    return u < 0 ? tail : 1.0f - tail;
}

#endif
