/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A number depends on what it
 * is for, never on which process draws it or on how many were drawn before. */
#ifndef AUTOLORA_BASE_RANDOM_H
#define AUTOLORA_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

enum random_purpose {
    RANDOM_INITIALIZE = 1,    /* identity: parameter */
    RANDOM_SHUFFLE,           /* identity: stream of batches; step: epoch */
    RANDOM_SPLIT,             /* the validation split */
    RANDOM_DROPOUT_HIDDEN,    /* identity: place in the model; step, sample */
    RANDOM_DROPOUT_ATTENTION, /* identity: block and head; step, sample */
    RANDOM_DROPOUT_ADAPTER,   /* identity: module; step, sample */
    RANDOM_RANKS,             /* random ranks; step: attempt */
    RANDOM_RESAMPLE,          /* blocks of the trace; step: resample */
};

/* A stream of numbers: (seed, purpose, identity, step, sample) hashed into Philox's key and the
 * upper half of its counter; the lower half counts within the stream. */
struct random_stream {
    uint32_t key[2];
    uint32_t high[2];
};

struct random_stream random_stream_make(uint64_t seed, enum random_purpose purpose,
                                        uint64_t identity, uint64_t step, uint64_t sample);

/* Four words at position `index` of the stream. */
void random_words(const struct random_stream *stream, uint64_t index, uint32_t words[4]);

/* Uniform in [0, 1) with 24 bits; element `index`. */
float random_uniform(const struct random_stream *stream, uint64_t index);
/* Standard normal (Box-Muller); element `index`. */
float random_normal(const struct random_stream *stream, uint64_t index);
/* Uniform integer in [0, bound), bound > 0; element `index`. */
uint64_t random_below(const struct random_stream *stream, uint64_t index, uint64_t bound);
/* Fisher-Yates shuffle of 0 .. count-1 into permutation [count]. */
void random_permutation(const struct random_stream *stream, size_t count, uint32_t *permutation);

/* Inverted dropout: multiplies `count` elements by 0 with probability `rate` (rounded to a multiple
 * of 2^-16) and by 1/(1-rate) otherwise. The multiplier of element j does not depend on count. */
void random_dropout_multiply(const struct random_stream *stream, float rate, size_t count,
                             float *x);
/* The same for `count` elements from number `first` of those that x is a part of. */
void random_dropout_multiply_from(const struct random_stream *stream, float rate, size_t first,
                                  size_t count, float *x);

#endif
