/* The matrices of a finished run, one by one: the stage that owns a module gives it to all ranks,
 * and ScaLAPACK decomposes it on the grid. */
#include "spectrum.h"

#include "base/memory.h"
#include "math/low_rank.h"

#include <math.h>
#include <string.h>

static size_t smaller(size_t left, size_t right) {
    return left < right ? left : right;
}

/* ---- room ---- */

static struct singular_values make_values(size_t num_modules, size_t width) {
    return (struct singular_values){
        .values = memory_allocate(num_modules * width, sizeof(float), "singular values"),
        .effective_rank = memory_allocate(num_modules, sizeof(double), "effective ranks"),
        .stable_rank = memory_allocate(num_modules, sizeof(double), "stable ranks"),
        .num_above = memory_allocate(num_modules, sizeof(size_t), "numbers of values"),
    };
}

static void free_values(struct singular_values *values) {
    memory_free(values->values);
    memory_free(values->effective_rank);
    memory_free(values->stable_rank);
    memory_free(values->num_above);
}

static bool is_full(const struct job *job) {
    return job->config.adapter.method == METHOD_FULL;
}

static bool has_module(const struct job *job, int projection) {
    return is_full(job) || job->config.adapter.is_target[projection];
}

static void list_modules(const struct job *job, struct spectrum *spectrum) {
    const struct architecture *architecture = &job->architecture;
    const size_t most = architecture->num_blocks * NUM_PROJECTIONS;
    spectrum->names = memory_allocate(most, sizeof *spectrum->names, "module names");
    spectrum->rows = memory_allocate(most, sizeof *spectrum->rows, "sizes");
    spectrum->columns = memory_allocate(most, sizeof *spectrum->columns, "sizes");
    for (size_t block = 0; block < architecture->num_blocks; ++block)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (!has_module(job, p))
                continue;
            const size_t m = spectrum->num_modules++;
            const size_t rows = projection_output_size(architecture, (enum projection)p),
                         columns = projection_input_size(architecture, (enum projection)p);
            spectrum->names[m] = architecture_module_name(architecture, block, (enum projection)p);
            spectrum->rows[m] = rows;
            spectrum->columns[m] = columns;
            if (smaller(rows, columns) > spectrum->width)
                spectrum->width = smaller(rows, columns);
        }
}

void spectrum_free(struct spectrum *spectrum) {
    for (size_t m = 0; m < spectrum->num_modules; ++m)
        memory_free(spectrum->names[m]);
    memory_free(spectrum->names);
    memory_free(spectrum->rows);
    memory_free(spectrum->columns);
    memory_free(spectrum->ranks);
    free_values(&spectrum->update);
    free_values(&spectrum->frozen);
}

/* ---- ranks of a spectrum ---- */

/* Of the module's values, which are descending. */
static void summarize(struct singular_values *part, size_t module, size_t width) {
    const float *values = part->values + module * width;
    double sum = 0, squares = 0, entropy = 0;
    for (size_t i = 0; i < width; ++i) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        part->num_above[module] +=
            values[i] > 0 && (double)values[i] >= SPECTRUM_THRESHOLD * (double)values[0];
    }
    if (!(sum > 0))
        return;
    for (size_t i = 0; i < width && values[i] > 0; ++i) {
        const double share = (double)values[i] / sum;
        entropy -= share * log(share);
    }
    part->effective_rank[module] = exp(entropy);
    part->stable_rank[module] = squares / ((double)values[0] * (double)values[0]);
}

/* ---- matrices ---- */

struct work {
    const struct saved_run *run;
    const struct process_grid *grid;
    struct spectrum *spectrum;
    float *initial; /* [stage->factors.size] that the training began with; NULL: adapters */
    float *frozen,
        *update;  /* [rows, columns] of the module at hand; update: where all is trained */
    float *local; /* this rank's part of either */
};

/* A projection's weight, however it is stored, as [rows, columns]. */
static void copy_weight(const struct linear *linear, const float *factors, float *weight) {
    const struct point point = {factors, NULL};
    const float *values = base_values(linear->weight, &point);
    for (size_t o = 0; o < linear->output_size; ++o)
        for (size_t i = 0; i < linear->input_size; ++i)
            weight[o * linear->input_size + i] =
                values[o * linear->output_stride + i * linear->input_stride];
}

static bool check_finite(const float *values, size_t count, const char *name, const char *what,
                         struct problem *problem) {
    for (size_t i = 0; i < count; ++i)
        if (!isfinite(values[i]))
            return problem_set(problem, EXIT_DATA, "spectrum: %s of %s has a value %g", what, name,
                               (double)values[i]);
    return true;
}

/* Blocks that leave no process without a part, where the matrix is large enough. */
static size_t block_size(const struct process_grid *grid, size_t rows, size_t columns) {
    enum { LARGEST = 64 };
    const size_t block = smaller(rows / grid->rows, columns / grid->columns);
    return block > LARGEST ? LARGEST : block > 0 ? block : 1;
}

/* whole [rows, columns], which every rank has, decomposed on the grid. */
static bool decompose(const struct work *work, size_t module, const float *whole, const char *what,
                      struct singular_values *part, struct problem *problem) {
    struct spectrum *spectrum = work->spectrum;
    const size_t rows = spectrum->rows[module], columns = spectrum->columns[module],
                 block = block_size(work->grid, rows, columns);
    if (!check_finite(whole, rows * columns, spectrum->names[module], what, problem))
        return false;
    const struct dist_matrix matrix =
        dist_matrix_of(work->grid, rows, columns, block, block, work->local);
    dist_matrix_scatter(&matrix, matrix_of(whole, rows, columns));
    return dist_matrix_singular_values(&matrix, part->values + module * spectrum->width) ||
           problem_set(problem, EXIT_NUMERICS, "spectrum: no singular values of %s of %s", what,
                       spectrum->names[module]);
}

/* s B A by the rank that has the factors. */
static void decompose_adapter(const struct work *work, size_t module, const struct linear *linear,
                              struct problem *problem) {
    const struct spectrum *spectrum = work->spectrum;
    const struct adapter *adapter = &linear->adapter;
    const float *a = work->run->factors + adapter->a_offset,
                *b = work->run->factors + adapter->b_offset;
    const size_t rank = adapter->rank, rows = linear->output_size, columns = linear->input_size;
    if (rank == 0 || !check_finite(a, rank * columns, spectrum->names[module], "A", problem) ||
        !check_finite(b, rank * rows, spectrum->names[module], "B", problem))
        return;
    float *values = memory_allocate(rank, sizeof *values, "singular values");
    if (low_rank_singular_values(adapter->scale, a, b, rank, rows, columns, values))
        memcpy(work->spectrum->update.values + module * spectrum->width, values,
               smaller(rank, smaller(rows, columns)) * sizeof *values);
    else
        problem_set(problem, EXIT_NUMERICS, "spectrum: no singular values of the update of %s",
                    spectrum->names[module]);
    memory_free(values);
}

/* What the owner of a module knows of it, and whether that is a problem, reaches all ranks. */
static bool share_module(const struct work *work, size_t module, size_t block, int p, int owner,
                         struct problem *problem) {
    const struct comm *comm = &work->run->job.comms.world;
    struct spectrum *spectrum = work->spectrum;
    const size_t count = spectrum->rows[module] * spectrum->columns[module];
    float *values = spectrum->update.values + module * spectrum->width;
    if (comm->mpi_rank == owner) {
        const struct stage *stage = work->run->stage;
        const struct linear *linear =
            &stage->blocks[block - stage->options.first_block].projections[p];
        copy_weight(linear, work->initial, work->frozen);
        if (work->initial == NULL)
            decompose_adapter(work, module, linear, problem);
        else
            copy_weight(linear, work->run->factors, work->update);
    }
    if (!comm_agree(comm, problem))
        return false;
    comm_broadcast(comm, owner, work->frozen, count * sizeof(float));
    if (work->initial == NULL) {
        comm_broadcast(comm, owner, values, spectrum->width * sizeof *values);
        return true;
    }
    comm_broadcast(comm, owner, work->update, count * sizeof(float));
    for (size_t i = 0; i < count; ++i)
        work->update[i] -= work->frozen[i];
    return true;
}

static bool add_module(const struct work *work, size_t module, size_t block, int p, int owner,
                       struct problem *problem) {
    struct spectrum *spectrum = work->spectrum;
    if (!share_module(work, module, block, p, owner, problem) ||
        !decompose(work, module, work->frozen, "the frozen weight", &spectrum->frozen, problem) ||
        (work->initial != NULL &&
         !decompose(work, module, work->update, "the update", &spectrum->update, problem)))
        return false;
    summarize(&spectrum->frozen, module, spectrum->width);
    summarize(&spectrum->update, module, spectrum->width);
    return true;
}

static bool add_modules(const struct work *work, struct problem *problem) {
    const struct job *job = &work->run->job;
    size_t module = 0;
    struct place place = {0};
    for (size_t block = 0; block < job->architecture.num_blocks; ++block) {
        while (job->stage_offsets[place.stage + 1] <= block)
            ++place.stage;
        const int owner = comm_count(layout_rank(&job->layout, &place));
        for (int p = 0; p < NUM_PROJECTIONS; ++p)
            if (has_module(job, p) && !add_module(work, module++, block, p, owner, problem))
                return false;
    }
    return true;
}

/* What all weights were before they were trained (method.c). */
static float *make_initial(const struct saved_run *run, struct problem *problem) {
    const struct parameter_table *table = &run->stage->factors;
    float *initial = memory_allocate(table->size, sizeof *initial, "the weights of the start");
    parameter_table_initialize(table, run->job.config.run.seed, PHASE_RETRAIN, initial);
    job_load_pretrained(&run->job, run->stage, initial, problem);
    return initial;
}

static void make_room(struct work *work) {
    const struct spectrum *spectrum = work->spectrum;
    size_t largest = 0, largest_local = 0;
    for (size_t m = 0; m < spectrum->num_modules; ++m) {
        const size_t rows = spectrum->rows[m], columns = spectrum->columns[m],
                     block = block_size(work->grid, rows, columns);
        const struct dist_matrix part =
            dist_matrix_of(work->grid, rows, columns, block, block, NULL);
        const size_t local = part.local_rows * part.local_columns;
        largest = rows * columns > largest ? rows * columns : largest;
        largest_local = local > largest_local ? local : largest_local;
    }
    work->frozen = memory_allocate(largest, sizeof(float), "a weight");
    work->local = memory_allocate(largest_local, sizeof(float), "a part of a weight");
    if (work->initial != NULL)
        work->update = memory_allocate(largest, sizeof(float), "an update");
}

bool spectrum_compute(const struct saved_run *run, const struct process_grid *grid,
                      struct spectrum *spectrum, struct problem *problem) {
    const struct job *job = &run->job;
    *spectrum = (struct spectrum){0};
    if (job->config.adapter.method == METHOD_ADAPTER)
        return problem_set(problem, EXIT_USAGE,
                           "spectrum: bottleneck adapters (adapter.method adapter) are layers of "
                           "their own, with no update of a weight that has singular values");
    list_modules(job, spectrum);
    spectrum->update = make_values(spectrum->num_modules, spectrum->width);
    spectrum->frozen = make_values(spectrum->num_modules, spectrum->width);
    struct work work = {.run = run, .grid = grid, .spectrum = spectrum};
    if (is_full(job))
        work.initial = make_initial(run, problem);
    else {
        spectrum->ranks = memory_allocate(job->num_modules, sizeof *run->ranks, "ranks");
        memcpy(spectrum->ranks, run->ranks, job->num_modules * sizeof *run->ranks);
    }
    make_room(&work);
    const bool is_good = problem->exit_code == 0 && add_modules(&work, problem);
    memory_free(work.initial);
    memory_free(work.frozen);
    memory_free(work.update);
    memory_free(work.local);
    return is_good;
}
