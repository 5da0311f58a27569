/* Linked around the whole program (-Wl,--wrap, see the Makefile): every call of a wrapped function
 * goes through here, is counted or timed, and done as ever. Nothing of it is in the program itself.
 *
 *     AUTOLORA_PROBE_OUT   file or FIFO: one JSON object for each iteration of search or retraining
 *     AUTOLORA_PROBE_IN    FIFO: each iteration, and each generation, waits for a line from there
 *     AUTOLORA_PROBE_CPU=1           seconds are the process's CPU time
 *     AUTOLORA_PROBE_BATCHES=1       the token ids and labels of each batch, too
 *     AUTOLORA_PROBE_FACTORS=PATH    the factors that training starts from: a line of JSON for each
 *                                    (name, rows, columns), an empty line, then the floats
 *
 * Ranks that wait sleep, so that what runs meanwhile has the cores. What the probe itself takes is
 * not in the seconds. */
#include "base/memory.h"
#include "base/timer.h"
#include "math/activation.h"
#include "math/gemm.h"
#include "math/kernels.h"
#include "math/small_product.h"
#include "model/attention.h"
#include "model/embedding.h"
#include "parallel/watchdog.h"
#include "train/generate.h"
#include "train/optimizer.h"
#include "train/pipeline.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <blis.h>
#pragma GCC diagnostic pop
#include <mpi.h>
#include <omp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_KERNELS = 128, MAX_PHASES = 64, MAX_DEPTH = 8, NAME_BYTES = 96 };

/* ---- what is counted ---- */

enum counter {
    PRODUCTS,       /* calls of BLIS */
    PRODUCT_FLOPS,  /* 2 m n k each */
    SMALL_PRODUCTS, /* written out instead */
    SMALL_FLOPS,
    ALLOCATIONS,
    MESSAGES, /* sent by this rank; of a collective what it gives */
    MESSAGE_BYTES,
    NUM_COUNTERS
};
static const char *const COUNTER_NAMES[] = {
    "products",    "product_flops", "small_products", "small_flops",
    "allocations", "messages",      "message_bytes",
};

/* A kernel, or the products of one shape; a phase of the timer tree by its path. */
struct timed {
    char name[NAME_BYTES];
    size_t calls;
    double seconds, flops;
};

static struct probe {
    FILE *out, *in;
    bool is_open, prints_batches, uses_cpu_time;
    MPI_Comm comm;
    int mpi_rank, size;
    double start; /* of the iteration */
    double own;   /* of it, the probe's */
    _Atomic uint64_t counters[NUM_COUNTERS];
    struct timed kernels[MAX_KERNELS], phases[MAX_PHASES];
    size_t num_kernels, num_phases;
    const char *path[MAX_DEPTH];
    double since[MAX_DEPTH];
    size_t depth;
} probe;

static void count(enum counter counter, size_t amount) {
    atomic_fetch_add_explicit(&probe.counters[counter], amount, memory_order_relaxed);
}

static struct timed *timed_of(struct timed *list, size_t *size, size_t capacity, const char *name) {
    for (size_t i = 0; i < *size; ++i)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    if (*size == capacity) {
        fprintf(stderr, "probe: no room for %s\n", name);
        exit(1);
    }
    snprintf(list[*size].name, NAME_BYTES, "%s", name);
    return &list[(*size)++];
}

static void add_kernel(const char *name, double seconds, double flops) {
    struct timed *kernel = timed_of(probe.kernels, &probe.num_kernels, MAX_KERNELS, name);
    ++kernel->calls;
    kernel->seconds += seconds;
    kernel->flops += flops;
}

static double now(void) {
    struct timespec time;
    clock_gettime(probe.uses_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- the iterations ---- */

static FILE *open_named(const char *variable, const char *mode) {
    const char *path = getenv(variable);
    FILE *file = path == NULL ? NULL : fopen(path, mode);
    if (path != NULL && file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

static void open_probe(void) {
    if (probe.is_open)
        return;
    probe.is_open = true;
    probe.uses_cpu_time = getenv("AUTOLORA_PROBE_CPU") != NULL;
    PMPI_Comm_dup(MPI_COMM_WORLD, &probe.comm);
    PMPI_Comm_rank(probe.comm, &probe.mpi_rank);
    PMPI_Comm_size(probe.comm, &probe.size);
    if (probe.mpi_rank == 0) {
        probe.out = open_named("AUTOLORA_PROBE_OUT", "w");
        probe.in = open_named("AUTOLORA_PROBE_IN", "r");
        probe.prints_batches = getenv("AUTOLORA_PROBE_BATCHES") != NULL && probe.out != NULL;
    }
}

/* Whether to go on with what waits: a line "go" came, or nobody has to be waited for. */
static bool wait_for_line(void) {
    char line[64] = "";
    int goes_on = 0, is_done = 0;
    if (probe.in != NULL)
        goes_on = fgets(line, sizeof line, probe.in) != NULL && strncmp(line, "go", 2) == 0;
    MPI_Request request;
    PMPI_Ibcast(&goes_on, 1, MPI_INT, 0, probe.comm, &request);
    while (!is_done) {
        PMPI_Test(&request, &is_done, MPI_STATUS_IGNORE);
        if (!is_done)
            usleep(300);
    }
    return goes_on != 0;
}

static size_t resident_peak(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024;
}

/* "name": [value of each rank], */
static void print_ranks(const char *name, double mine) {
    double *all = malloc((size_t)probe.size * sizeof *all);
    PMPI_Gather(&mine, 1, MPI_DOUBLE, all, 1, MPI_DOUBLE, 0, probe.comm);
    if (probe.out != NULL) {
        fprintf(probe.out, "\"%s\": [", name);
        for (int rank = 0; rank < probe.size; ++rank)
            fprintf(probe.out, "%s%.9g", rank > 0 ? ", " : "", all[rank]);
        fprintf(probe.out, "], ");
    }
    free(all);
}

static void print_text(const char *format, ...) {
    if (probe.out == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(probe.out, format, arguments);
    va_end(arguments);
}

static void print_iteration(double seconds) {
    print_text("{\"seconds\": %.9g, ", seconds);
    for (int i = 0; i < NUM_COUNTERS; ++i)
        print_ranks(COUNTER_NAMES[i], (double)probe.counters[i]);
    print_ranks("resident_peak", (double)resident_peak());
    print_text("\"phases\": {");
    for (size_t i = 0; i < probe.num_phases; ++i)
        print_ranks(probe.phases[i].name, probe.phases[i].seconds);
    print_text("\"\": []}, \"kernels\": {");
    for (size_t i = 0; i < probe.num_kernels; ++i)
        if (probe.kernels[i].calls > 0)
            print_text("\"%s\": [%zu, %.9g, %.9g], ", probe.kernels[i].name, probe.kernels[i].calls,
                       probe.kernels[i].seconds, probe.kernels[i].flops);
    print_text("\"\": []}, ");
}

static void reset(void) {
    for (int i = 0; i < NUM_COUNTERS; ++i)
        probe.counters[i] = 0;
    for (size_t i = 0; i < probe.num_phases; ++i)
        probe.phases[i].seconds = 0;
    for (size_t i = 0; i < probe.num_kernels; ++i)
        probe.kernels[i] = (struct timed){.name = ""};
    probe.num_kernels = 0;
    probe.own = 0;
}

__typeof__(activity_step) __real_activity_step, __wrap_activity_step;
/* The end of an iteration is the begin of the next. */
void __wrap_activity_step(struct activity *activity, const char *phase, size_t step) {
    open_probe();
    const double end = now();
    print_iteration(end - probe.start - probe.own);
    print_text("\"phase\": \"%s\", \"step\": %zu}\n", phase, step);
    if (probe.out != NULL)
        fflush(probe.out);
    wait_for_line();
    reset();
    __real_activity_step(activity, phase, step);
    probe.start = now();
}

static void print_contexts(const struct lm_references *references) {
    print_text("{\"phase\": \"generation\", \"contexts\": [");
    for (size_t i = 0; i < references->count; ++i) {
        print_text("%s[", i > 0 ? ", " : "");
        for (size_t j = references->context_offsets[i]; j < references->context_offsets[i + 1]; ++j)
            print_text("%s%d", j > references->context_offsets[i] ? ", " : "",
                       references->context_ids[j]);
        print_text("]");
    }
    print_text("]}\n");
    if (probe.out != NULL)
        fflush(probe.out);
}

__typeof__(generate_texts) __real_generate_texts, __wrap_generate_texts;
bool __wrap_generate_texts(const struct comms *comms, const struct stage *stage,
                           const struct point *point, const struct generation_options *options,
                           const struct lm_references *references, struct generated *generated,
                           struct problem *problem) {
    open_probe();
    print_contexts(references);
    while (wait_for_line()) {
        reset();
        const double start = now();
        if (!__real_generate_texts(comms, stage, point, options, references, generated, problem))
            return false;
        print_iteration(now() - start);
        print_text("\"phase\": \"generation\", \"tokens\": [");
        for (size_t i = 0; i < generated->count; ++i) {
            print_text("%s[", i > 0 ? ", " : "");
            for (size_t j = generated->offsets[i]; j < generated->offsets[i + 1]; ++j)
                print_text("%s%d", j > generated->offsets[i] ? ", " : "", generated->tokens[j]);
            print_text("]");
        }
        print_text("]}\n");
        if (probe.out != NULL)
            fflush(probe.out);
        generated_free(generated);
    }
    return __real_generate_texts(comms, stage, point, options, references, generated, problem);
}

/* ---- the timer tree's phases, by their paths ---- */

__typeof__(timer_start) __real_timer_start, __wrap_timer_start;
void __wrap_timer_start(struct timer_tree *tree, const char *name) {
    __real_timer_start(tree, name);
    if (probe.depth == MAX_DEPTH)
        exit(1);
    probe.path[probe.depth] = name;
    probe.since[probe.depth++] = now();
}

__typeof__(timer_stop) __real_timer_stop, __wrap_timer_stop;
void __wrap_timer_stop(struct timer_tree *tree) {
    char name[NAME_BYTES] = "";
    for (size_t i = 0; i < probe.depth; ++i)
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%s", i > 0 ? "/" : "",
                 probe.path[i]);
    timed_of(probe.phases, &probe.num_phases, MAX_PHASES, name)->seconds +=
        now() - probe.since[--probe.depth];
    __real_timer_stop(tree);
}

/* ---- batches and factors, for another program to do the same ---- */

static void print_batch(const struct dataset *dataset, const struct batch *batch) {
    const bool labels_tokens = task_labels_tokens(dataset->kind);
    print_text("{\"batch\": [");
    for (size_t b = 0; b < batch->num_microbatches; ++b) {
        const struct microbatch *m = &batch->microbatches[b];
        for (size_t s = 0; s < m->num_sequences; ++s) {
            print_text("%s[[", b + s > 0 ? ", " : "");
            for (size_t i = m->offsets[s]; i < m->offsets[s + 1]; ++i)
                print_text("%s%d", i > m->offsets[s] ? ", " : "", m->token_ids[i]);
            print_text("], [");
            const size_t first = labels_tokens ? m->offsets[s] : s;
            const size_t end = labels_tokens ? m->offsets[s + 1] : s + 1;
            for (size_t i = first; i < end; ++i)
                print_text("%s%d", i > first ? ", " : "", m->labels[i]);
            print_text("]]");
        }
    }
    print_text("]}\n");
}

__typeof__(batch_fill) __real_batch_fill, __wrap_batch_fill;
void __wrap_batch_fill(struct batch *batch, const struct dataset *dataset, const uint32_t *examples,
                       size_t size, uint64_t step, bool has_dropout) {
    double start = now();
    __real_batch_fill(batch, dataset, examples, size, step, has_dropout);
    add_kernel("batch_fill", now() - start, 0);
    start = now();
    if (probe.prints_batches && has_dropout)
        print_batch(dataset, batch);
    probe.own += now() - start;
}

static void save_factors(const struct pipeline *pipeline, const struct point *point) {
    static bool is_done;
    const char *path = getenv("AUTOLORA_PROBE_FACTORS");
    if (is_done || path == NULL)
        return;
    is_done = true;
    const struct parameter_table *table = &pipeline_stage(pipeline)->factors;
    FILE *file = fopen(path, "wb");
    for (size_t i = 0; i < table->count; ++i)
        fprintf(file, "{\"name\": \"%s\", \"rows\": %zu, \"columns\": %zu}\n",
                table->entries[i].name, table->entries[i].rows, table->entries[i].columns);
    fprintf(file, "\n");
    for (size_t i = 0; i < table->count; ++i)
        fwrite(point->factors + table->entries[i].offset, sizeof(float),
               table->entries[i].rows * table->entries[i].columns, file);
    fclose(file);
}

__typeof__(pipeline_gradient) __real_pipeline_gradient, __wrap_pipeline_gradient;
double __wrap_pipeline_gradient(struct pipeline *pipeline, const struct point *point,
                                const struct batch *batch, bool keep, struct gradient *gradient) {
    const double start = now();
    save_factors(pipeline, point);
    probe.own += now() - start;
    const double loss = __real_pipeline_gradient(pipeline, point, batch, keep, gradient);
    if (probe.prints_batches)
        print_text("{\"loss\": %.9g}\n", loss);
    return loss;
}

/* ---- memory ---- */

__typeof__(memory_allocate) __real_memory_allocate, __wrap_memory_allocate;
void *__wrap_memory_allocate(size_t number, size_t size, const char *what) {
    count(ALLOCATIONS, 1);
    return __real_memory_allocate(number, size, what);
}

__typeof__(memory_resize) __real_memory_resize, __wrap_memory_resize;
void *__wrap_memory_resize(void *pointer, size_t number, size_t size, const char *what) {
    count(ALLOCATIONS, 1);
    return __real_memory_resize(pointer, number, size, what);
}

__typeof__(memory_copy_string) __real_memory_copy_string, __wrap_memory_copy_string;
char *__wrap_memory_copy_string(const char *text) {
    count(ALLOCATIONS, 1);
    return __real_memory_copy_string(text);
}

char *__wrap_memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *__wrap_memory_format(const char *format, ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        exit(1);
    char *copy = __wrap_memory_copy_string(text);
    free(text);
    return copy;
}

/* ---- messages ---- */

static void count_message(int number, MPI_Datatype type) {
    int size;
    PMPI_Type_size(type, &size);
    count(MESSAGES, 1);
    count(MESSAGE_BYTES, (size_t)number * (size_t)size);
}

int MPI_Send(const void *buffer, int number, MPI_Datatype type, int target, int tag,
             MPI_Comm comm) {
    count_message(number, type);
    return PMPI_Send(buffer, number, type, target, tag, comm);
}

int MPI_Isend(const void *buffer, int number, MPI_Datatype type, int target, int tag, MPI_Comm comm,
              MPI_Request *request) {
    count_message(number, type);
    return PMPI_Isend(buffer, number, type, target, tag, comm, request);
}

int MPI_Sendrecv(const void *buffer, int number, MPI_Datatype type, int target, int tag,
                 void *received, int received_number, MPI_Datatype received_type, int source,
                 int received_tag, MPI_Comm comm, MPI_Status *status) {
    count_message(number, type);
    return PMPI_Sendrecv(buffer, number, type, target, tag, received, received_number,
                         received_type, source, received_tag, comm, status);
}

int MPI_Bcast(void *buffer, int number, MPI_Datatype type, int root, MPI_Comm comm) {
    int mpi_rank;
    PMPI_Comm_rank(comm, &mpi_rank);
    if (mpi_rank == root)
        count_message(number, type);
    return PMPI_Bcast(buffer, number, type, root, comm);
}

int MPI_Allreduce(const void *mine, void *all, int number, MPI_Datatype type, MPI_Op operation,
                  MPI_Comm comm) {
    count_message(number, type);
    return PMPI_Allreduce(mine, all, number, type, operation, comm);
}

int MPI_Gatherv(const void *mine, int number, MPI_Datatype type, void *all, const int *numbers,
                const int *places, MPI_Datatype all_type, int root, MPI_Comm comm) {
    count_message(number, type);
    return PMPI_Gatherv(mine, number, type, all, numbers, places, all_type, root, comm);
}

int MPI_Allgather(const void *mine, int number, MPI_Datatype type, void *all, int all_number,
                  MPI_Datatype all_type, MPI_Comm comm) {
    count_message(number, type);
    return PMPI_Allgather(mine, number, type, all, all_number, all_type, comm);
}

int MPI_Allgatherv(const void *mine, int number, MPI_Datatype type, void *all, const int *numbers,
                   const int *places, MPI_Datatype all_type, MPI_Comm comm) {
    count_message(number, type);
    return PMPI_Allgatherv(mine, number, type, all, numbers, places, all_type, comm);
}

/* ---- products ---- */

static _Thread_local size_t products_here; /* BLIS's, of this thread */

__typeof__(bli_sgemm_ex) __real_bli_sgemm_ex, __wrap_bli_sgemm_ex;
void __wrap_bli_sgemm_ex(trans_t a_form, trans_t b_form, dim_t m, dim_t n, dim_t k, float *alpha,
                         float *a, inc_t a_rows, inc_t a_columns, float *b, inc_t b_rows,
                         inc_t b_columns, float *beta, float *c, inc_t c_rows, inc_t c_columns,
                         cntx_t *context, rntm_t *runtime) {
    ++products_here;
    count(PRODUCTS, 1);
    count(PRODUCT_FLOPS, 2 * (size_t)m * (size_t)n * (size_t)k);
    __real_bli_sgemm_ex(a_form, b_form, m, n, k, alpha, a, a_rows, a_columns, b, b_rows, b_columns,
                        beta, c, c_rows, c_columns, context, runtime);
}

__typeof__(small_product) __real_small_product, __wrap_small_product;
void __wrap_small_product(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                          size_t c_stride) {
    const size_t before = products_here;
    __real_small_product(scale, a, b, accumulate, c, c_stride);
    if (products_here != before)
        return;
    count(SMALL_PRODUCTS, 1);
    count(SMALL_FLOPS, 2 * a.rows * a.columns * b.columns);
}

/* By shape: M x N x K, then t for each operand whose rows are not contiguous, + for c += a b. */
__typeof__(gemm) __real_gemm, __wrap_gemm;
void __wrap_gemm(float scale, struct matrix a, struct matrix b, bool accumulate, float *c,
                 size_t c_stride) {
    if (omp_in_parallel()) {
        __real_gemm(scale, a, b, accumulate, c, c_stride);
        return;
    }
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "gemm %zu %zu %zu %c%c%s", a.rows, b.columns, a.columns,
             a.column_stride == 1 ? 'n' : 't', b.column_stride == 1 ? 'n' : 't',
             accumulate ? "+" : "");
    const double start = now();
    __real_gemm(scale, a, b, accumulate, c, c_stride);
    add_kernel(name, now() - start, 2.0 * (double)(a.rows * a.columns) * (double)b.columns);
}

/* ---- other kernels; their threads are within ---- */

#define TIMED(name, parameters, arguments)                                                         \
    __typeof__(name) __real_##name, __wrap_##name;                                                 \
    void __wrap_##name parameters {                                                                \
        const double start = now();                                                                \
        __real_##name arguments;                                                                   \
        add_kernel(#name, now() - start, 0);                                                       \
    }

TIMED(bias_add, (const float *bias, size_t tokens, size_t width, float *y),
      (bias, tokens, width, y))
TIMED(vector_add, (const float *x, size_t size, float *y), (x, size, y))
TIMED(column_sums, (const float *x, size_t tokens, size_t width, float *sums),
      (x, tokens, width, sums))
TIMED(layer_norm_forward,
      (const float *x, const float *weight, const float *bias, float epsilon, size_t tokens,
       size_t width, float *normalized, float *deviation, float *y),
      (x, weight, bias, epsilon, tokens, width, normalized, deviation, y))
TIMED(layer_norm_backward,
      (const float *d_y, const float *normalized, const float *deviation, const float *weight,
       size_t tokens, size_t width, float *d_x),
      (d_y, normalized, deviation, weight, tokens, width, d_x))
TIMED(layer_norm_tangent,
      (const float *t_x, const float *normalized, const float *deviation, const float *weight,
       size_t tokens, size_t width, float *t_normalized, float *t_deviation, float *t_y),
      (t_x, normalized, deviation, weight, tokens, width, t_normalized, t_deviation, t_y))
TIMED(layer_norm_backward_tangent,
      (const float *d_y, const float *t_d_y, const float *normalized, const float *t_normalized,
       const float *deviation, const float *t_deviation, const float *weight, size_t tokens,
       size_t width, float *t_d_x),
      (d_y, t_d_y, normalized, t_normalized, deviation, t_deviation, weight, tokens, width, t_d_x))
TIMED(dropout_apply, (const struct dropout *dropout, size_t width, float *x), (dropout, width, x))
TIMED(activation_forward, (enum activation activation, const float *u, size_t size, float *y),
      (activation, u, size, y))
TIMED(activation_backward,
      (enum activation activation, const float *d_y, const float *u, size_t size, float *d_u),
      (activation, d_y, u, size, d_u))
TIMED(activation_tangent,
      (enum activation activation, const float *t_u, const float *u, size_t size, float *t_y),
      (activation, t_u, u, size, t_y))
TIMED(activation_backward_tangent,
      (enum activation activation, const float *d_y, const float *t_d_y, const float *u,
       const float *t_u, size_t size, float *t_d_u),
      (activation, d_y, t_d_y, u, t_u, size, t_d_u))
TIMED(attention_forward,
      (const struct attention *attention, const struct microbatch *microbatch, const float *query,
       const float *key, const float *value, struct attention_scratch *scratch,
       float *probabilities, float *context),
      (attention, microbatch, query, key, value, scratch, probabilities, context))
TIMED(attention_backward,
      (const struct attention *attention, const struct microbatch *microbatch, const float *query,
       const float *key, const float *value, const float *probabilities, const float *d_context,
       struct attention_scratch *scratch, float *d_query, float *d_key, float *d_value),
      (attention, microbatch, query, key, value, probabilities, d_context, scratch, d_query, d_key,
       d_value))
TIMED(attention_tangent,
      (const struct attention *attention, const struct microbatch *microbatch, const float *query,
       const float *key, const float *value, const float *probabilities, const float *t_query,
       const float *t_key, const float *t_value, struct attention_scratch *scratch,
       float *t_probabilities, float *t_context),
      (attention, microbatch, query, key, value, probabilities, t_query, t_key, t_value, scratch,
       t_probabilities, t_context))
TIMED(attention_backward_tangent,
      (const struct attention *attention, const struct microbatch *microbatch,
       const struct attention_saved *saved, const float *t_d_context,
       struct attention_scratch *scratch, float *t_d_query, float *t_d_key, float *t_d_value),
      (attention, microbatch, saved, t_d_context, scratch, t_d_query, t_d_key, t_d_value))
TIMED(adam_update,
      (struct adam * adam, const struct adam_step *step, const struct parameter_table *table,
       const float *gradient, float *values),
      (adam, step, table, gradient, values))
