/* Rates of kernels, beside what the processor can do, measured in turn in one run:
 *
 *     kernels THREADS SECONDS < LINES      SECONDS: of each measurement, about
 *
 * For each line, a line of JSON {"seconds": per call, "peak": FLOP/s}. Lines are
 *     gemm M N K A B       C [M, N] = A B; A, B: n, rows contiguous, or t, columns contiguous
 *     large                BLIS at its best: the best of a few large products
 *     attention PASS LENGTH SEQUENCES HEADS SIZE      PASS: forward, backward, tangent,
 * backward_tangent row NAME TOKENS WIDTH                           NAME: gelu_forward, ... as below
 *     replay COUNT, then COUNT lines of gemm          all of them once, one after the other
 * "peak" is the rate of fused multiply-adds that use registers alone, just before.
 *
 * With AUTOLORA_PROBE_CPU in the environment the clock is the process's CPU time.
 *
 * Operands are in a ring that does not fit into the caches, as the weights and activations of a
 * model are. */
#include "math/kernels.h"
#include "base/memory.h"
#include "math/activation.h"
#include "math/gemm.h"
#include "model/attention.h"

#include <mpi.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_BYTES = 128, MAX_REPLAY = 4096 };

#if defined __AVX512F__
enum { VECTOR_BYTES = 64 };
#else
enum { VECTOR_BYTES = 32 };
#endif
enum { LANES = VECTOR_BYTES / sizeof(float), CHAINS = 12, ROUNDS = 100000 };
typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

static double now(void) {
    struct timespec time;
    clock_gettime(getenv("AUTOLORA_PROBE_CPU") != NULL ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC,
                  &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- the processor ---- */

static float chains_of_products(size_t rounds) {
    vector sum[CHAINS], factor, term;
    for (int lane = 0; lane < LANES; ++lane) {
        factor[lane] = 0.999f;
        term[lane] = 0.001f;
        for (int c = 0; c < CHAINS; ++c)
            sum[c][lane] = (float)(c + lane);
    }
    for (size_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; ++c)
            sum[c] = sum[c] * factor + term;
    float total = 0;
    for (int c = 0; c < CHAINS; ++c)
        for (int lane = 0; lane < LANES; ++lane)
            total += sum[c][lane];
    return total;
}

/* FLOP/s of all threads. */
static double peak_rate(double seconds) {
    const double start = now();
    double flops = 0, total = 0;
    do {
#pragma omp parallel reduction(+ : flops, total)
        {
            total += (double)chains_of_products(ROUNDS);
            flops += 2.0 * CHAINS * LANES * ROUNDS;
        }
    } while (now() - start < seconds);
    return total == 0 ? 0 : flops / (now() - start);
}

/* ---- operands ---- */

struct ring {
    float *values;
    size_t size, at;
};

static struct ring ring_create(size_t size) {
    struct ring ring = {.values = memory_allocate(size, sizeof(float), "operands"), .size = size};
    uint32_t bits = 1;
    for (size_t i = 0; i < size; ++i) {
        bits = bits * 1664525u + 1013904223u;
        ring.values[i] = (float)(bits >> 8) / (float)(1 << 24) - 0.5f;
    }
    return ring;
}

static float *take(struct ring *ring, size_t count) {
    const size_t rounded = (count + 15) / 16 * 16;
    if (rounded > ring->size) {
        fprintf(stderr, "kernels: %zu floats do not fit\n", count);
        exit(1);
    }
    if (ring->at + rounded > ring->size)
        ring->at = 0;
    ring->at += rounded;
    return ring->values + ring->at - rounded;
}

/* ---- products ---- */

struct product {
    size_t m, n, k;
    char a, b;
};

static struct matrix operand(struct ring *ring, size_t rows, size_t columns, char form) {
    const float *values = take(ring, rows * columns);
    return form == 'n' ? matrix_of(values, rows, columns)
                       : matrix_transpose(matrix_of(values, columns, rows));
}

static void multiply(const struct product *p, struct ring *ring) {
    const struct matrix a = operand(ring, p->m, p->k, p->a), b = operand(ring, p->k, p->n, p->b);
    gemm(1, a, b, false, take(ring, p->m * p->n), p->n);
}

/* Seconds of a call. */
static double time_product(const struct product *p, struct ring *ring, double seconds) {
    multiply(p, ring);
    const double start = now();
    size_t calls = 0;
    do {
        multiply(p, ring);
        ++calls;
    } while (now() - start < seconds);
    return (now() - start) / (double)calls;
}

/* Seconds of 1 GFLOP at BLIS's best. */
static double time_large(struct ring *ring, double seconds) {
    static const struct product LARGE[] = {{1024, 3072, 768, 'n', 't'},
                                           {1024, 768, 3072, 'n', 'n'},
                                           {4096, 3072, 768, 'n', 'n'},
                                           {2048, 2048, 2048, 'n', 'n'}};
    double best = 0;
    for (size_t i = 0; i < sizeof LARGE / sizeof *LARGE; ++i) {
        const double flops = 2.0 * (double)(LARGE[i].m * LARGE[i].n) * (double)LARGE[i].k;
        const double mine = time_product(&LARGE[i], ring, seconds) * 1e9 / flops;
        best = best == 0 || mine < best ? mine : best;
    }
    return best;
}

/* ---- attention, rows ---- */

static double time_attention(const char *pass, size_t length, size_t sequences, size_t heads,
                             size_t head_size, struct ring *ring, double seconds) {
    const size_t tokens = length * sequences, width = heads * head_size;
    const size_t pairs = sequences * length * length * heads;
    size_t *offsets = memory_allocate(sequences + 1, sizeof *offsets, "offsets");
    size_t *pair_offsets = memory_allocate(sequences + 1, sizeof *offsets, "offsets");
    uint32_t *samples = memory_allocate(sequences, sizeof *samples, "samples");
    for (size_t s = 0; s <= sequences; ++s) {
        offsets[s] = s * length;
        pair_offsets[s] = s * length * length;
    }
    const struct microbatch microbatch = {.num_sequences = sequences,
                                          .num_tokens = tokens,
                                          .longest = length,
                                          .offsets = offsets,
                                          .pair_offsets = pair_offsets,
                                          .samples = samples};
    const struct attention attention = {
        .num_heads = heads, .head_size = head_size, .scale = 0.125f};
    struct attention_scratch scratch = {.floats_per_thread = attention_scratch_floats(length)};
    scratch.values = memory_allocate(scratch.floats_per_thread,
                                     (size_t)omp_get_max_threads() * sizeof(float), "scratch");
    float *x[11]; /* q k v, of each the tangent; d_context and its tangent; three outputs */
    for (size_t i = 0; i < sizeof x / sizeof *x; ++i)
        x[i] = take(ring, tokens * width);
    float *p = take(ring, pairs), *t_p = take(ring, pairs);
    attention_forward(&attention, &microbatch, x[0], x[1], x[2], &scratch, p, x[8]);
    const struct attention_saved saved = {.query = x[0],
                                          .key = x[1],
                                          .value = x[2],
                                          .probabilities = p,
                                          .t_query = x[3],
                                          .t_key = x[4],
                                          .t_value = x[5],
                                          .t_probabilities = t_p,
                                          .d_context = x[6]};
    const double start = now();
    size_t calls = 0;
    do {
        if (strcmp(pass, "forward") == 0)
            attention_forward(&attention, &microbatch, x[0], x[1], x[2], &scratch, p, x[8]);
        else if (strcmp(pass, "backward") == 0)
            attention_backward(&attention, &microbatch, x[0], x[1], x[2], p, x[6], &scratch, x[8],
                               x[9], x[10]);
        else if (strcmp(pass, "tangent") == 0)
            attention_tangent(&attention, &microbatch, x[0], x[1], x[2], p, x[3], x[4], x[5],
                              &scratch, t_p, x[8]);
        else
            attention_backward_tangent(&attention, &microbatch, &saved, x[7], &scratch, x[8], x[9],
                                       x[10]);
        ++calls;
    } while (now() - start < seconds);
    const double each = (now() - start) / (double)calls;
    memory_free(scratch.values);
    memory_free(samples);
    memory_free(pair_offsets);
    memory_free(offsets);
    return each;
}

static void run_row(const char *name, size_t tokens, size_t width, float *const *x, float *small) {
    const size_t count = tokens * width;
    if (strcmp(name, "copy") == 0)
        memcpy(x[1], x[0], count * sizeof(float));
    else if (strcmp(name, "vector_add") == 0)
        vector_add(x[0], count, x[1]);
    else if (strcmp(name, "bias_add") == 0)
        bias_add(x[2], tokens, width, x[1]);
    else if (strcmp(name, "gelu_forward") == 0)
        activation_forward(ACTIVATION_GELU, x[0], count, x[1]);
    else if (strcmp(name, "gelu_backward") == 0)
        activation_backward(ACTIVATION_GELU, x[0], x[1], count, x[2]);
    else if (strcmp(name, "gelu_tanh_forward") == 0)
        activation_forward(ACTIVATION_GELU_TANH, x[0], count, x[1]);
    else if (strcmp(name, "gelu_tanh_backward") == 0)
        activation_backward(ACTIVATION_GELU_TANH, x[0], x[1], count, x[2]);
    else if (strcmp(name, "layer_norm_forward") == 0)
        layer_norm_forward(x[0], x[1], x[2], 1e-5f, tokens, width, x[3], small, x[4]);
    else if (strcmp(name, "layer_norm_backward") == 0)
        layer_norm_backward(x[0], x[1], small, x[2], tokens, width, x[3]);
    else {
        fprintf(stderr, "kernels: no kernel %s\n", name);
        exit(1);
    }
}

static double time_row(const char *name, size_t tokens, size_t width, struct ring *ring,
                       double seconds) {
    float *x[5], *small = take(ring, tokens);
    for (size_t i = 0; i < sizeof x / sizeof *x; ++i)
        x[i] = take(ring, tokens * width);
    run_row(name, tokens, width, x, small);
    const double start = now();
    size_t calls = 0;
    do {
        run_row(name, tokens, width, x, small);
        ++calls;
    } while (now() - start < seconds);
    return (now() - start) / (double)calls;
}

/* ---- lines ---- */

static bool read_product(const char *line, struct product *p) {
    return sscanf(line, "gemm %zu %zu %zu %c%c", &p->m, &p->n, &p->k, &p->a, &p->b) == 5;
}

static double replay(size_t count, struct ring *ring) {
    static struct product products[MAX_REPLAY];
    char line[LINE_BYTES];
    for (size_t i = 0; i < count; ++i)
        if (i == MAX_REPLAY || fgets(line, sizeof line, stdin) == NULL ||
            !read_product(line, &products[i]))
            return -1;
    const double start = now();
    for (size_t i = 0; i < count; ++i)
        multiply(&products[i], ring);
    return now() - start;
}

static double run_line(const char *line, struct ring *ring, double seconds) {
    char name[LINE_BYTES];
    size_t a, b, c, d;
    struct product product;
    if (read_product(line, &product))
        return time_product(&product, ring, seconds);
    if (strncmp(line, "large", 5) == 0)
        return time_large(ring, seconds);
    if (sscanf(line, "attention %127s %zu %zu %zu %zu", name, &a, &b, &c, &d) == 5)
        return time_attention(name, a, b, c, d, ring, seconds);
    if (sscanf(line, "row %127s %zu %zu", name, &a, &b) == 3)
        return time_row(name, a, b, ring, seconds);
    if (sscanf(line, "replay %zu", &a) == 1)
        return replay(a, ring);
    return -1;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const double seconds = argc > 2 ? atof(argv[2]) : 0.02;
    omp_set_num_threads(threads);
    gemm_set_threads(threads);
    struct ring ring = ring_create((size_t)1 << 26); /* 256 MiB */
    char line[LINE_BYTES];
    int code = 0;
    while (code == 0 && fgets(line, sizeof line, stdin) != NULL) {
        const double peak = peak_rate(seconds / 2);
        const double taken = run_line(line, &ring, seconds);
        code = taken < 0;
        printf("{\"seconds\": %.9g, \"peak\": %.9g}\n", taken, peak);
        fflush(stdout);
    }
    if (code != 0)
        fprintf(stderr, "kernels: cannot read: %s", line);
    memory_free(ring.values);
    MPI_Finalize();
    return code;
}
