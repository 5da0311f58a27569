/* Philox4x32-10. The 128-bit counter holds the position in the stream (low 64 bits) and half of the
 * stream's identity (high 64 bits); the key holds the other half. */
#include "base/random.h"

#include <math.h>

enum { ROUNDS = 10, DROPOUT_LANES = 16 };

static const uint32_t MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
static const uint32_t WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;

/* SplitMix64's finalizer: a bijection of 64 bits that mixes all of them. */
static uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

struct random_stream random_stream_make(uint64_t seed, enum random_purpose purpose,
                                        uint64_t identity, uint64_t step, uint64_t sample) {
    uint64_t first = mix64(seed + 0x9E3779B97F4A7C15u * (uint64_t)purpose);
    first = mix64(first ^ (identity + 0x632BE59BD9B4E019u));
    uint64_t second = mix64(first ^ mix64(step + 0xD1B54A32D192ED03u));
    second = mix64(second ^ (sample + 0x8CB92BA72F3D8DD7u));
    struct random_stream stream = {
        .key = {(uint32_t)first, (uint32_t)(first >> 32)},
        .high = {(uint32_t)second, (uint32_t)(second >> 32)},
    };
    return stream;
}

void random_words(const struct random_stream *stream, uint64_t index, uint32_t words[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = stream->high[0], c3 = stream->high[1];
    uint32_t k0 = stream->key[0], k1 = stream->key[1];
    for (int round = 0; round < ROUNDS; ++round) {
        const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0, p1 = (uint64_t)MULTIPLIER_1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

float random_uniform(const struct random_stream *stream, uint64_t index) {
    uint32_t words[4];
    random_words(stream, index, words);
    return (float)(words[0] >> 8) * 0x1p-24f;
}

float random_normal(const struct random_stream *stream, uint64_t index) {
    uint32_t words[4];
    random_words(stream, index, words);
    const double u = ((double)words[0] + 1.0) * 0x1p-32, v = (double)words[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint64_t random_below(const struct random_stream *stream, uint64_t index, uint64_t bound) {
    uint32_t words[4];
    random_words(stream, index, words);
    const uint64_t bits = ((uint64_t)words[1] << 32) | words[0];
    return (uint64_t)(((unsigned __int128)bits * bound) >> 64);
}

void random_permutation(const struct random_stream *stream, size_t count, uint32_t *permutation) {
    for (size_t i = 0; i < count; ++i)
        permutation[i] = (uint32_t)i;
    for (size_t i = count; i > 1; --i) {
        const size_t j = (size_t)random_below(stream, i, i);
        const uint32_t swapped = permutation[i - 1];
        permutation[i - 1] = permutation[j];
        permutation[j] = swapped;
    }
}

/* Counters index .. index + 15 at once, in the shape that compilers turn into vector code; each
 * yields eight 16-bit numbers. */
static void dropout_block(const struct random_stream *stream, uint64_t first, uint32_t threshold,
                          float kept, float multipliers[DROPOUT_LANES * 8]) {
    uint32_t c0[DROPOUT_LANES], c1[DROPOUT_LANES], c2[DROPOUT_LANES], c3[DROPOUT_LANES];
    uint32_t k0 = stream->key[0], k1 = stream->key[1];
    for (int i = 0; i < DROPOUT_LANES; ++i) {
        const uint64_t index = first + (uint64_t)i;
        c0[i] = (uint32_t)index;
        c1[i] = (uint32_t)(index >> 32);
        c2[i] = stream->high[0];
        c3[i] = stream->high[1];
    }
    for (int round = 0; round < ROUNDS; ++round) {
#pragma omp simd
        for (int i = 0; i < DROPOUT_LANES; ++i) {
            const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0[i];
            const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    const uint32_t *words[4] = {c0, c1, c2, c3};
    for (int w = 0; w < 4; ++w) {
#pragma omp simd
        for (int i = 0; i < DROPOUT_LANES; ++i) {
            multipliers[2 * w * DROPOUT_LANES + i] = (words[w][i] & 0xFFFFu) < threshold ? 0 : kept;
            multipliers[(2 * w + 1) * DROPOUT_LANES + i] =
                (words[w][i] >> 16) < threshold ? 0 : kept;
        }
    }
}

void random_dropout_multiply(const struct random_stream *stream, float rate, size_t count,
                             float *x) {
    random_dropout_multiply_from(stream, rate, 0, count, x);
}

void random_dropout_multiply_from(const struct random_stream *stream, float rate, size_t first,
                                  size_t count, float *x) {
    const uint32_t threshold = (uint32_t)lrintf(rate * 65536.0f);
    const float kept = threshold >= 65536 ? 0 : 65536.0f / (float)(65536 - threshold);
    const size_t block = DROPOUT_LANES * 8;
    for (size_t done = 0; done < count;) {
        float multipliers[DROPOUT_LANES * 8];
        const size_t skipped = (first + done) % block, left = block - skipped;
        dropout_block(stream, (first + done - skipped) / 8, threshold, kept, multipliers);
        const size_t now = count - done < left ? count - done : left;
#pragma omp simd
        for (size_t i = 0; i < now; ++i)
            x[done + i] *= multipliers[skipped + i];
        done += now;
    }
}
