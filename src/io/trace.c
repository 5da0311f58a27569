/* The trace. Rows gather in memory and are written and flushed together, at the interval or when
 * the buffer is full: between two flushes the file on disk is complete. */
#include "io/trace.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/h5file.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

enum { BUFFER_ROWS = 256, MAX_COLUMNS = 8, FORMAT_VERSION = 1 };
enum table_name { TABLE_SEARCH, TABLE_ALLOCATION, TABLE_RETRAIN, TABLE_EVALUATION, NUM_TABLES };
_Static_assert((int)NUM_TABLES == (int)TRACE_NUM_TABLES, "io/trace.h counts the tables");
enum row_shape { SCALAR, PER_MODULE, PER_COMPONENT };

struct column_description {
    const char *path;
    enum h5type type;
    enum row_shape shape;
    const char *units, *description;
};

struct table_description {
    const char *group;
    size_t num_columns;
    struct column_description columns[MAX_COLUMNS];
};

static const struct table_description table_descriptions[NUM_TABLES] = {
    [TABLE_SEARCH] =
        {"/search",
         8,
         {{"/search/step", H5TYPE_U64, SCALAR, "iterations", "iterations of the search done"},
          {"/search/time", H5TYPE_F64, SCALAR, "s", "time since the run began"},
          {"/search/selection", H5TYPE_F32, PER_COMPONENT, "1",
           "selection variables q [row, module, component]"},
          {"/search/logits", H5TYPE_F32, PER_COMPONENT, "1",
           "selection logits a [row, module, component]"},
          {"/search/hypergradient", H5TYPE_F32, PER_COMPONENT, "1",
           "gradient of the validation loss by the logits [row, module, component]"},
          {"/search/loss_train", H5TYPE_F64, SCALAR, "nat", "loss of the batch of D_train"},
          {"/search/loss_validation", H5TYPE_F64, SCALAR, "nat", "loss of the batch of D_val"},
          {"/search/ranks", H5TYPE_I32, PER_MODULE, "1",
           "rank of each module under the threshold rule [row, module]"}}},
    [TABLE_ALLOCATION] =
        {"/allocation",
         6,
         {{"/allocation/step", H5TYPE_U64, SCALAR, "updates", "updates of the training done"},
          {"/allocation/time", H5TYPE_F64, SCALAR, "s", "time since the run began"},
          {"/allocation/budget", H5TYPE_U64, SCALAR, "1", "total rank by the schedule"},
          {"/allocation/singular_values", H5TYPE_F32, PER_COMPONENT, "1",
           "singular values after the mask [row, module, component]"},
          {"/allocation/importance", H5TYPE_F32, PER_COMPONENT, "1",
           "importance scores [row, module, component]"},
          {"/allocation/ranks", H5TYPE_I32, PER_MODULE, "1",
           "components kept by the last mask [row, module]"}}},
    [TABLE_RETRAIN] =
        {"/retrain",
         5,
         {{"/retrain/step", H5TYPE_U64, SCALAR, "updates", "updates of the retraining done"},
          {"/retrain/time", H5TYPE_F64, SCALAR, "s", "time since the run began"},
          {"/retrain/loss_train", H5TYPE_F64, SCALAR, "nat", "loss of the batch"},
          {"/retrain/learning_rate", H5TYPE_F64, SCALAR, "1", "learning rate of the update"},
          {"/retrain/gradient_norm", H5TYPE_F64, SCALAR, "1",
           "Euclidean norm of the gradient of all trainable parameters"}}},
    [TABLE_EVALUATION] =
        {"/evaluation",
         4,
         {{"/evaluation/step", H5TYPE_U64, SCALAR, "updates", "updates of the retraining done"},
          {"/evaluation/time", H5TYPE_F64, SCALAR, "s", "time since the run began"},
          {"/evaluation/loss", H5TYPE_F64, SCALAR, "nat", "loss of the evaluation set"},
          {"/evaluation/score", H5TYPE_F64, SCALAR, "1", "the task's metric"}}},
};

struct column {
    struct h5series *series;
    size_t row_bytes;
    char *rows; /* [BUFFER_ROWS] */
};

struct table {
    size_t num_columns; /* 0: left out */
    size_t num_rows;    /* in the buffer */
    size_t num_written;
    struct column columns[MAX_COLUMNS];
};

struct trace {
    struct h5file *file;
    size_t num_modules, num_components;
    struct table tables[NUM_TABLES];
    double flush_seconds, last_flush;
};

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static size_t type_bytes(enum h5type type) {
    return type == H5TYPE_F32 || type == H5TYPE_I32 ? 4 : 8;
}

/* ---- create ---- */

/* rows: NULL, or how many of an earlier run's rows stay. */
static bool create_column(struct trace *trace, const struct column_description *description,
                          const size_t *rows, struct column *column, struct problem *problem) {
    const size_t shape[2] = {trace->num_modules, trace->num_components};
    const size_t num_dimensions = (size_t)description->shape;
    FAULT_UNLESS(num_dimensions <= 2, "%s: a row of %zu dimensions", description->path,
                 num_dimensions);
    size_t row_size = 1;
    for (size_t i = 0; i < num_dimensions; ++i)
        row_size *= shape[i];
    column->row_bytes = row_size * type_bytes(description->type);
    column->series = rows != NULL
                         ? h5file_continue_series(trace->file, description->path, description->type,
                                                  shape, num_dimensions, *rows, problem)
                         : h5file_make_series(trace->file, description->path, description->type,
                                              shape, num_dimensions, problem);
    if (column->series == NULL)
        return false;
    column->rows = memory_allocate(BUFFER_ROWS, column->row_bytes, description->path);
    if (rows != NULL)
        return true;
    return h5file_write_text(trace->file, description->path, "units", description->units,
                             problem) &&
           h5file_write_text(trace->file, description->path, "description",
                             description->description, problem);
}

/* From the last column to the first: HDF5 flushes headers in the order of creation, so a process
 * killed in a flush leaves `step` no longer than the others, and the rows that it counts are
 * complete. */
static bool create_table(struct trace *trace, enum table_name name, struct problem *problem) {
    const struct table_description *description = &table_descriptions[name];
    struct table *table = &trace->tables[name];
    table->num_columns = description->num_columns;
    bool is_good = h5file_make_group(trace->file, description->group, problem);
    for (size_t i = table->num_columns; is_good && i-- > 0;)
        is_good = create_column(trace, &description->columns[i], NULL, &table->columns[i], problem);
    return is_good;
}

/* Cuts `step` first: no row that it counts is without its others. */
static bool continue_table(struct trace *trace, enum table_name name, size_t num_rows,
                           struct problem *problem) {
    const struct table_description *description = &table_descriptions[name];
    struct table *table = &trace->tables[name];
    table->num_columns = description->num_columns;
    table->num_written = num_rows;
    bool is_good = true;
    for (size_t i = 0; is_good && i < table->num_columns; ++i)
        is_good =
            create_column(trace, &description->columns[i], &num_rows, &table->columns[i], problem);
    return is_good;
}

static bool is_wanted(const struct trace_options *options, enum table_name name) {
    if (name == TABLE_SEARCH)
        return options->num_components > 0 && !options->has_allocation;
    return name != TABLE_ALLOCATION || options->has_allocation;
}

/* rows: NULL, or how many stay, [NUM_TABLES]. */
static bool create_tables(struct trace *trace, const struct trace_options *options,
                          const size_t *rows, struct problem *problem) {
    bool is_good = true;
    for (int name = 0; is_good && name < NUM_TABLES; ++name)
        if (is_wanted(options, (enum table_name)name))
            is_good = rows != NULL
                          ? continue_table(trace, (enum table_name)name, rows[name], problem)
                          : create_table(trace, (enum table_name)name, problem);
    return is_good && h5file_flush(trace->file, problem);
}

static bool create_content(struct trace *trace, const struct trace_options *options,
                           struct problem *problem) {
    return h5file_write_number(trace->file, "/", "format_version", FORMAT_VERSION, problem) &&
           h5file_write_text(trace->file, "/", "input", options->input_text, problem) &&
           h5file_write_text(trace->file, "/", "provenance", options->provenance, problem) &&
           h5file_write_strings(trace->file, "/modules", options->module_names,
                                options->num_modules, problem) &&
           create_tables(trace, options, NULL, problem);
}

static struct trace *trace_of(const struct trace_options *options, struct h5file *file) {
    struct trace *trace = memory_allocate(1, sizeof *trace, "the trace");
    *trace = (struct trace){.file = file,
                            .num_modules = options->num_modules,
                            .num_components = options->num_components,
                            .flush_seconds = options->flush_seconds,
                            .last_flush = seconds_now()};
    return trace;
}

struct trace *trace_create(const struct trace_options *options, struct problem *problem) {
    struct h5file *file = h5file_create(options->path, problem);
    if (file == NULL)
        return NULL;
    struct trace *trace = trace_of(options, file);
    if (!create_content(trace, options, problem))
        trace_close(&trace, problem);
    return trace;
}

/* Gives a damaged file the first name that is free; returns a warning. */
static char *set_aside(const char *path, const char *reason, struct problem *problem) {
    if (!file_exists(path))
        return memory_format("%s is missing; a new one begins where the checkpoint was made", path);
    char *name = NULL;
    for (size_t i = 1; name == NULL || file_exists(name); ++i) {
        memory_free(name);
        name = memory_format("%s.damaged-%zu", path, i);
    }
    file_rename(path, name, problem);
    char *warning = memory_format("%s\nThe trace is kept as %s; a new one begins where the "
                                  "checkpoint was made",
                                  reason, name);
    memory_free(name);
    return warning;
}

struct trace *trace_continue(const struct trace_options *options, const size_t *rows,
                             char **warning, struct problem *problem) {
    struct problem found = {0}, closing = {0};
    struct h5file *file = h5file_open(options->path, &found);
    struct trace *trace = file == NULL ? NULL : trace_of(options, file);
    if (trace != NULL && !create_tables(trace, options, rows, &found))
        trace_close(&trace, &closing);
    if (trace != NULL)
        return trace;
    if (found.exit_code != EXIT_DATA) {
        problem_set(problem, found.exit_code, "%s", found.text);
        return NULL;
    }
    *warning = set_aside(options->path, found.text, problem);
    return problem->exit_code != 0 ? NULL : trace_create(options, problem);
}

const char *trace_table_name(size_t table) {
    return table_descriptions[table].group + 1;
}

void trace_rows(const struct trace *trace, size_t *rows) {
    for (size_t i = 0; i < NUM_TABLES; ++i)
        rows[i] = trace->tables[i].num_written + trace->tables[i].num_rows;
}

/* ---- rows ---- */

static bool write_table(struct trace *trace, enum table_name name, struct problem *problem) {
    struct table *table = &trace->tables[name];
    bool is_good = true;
    for (size_t i = 0; is_good && i < table->num_columns; ++i)
        if (table->num_rows > 0)
            is_good = h5series_append(table->columns[i].series, table->columns[i].rows,
                                      table->num_rows, problem);
    table->num_written += table->num_rows;
    table->num_rows = 0;
    return is_good;
}

bool trace_flush(struct trace *trace, struct problem *problem) {
    trace->last_flush = seconds_now();
    bool is_good = true;
    for (int name = 0; is_good && name < NUM_TABLES; ++name)
        is_good = write_table(trace, (enum table_name)name, problem);
    return is_good && h5file_flush(trace->file, problem);
}

bool trace_sync(struct trace *trace, struct problem *problem) {
    return trace_flush(trace, problem) && h5file_save(trace->file, problem);
}

bool trace_flush_if_due(struct trace *trace, struct problem *problem) {
    bool has_rows = false;
    for (int name = 0; name < NUM_TABLES; ++name)
        has_rows = has_rows || trace->tables[name].num_rows > 0;
    const bool is_due = has_rows && seconds_now() - trace->last_flush >= trace->flush_seconds;
    return !is_due || trace_flush(trace, problem);
}

/* Copies one row; a NULL value is left as it is. */
static bool add_row(struct trace *trace, enum table_name name, const void *const *values,
                    struct problem *problem) {
    struct table *table = &trace->tables[name];
    for (size_t i = 0; i < table->num_columns; ++i) {
        const struct column *column = &table->columns[i];
        if (values[i] != NULL)
            memcpy(column->rows + table->num_rows * column->row_bytes, values[i],
                   column->row_bytes);
    }
    ++table->num_rows;
    return table->num_rows == BUFFER_ROWS ? trace_flush(trace, problem)
                                          : trace_flush_if_due(trace, problem);
}

/* Into the last column of the next row. */
static void put_ranks(struct trace *trace, enum table_name name, const size_t *ranks) {
    const struct table *table = &trace->tables[name];
    FAULT_UNLESS(table->num_columns > 0, "a row of %s in a trace without it",
                 table_descriptions[name].group);
    const struct column *column = &table->columns[table->num_columns - 1];
    int32_t *place = (int32_t *)(void *)(column->rows + table->num_rows * column->row_bytes);
    for (size_t i = 0; i < trace->num_modules; ++i)
        place[i] = (int32_t)ranks[i];
}

bool trace_add_search(struct trace *trace, const struct trace_search_row *row,
                      struct problem *problem) {
    put_ranks(trace, TABLE_SEARCH, row->ranks);
    const uint64_t step = row->step;
    const void *values[] = {&step,
                            &row->time,
                            row->selection,
                            row->logits,
                            row->hypergradient,
                            &row->loss_train,
                            &row->loss_validation,
                            NULL /* ranks are there already */};
    return add_row(trace, TABLE_SEARCH, values, problem);
}

bool trace_add_allocation(struct trace *trace, const struct trace_allocation_row *row,
                          struct problem *problem) {
    put_ranks(trace, TABLE_ALLOCATION, row->ranks);
    const uint64_t step = row->step, budget = row->budget;
    const void *values[] = {&step,           &row->time, &budget, row->singular_values,
                            row->importance, NULL /* ranks */};
    return add_row(trace, TABLE_ALLOCATION, values, problem);
}

bool trace_add_retrain(struct trace *trace, const struct trace_retrain_row *row,
                       struct problem *problem) {
    const uint64_t step = row->step;
    const void *values[] = {&step, &row->time, &row->loss_train, &row->learning_rate,
                            &row->gradient_norm};
    return add_row(trace, TABLE_RETRAIN, values, problem);
}

bool trace_add_evaluation(struct trace *trace, const struct trace_evaluation_row *row,
                          struct problem *problem) {
    const uint64_t step = row->step;
    const void *values[] = {&step, &row->time, &row->loss, &row->score};
    return add_row(trace, TABLE_EVALUATION, values, problem);
}

size_t trace_num_search_rows(const struct trace *trace) {
    return trace->tables[TABLE_SEARCH].num_written + trace->tables[TABLE_SEARCH].num_rows;
}

bool trace_read_search(struct trace *trace, enum trace_search_column column, size_t first,
                       size_t stride, size_t count, void *values, struct problem *problem) {
    static const size_t places[] = {[TRACE_SELECTION] = 2, [TRACE_LOGITS] = 3, [TRACE_RANKS] = 7};
    const struct table *table = &trace->tables[TABLE_SEARCH];
    FAULT_UNLESS(table->num_columns > 0, "a trace without a search is read");
    return trace_flush(trace, problem) && h5series_read(table->columns[places[column]].series,
                                                        first, stride, count, values, problem);
}

/* ---- timeline ---- */

/* The number of the interval's path in `names`, a list that grows. */
static int32_t number_of(const char *path, const char **names, size_t *count) {
    size_t i = 0;
    while (i < *count && strcmp(names[i], path) != 0)
        ++i;
    if (i == *count)
        names[(*count)++] = path;
    return (int32_t)i;
}

static bool write_names(struct trace *trace, const char *group, const char *const *names,
                        size_t count, struct problem *problem) {
    char *path = memory_format("%s/names", group);
    const bool is_good = h5file_write_strings(trace->file, path, names, count, problem);
    memory_free(path);
    return is_good;
}

static bool write_series(struct trace *trace, const char *group, const char *name, enum h5type type,
                         const char *units, const void *values, size_t count,
                         struct problem *problem) {
    char *path = memory_format("%s/%s", group, name);
    struct h5series *series = h5file_make_series(trace->file, path, type, NULL, 0, problem);
    const bool is_good = series != NULL && h5series_append(series, values, count, problem) &&
                         h5file_write_text(trace->file, path, "units", units, problem);
    memory_free(path);
    return is_good;
}

static bool write_timeline(struct trace *trace, const char *group, size_t step,
                           const struct timer_interval *intervals, size_t count,
                           struct problem *problem) {
    int32_t *ranks = memory_allocate(count, sizeof *ranks, "a timeline");
    int32_t *numbers = memory_allocate(count, sizeof *numbers, "a timeline");
    double *starts = memory_allocate(count, sizeof *starts, "a timeline");
    double *stops = memory_allocate(count, sizeof *stops, "a timeline");
    const char **names = memory_allocate(count, sizeof *names, "a timeline");
    size_t num_names = 0;
    for (size_t i = 0; i < count; ++i) {
        ranks[i] = intervals[i].mpi_rank;
        numbers[i] = number_of(intervals[i].path, names, &num_names);
        starts[i] = intervals[i].start;
        stops[i] = intervals[i].stop;
    }
    const bool is_good =
        h5file_make_group(trace->file, group, problem) &&
        h5file_write_number(trace->file, group, "step", (double)step, problem) &&
        write_names(trace, group, names, num_names, problem) &&
        write_series(trace, group, "rank", H5TYPE_I32, "1", ranks, count, problem) &&
        write_series(trace, group, "name", H5TYPE_I32, "1", numbers, count, problem) &&
        write_series(trace, group, "start", H5TYPE_F64, "s", starts, count, problem) &&
        write_series(trace, group, "stop", H5TYPE_F64, "s", stops, count, problem);
    memory_free(ranks);
    memory_free(numbers);
    memory_free(starts);
    memory_free(stops);
    memory_free(names);
    return is_good;
}

bool trace_add_timeline(struct trace *trace, const char *phase, size_t step,
                        const struct timer_interval *intervals, size_t count,
                        struct problem *problem) {
    char *group = memory_format("/timeline/%s", phase);
    const bool has_all = h5file_has(trace->file, "/timeline");
    bool is_good = has_all || h5file_make_group(trace->file, "/timeline", problem);
    if (is_good && !(has_all && h5file_has(trace->file, group)))
        is_good = write_timeline(trace, group, step, intervals, count, problem);
    memory_free(group);
    return is_good;
}

bool trace_close(struct trace **trace_pointer, struct problem *problem) {
    struct trace *trace = *trace_pointer;
    if (trace == NULL)
        return true;
    const bool is_written = trace_sync(trace, problem);
    const bool is_closed = h5file_close(&trace->file, problem);
    for (int name = 0; name < NUM_TABLES; ++name)
        for (size_t i = 0; i < trace->tables[name].num_columns; ++i)
            memory_free(trace->tables[name].columns[i].rows);
    memory_free(trace);
    *trace_pointer = NULL;
    return is_written && is_closed;
}
