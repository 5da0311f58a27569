/* The trace, and the HDF5 files below it: read back with HDF5 itself, killed at any moment, on a
 * full disk. */
#include "base/memory.h"
#include "io/file.h"
#include "io/h5file.h"
#include "io/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MODULES = 3, COMPONENTS = 4, ROW = MODULES * COMPONENTS };

static const char *const names[MODULES] = {"encoder.0.query", "encoder.0.value", "r\xc3\xa9seau"};

/* ---- a folder for the files of a test ---- */

static int make_folder(void **state) {
    const char *root = getenv("TMPDIR");
    char *folder = memory_format("%s/autolora-trace-XXXXXX", root != NULL ? root : "/tmp");
    *state = folder;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    char *path = file_join(*state, "trace.h5"), *meta = file_join(*state, "trace.h5.meta");
    unlink(path);
    unlink(meta);
    memory_free(meta);
    memory_free(path);
    const bool is_gone = rmdir(*state) == 0;
    memory_free(*state);
    return !is_gone || memory_blocks_now() != 0;
}

/* ---- writing ---- */

static struct trace *open_trace(const char *path, size_t num_components, double flush_seconds,
                                struct problem *problem) {
    const struct trace_options options = {.path = path,
                                          .module_names = names,
                                          .num_modules = MODULES,
                                          .num_components = num_components,
                                          .input_text = "{\"run\": {\"name\": \"essai \xc3\xa9\"}}",
                                          .provenance = "{\"version\": \"1\"}",
                                          .flush_seconds = flush_seconds};
    return trace_create(&options, problem);
}

/* What row `step` holds of column `column`, at place i of the row: never 0, exact in float32. */
static double value_of(size_t step, size_t column, size_t i) {
    return (double)(step % 4099 * 16 + column) + (double)i / 64;
}

static bool add_search(struct trace *trace, size_t step, struct problem *problem) {
    float selection[ROW], logits[ROW], hypergradient[ROW];
    size_t ranks[MODULES];
    for (size_t i = 0; i < ROW; ++i) {
        selection[i] = (float)value_of(step, 2, i);
        logits[i] = (float)value_of(step, 3, i);
        hypergradient[i] = (float)value_of(step, 4, i);
    }
    for (size_t i = 0; i < MODULES; ++i)
        ranks[i] = step + i;
    const struct trace_search_row row = {.step = step,
                                         .time = value_of(step, 1, 0),
                                         .selection = selection,
                                         .logits = logits,
                                         .hypergradient = hypergradient,
                                         .loss_train = value_of(step, 5, 0),
                                         .loss_validation = value_of(step, 6, 0),
                                         .ranks = ranks};
    return trace_add_search(trace, &row, problem);
}

static bool add_allocation(struct trace *trace, size_t step, struct problem *problem) {
    float singular_values[ROW], importance[ROW];
    size_t ranks[MODULES];
    for (size_t i = 0; i < ROW; ++i) {
        singular_values[i] = (float)value_of(step, 3, i);
        importance[i] = (float)value_of(step, 4, i);
    }
    for (size_t i = 0; i < MODULES; ++i)
        ranks[i] = step + i;
    const struct trace_allocation_row row = {.step = step,
                                             .time = value_of(step, 1, 0),
                                             .budget = 100 - step,
                                             .singular_values = singular_values,
                                             .importance = importance,
                                             .ranks = ranks};
    return trace_add_allocation(trace, &row, problem);
}

static bool add_retrain(struct trace *trace, size_t step, struct problem *problem) {
    const struct trace_retrain_row row = {step, value_of(step, 1, 0), value_of(step, 2, 0),
                                          value_of(step, 3, 0), value_of(step, 4, 0)};
    return trace_add_retrain(trace, &row, problem);
}

/* ---- reading ---- */

static hid_t open_file(const char *path) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        fail_msg("%s cannot be opened", path);
    return file;
}

/* All values of a dataset as doubles (free with memory_free); shape [rank]. */
static double *read_dataset(hid_t file, const char *path, hid_t stored_type, int rank,
                            hsize_t *shape) {
    const hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
    assert_true(dataset >= 0);
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    assert_true(H5Tequal(type, stored_type) > 0);
    assert_int_equal(H5Sget_simple_extent_ndims(space), rank);
    H5Sget_simple_extent_dims(space, shape, NULL);
    double *values = memory_allocate((size_t)H5Sget_simple_extent_npoints(space), sizeof *values,
                                     "values of a dataset");
    if (H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        fail_msg("%s cannot be read", path);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
    return values;
}

static void check_text(hid_t file, const char *object, const char *name, const char *expected) {
    const hid_t attribute = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0)
        fail_msg("%s has no attribute %s", object, name);
    const hid_t type = H5Aget_type(attribute);
    assert_true(H5Tis_variable_str(type) > 0);
    assert_int_equal(H5Tget_cset(type), H5T_CSET_UTF8);
    char *text = NULL;
    assert_true(H5Aread(attribute, type, &text) >= 0);
    if (expected != NULL)
        assert_string_equal(text, expected);
    else
        assert_true(text != NULL && text[0] != '\0');
    H5free_memory(text);
    H5Tclose(type);
    H5Aclose(attribute);
}

/* One column of the search: `num_rows` rows of add_search from step 1 on are as written. Returns
 * the rows there are. */
static size_t check_column(hid_t file, const char *path, hid_t type, size_t column, size_t width,
                           size_t num_rows) {
    hsize_t shape[3] = {0};
    const int rank = width == 1 ? 1 : 3;
    double *values = read_dataset(file, path, type, rank, shape);
    assert_true(shape[0] >= num_rows);
    if (rank == 3) {
        assert_int_equal(shape[1], MODULES);
        assert_int_equal(shape[2], COMPONENTS);
    }
    for (size_t row = 0; row < num_rows; ++row)
        for (size_t i = 0; i < width; ++i) {
            const double expected = column == 0 ? (double)(row + 1) : value_of(row + 1, column, i);
            if (values[row * width + i] != expected)
                fail_msg("%s, row %zu of %zu, place %zu: %g", path, row, num_rows, i,
                         values[row * width + i]);
        }
    memory_free(values);
    return (size_t)shape[0];
}

static void check_ranks(hid_t file, size_t num_rows) {
    hsize_t shape[2] = {0};
    double *ranks = read_dataset(file, "/search/ranks", H5T_STD_I32LE, 2, shape);
    assert_true(shape[0] >= num_rows);
    assert_int_equal(shape[1], MODULES);
    for (size_t row = 0; row < num_rows; ++row)
        for (size_t i = 0; i < MODULES; ++i)
            assert_true(ranks[row * MODULES + i] == (double)(row + 1 + i));
    memory_free(ranks);
}

/* Every row that /search/step counts is complete; returns their number. */
static size_t check_search(const char *path) {
    const hid_t file = open_file(path);
    const size_t num_rows = check_column(file, "/search/step", H5T_STD_U64LE, 0, 1, 0);
    check_column(file, "/search/step", H5T_STD_U64LE, 0, 1, num_rows);
    check_column(file, "/search/time", H5T_IEEE_F64LE, 1, 1, num_rows);
    check_column(file, "/search/selection", H5T_IEEE_F32LE, 2, ROW, num_rows);
    check_column(file, "/search/logits", H5T_IEEE_F32LE, 3, ROW, num_rows);
    check_column(file, "/search/hypergradient", H5T_IEEE_F32LE, 4, ROW, num_rows);
    check_column(file, "/search/loss_train", H5T_IEEE_F64LE, 5, 1, num_rows);
    check_column(file, "/search/loss_validation", H5T_IEEE_F64LE, 6, 1, num_rows);
    check_ranks(file, num_rows);
    H5Fclose(file);
    return num_rows;
}

/* ---- tests ---- */

static void test_layout_and_types(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    struct trace *trace = open_trace(path, COMPONENTS, 1e9, &problem);
    assert_non_null(trace);
    for (size_t step = 1; step <= 5; ++step)
        assert_true(add_search(trace, step, &problem));
    for (size_t step = 1; step <= 3; ++step)
        assert_true(add_retrain(trace, step, &problem));
    const struct trace_evaluation_row last = {.step = 3, .time = 1.5, .loss = NAN, .score = -0.25};
    assert_true(trace_add_evaluation(trace, &last, &problem));
    assert_true(trace_close(&trace, &problem));
    assert_null(trace);

    assert_int_equal(check_search(path), 5);
    const hid_t file = open_file(path);
    check_column(file, "/retrain/step", H5T_STD_U64LE, 0, 1, 3);
    check_column(file, "/retrain/time", H5T_IEEE_F64LE, 1, 1, 3);
    check_column(file, "/retrain/loss_train", H5T_IEEE_F64LE, 2, 1, 3);
    check_column(file, "/retrain/learning_rate", H5T_IEEE_F64LE, 3, 1, 3);
    check_column(file, "/retrain/gradient_norm", H5T_IEEE_F64LE, 4, 1, 3);
    static const char *const columns[] = {"step", "time", "loss", "score"};
    const double expected[] = {3, 1.5, NAN, -0.25};
    for (size_t i = 0; i < 4; ++i) {
        char *name = memory_format("/evaluation/%s", columns[i]);
        hsize_t rows = 0;
        double *value = read_dataset(file, name, i == 0 ? H5T_STD_U64LE : H5T_IEEE_F64LE, 1, &rows);
        assert_int_equal(rows, 1);
        assert_true(i == 2 ? isnan(value[0]) : value[0] == expected[i]);
        memory_free(value);
        memory_free(name);
    }
    H5Fclose(file);
    memory_free(path);
}

static herr_t check_dataset_attributes(hid_t file, const char *name, const H5O_info_t *info,
                                       void *count) {
    (void)info;
    if (strchr(name, '/') != NULL) {
        check_text(file, name, "units", NULL);
        check_text(file, name, "description", NULL);
        ++*(int *)count;
    }
    return 0;
}

static void test_attributes_and_names(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    struct trace *trace = open_trace(path, COMPONENTS, 1e9, &problem);
    assert_true(trace_close(&trace, &problem));
    const hid_t file = open_file(path);
    check_text(file, "/", "input", "{\"run\": {\"name\": \"essai \xc3\xa9\"}}");
    check_text(file, "/", "provenance", "{\"version\": \"1\"}");
    check_text(file, "/search/time", "units", "s");
    int num_datasets = 0;
    H5Ovisit1(file, H5_INDEX_NAME, H5_ITER_NATIVE, check_dataset_attributes, &num_datasets);
    assert_int_equal(num_datasets, 8 + 5 + 4);

    const hid_t dataset = H5Dopen2(file, "/modules", H5P_DEFAULT);
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    assert_int_equal(H5Sget_simple_extent_npoints(space), MODULES);
    char *read[MODULES] = {NULL};
    assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
    for (size_t i = 0; i < MODULES; ++i) {
        assert_string_equal(read[i], names[i]);
        H5free_memory(read[i]);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
    H5Fclose(file);
    memory_free(path);
}

static void test_without_a_search(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    struct trace *trace = open_trace(path, 0, 1e9, &problem);
    assert_true(add_retrain(trace, 1, &problem));
    assert_true(trace_close(&trace, &problem));
    const hid_t file = open_file(path);
    assert_int_equal(H5Lexists(file, "/search", H5P_DEFAULT), 0);
    check_column(file, "/retrain/step", H5T_STD_U64LE, 0, 1, 1);
    H5Fclose(file);
    memory_free(path);
}

/* Past 64 chunks the index of a dataset gets a second level. */
/* AdaLoRA's trace has components, but no search. */
static void test_allocation(void **state) {
    char *path = memory_format("%s/trace.h5", (const char *)*state);
    struct problem problem = {0};
    const struct trace_options options = {.path = path,
                                          .module_names = names,
                                          .num_modules = MODULES,
                                          .num_components = COMPONENTS,
                                          .has_allocation = true,
                                          .input_text = "{}",
                                          .provenance = "{}"};
    struct trace *trace = trace_create(&options, &problem);
    assert_non_null(trace);
    for (size_t step = 1; step <= 3; ++step)
        assert_true(add_allocation(trace, step, &problem));
    assert_true(trace_close(&trace, &problem));
    const hid_t file = open_file(path);
    assert_true(H5Lexists(file, "/search", H5P_DEFAULT) == 0);
    hsize_t shape[3];
    double *budgets = read_dataset(file, "/allocation/budget", H5T_STD_U64LE, 1, shape);
    assert_true(shape[0] == 3 && budgets[2] == 97);
    double *importance = read_dataset(file, "/allocation/importance", H5T_IEEE_F32LE, 3, shape);
    assert_true(shape[0] == 3 && shape[1] == MODULES && shape[2] == COMPONENTS);
    assert_true(importance[2 * ROW + 1] == value_of(3, 4, 1));
    double *values = read_dataset(file, "/allocation/singular_values", H5T_IEEE_F32LE, 3, shape);
    assert_true(values[ROW] == value_of(2, 3, 0));
    double *ranks = read_dataset(file, "/allocation/ranks", H5T_STD_I32LE, 2, shape);
    assert_true(shape[1] == MODULES && ranks[MODULES + 1] == 3);
    memory_free(budgets);
    memory_free(importance);
    memory_free(values);
    memory_free(ranks);
    H5Fclose(file);
    unlink(path);
    memory_free(path);
}

static void test_many_rows(void **state) {
    enum { ROWS = 64 * 256 * 2 + 77 };
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    struct trace *trace = open_trace(path, COMPONENTS, 1e9, &problem);
    for (size_t step = 1; step <= ROWS; ++step) {
        assert_true(add_search(trace, step, &problem));
        if (step % 1000 == 0)
            assert_true(trace_flush(trace, &problem));
    }
    assert_true(trace_close(&trace, &problem));
    assert_int_equal(check_search(path), ROWS);
    memory_free(path);
}

/* While the trace is open a copy of the file, as another process sees it, holds what was flushed.
 */
static size_t rows_on_disk(const char *path) {
    struct problem problem = {0};
    size_t size = 0;
    char *bytes = file_read(path, &size, &problem);
    assert_non_null(bytes);
    char *copy = memory_format("%s.copy", path);
    assert_true(file_write_atomically(copy, bytes, size, &problem));
    const size_t num_rows = check_search(copy);
    unlink(copy);
    memory_free(copy);
    memory_free(bytes);
    return num_rows;
}

static void test_flush_interval(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    struct trace *trace = open_trace(path, COMPONENTS, 0, &problem);
    for (size_t step = 1; step <= 3; ++step) {
        assert_true(add_search(trace, step, &problem));
        assert_int_equal(rows_on_disk(path), step);
    }
    assert_true(trace_close(&trace, &problem));

    trace = open_trace(path, COMPONENTS, 1e9, &problem);
    for (size_t step = 1; step < 256; ++step)
        assert_true(add_search(trace, step, &problem));
    assert_int_equal(rows_on_disk(path), 0);
    assert_true(add_search(trace, 256, &problem)); /* the buffer is full */
    assert_int_equal(rows_on_disk(path), 256);
    assert_true(add_search(trace, 257, &problem));
    assert_true(trace_flush(trace, &problem));
    assert_int_equal(rows_on_disk(path), 257);
    assert_true(trace_close(&trace, &problem));

    trace = open_trace(path, COMPONENTS, 0.1, &problem);
    assert_true(add_search(trace, 1, &problem)); /* and no row comes behind it */
    const struct timespec pause = {.tv_nsec = 150000000};
    nanosleep(&pause, NULL);
    assert_true(trace_flush_if_due(trace, &problem));
    assert_int_equal(rows_on_disk(path), 1);
    assert_true(trace_close(&trace, &problem));
    trace = open_trace(path, COMPONENTS, 1e9, &problem);
    assert_true(add_search(trace, 1, &problem));
    assert_true(trace_flush_if_due(trace, &problem));
    assert_int_equal(rows_on_disk(path), 0);
    assert_true(trace_close(&trace, &problem));
    memory_free(path);
}

/* Writes rows for ever; tells the pipe each step that was flushed. */
static void write_until_killed(const char *path, double flush_seconds, size_t rows_a_flush,
                               int pipe_end) {
    struct problem problem = {0};
    struct trace *trace = open_trace(path, COMPONENTS, flush_seconds, &problem);
    for (size_t step = 1; trace != NULL && add_search(trace, step, &problem); ++step)
        if (step % rows_a_flush == 0 && write(pipe_end, &step, sizeof step) < 0)
            break;
    _exit(1);
}

static void check_kill(const char *path, size_t rows_a_flush, long delay_microseconds) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0)
        write_until_killed(path, rows_a_flush == 1 ? 0 : 1e9, rows_a_flush, ends[1]);
    close(ends[1]);
    size_t told = 0, flushed = 0;
    assert_int_equal(read(ends[0], &flushed, sizeof flushed), (ssize_t)sizeof flushed);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        while (read(ends[0], &told, sizeof told) == (ssize_t)sizeof told)
            flushed = told;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000 <
             delay_microseconds);
    kill(child, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &told, sizeof told) == (ssize_t)sizeof told)
        flushed = told;
    close(ends[0]);
    assert_true(check_search(path) >= flushed);
}

/* The writer does nothing but flush, so that many of the kills fall into a flush. */
static void test_killed_writer_keeps_flushed_rows(void **state) {
    char *path = file_join(*state, "trace.h5");
    for (long i = 0; i < 20; ++i) {
        check_kill(path, 1, 500 + 977 * i);
        check_kill(path, 256, 500 + 977 * i);
    }
    memory_free(path);
}

static void test_unwritable_place(void **state) {
    struct problem problem = {0};
    char *path = file_join(*state, "missing/trace.h5");
    assert_null(open_trace(path, COMPONENTS, 1, &problem));
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, path));
    assert_non_null(strstr(problem.text, strerror(ENOENT)));
    memory_free(path);

    problem.exit_code = 0;
    assert_null(open_trace(*state, COMPONENTS, 1, &problem)); /* a directory */
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, strerror(EISDIR)));

    if (geteuid() == 0)
        return; /* root may write everywhere */
    problem.exit_code = 0;
    path = file_join(*state, "trace.h5");
    chmod(*state, 0500);
    assert_null(open_trace(path, COMPONENTS, 1, &problem));
    chmod(*state, 0700);
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, strerror(EACCES)));
    memory_free(path);
}

static void test_device_is_refused(void **state) {
    (void)state;
    struct problem problem = {0};
    assert_null(open_trace("/dev/full", COMPONENTS, 1, &problem));
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, "not a regular file"));
}

static void test_locked_file_is_left_alone(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0};
    assert_true(file_write_atomically(path, "rows of another job", 19, &problem));
    const int other = open(path, O_RDWR);
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_null(open_trace(path, COMPONENTS, 1, &problem));
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, "HDF5_USE_FILE_LOCKING=FALSE"));
    size_t size = 0;
    struct problem none = {0};
    char *text = file_read(path, &size, &none);
    assert_string_equal(text, "rows of another job");
    memory_free(text);
    close(other);
    memory_free(path);
}

/* In a child, where files may have `limit_bytes`: the exit code, and 99 where the problem is not as
 * it should be. */
static void run_into_limit(const char *path, size_t limit_bytes) {
    alarm(60); /* a hang ends in a signal */
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {.rlim_cur = limit_bytes, .rlim_max = limit_bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
    struct problem problem = {0}, later = {0};
    struct trace *trace = open_trace(path, COMPONENTS, 1e9, &problem);
    bool is_good = trace != NULL;
    for (size_t step = 1; is_good && step <= 1000000; ++step)
        is_good = add_search(trace, step, &problem);
    const bool is_refused =
        trace == NULL || (!add_search(trace, 1, &later) | !trace_flush(trace, &later));
    const bool is_closed = trace_close(&trace, &later);
    const bool has_words = strstr(problem.text, strerror(EFBIG)) != NULL;
    const bool is_proper =
        is_refused && has_words && trace == NULL && (later.exit_code == 0 || !is_closed);
    H5close();                                /* what the library does at exit must work as well */
    exit(is_proper ? problem.exit_code : 99); /* exit handlers included */
}

static void test_full_disk(void **state) {
    char *path = file_join(*state, "trace.h5");
    static const size_t limits[] = {0, 100, 5000, 20000, 60000, 300000, 1000000, 1234567};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; ++i) {
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0)
            run_into_limit(path, limits[i]);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EXIT_IO);
        if (limits[i] >= 60000) /* the file was begun: what was flushed before is there */
            assert_int_equal(check_search(path) % 256, 0);
        if (limits[i] >= 1000000)
            assert_true(check_search(path) >= 1024);
    }
    memory_free(path);
}

static void test_large_text(void **state) {
    enum { TEXT_BYTES = 200000 };
    char *path = file_join(*state, "trace.h5");
    char *text = memory_allocate(TEXT_BYTES, 1, "text");
    memset(text, 'x', TEXT_BYTES - 1);
    struct problem problem = {0};
    struct h5file *file = h5file_create(path, &problem);
    assert_non_null(file);
    assert_true(h5file_write_text(file, "/", "long", text, &problem));
    assert_true(h5file_write_number(file, "/", "third", 1.0 / 3.0, &problem));
    assert_true(h5file_write_strings(file, "/none", NULL, 0, &problem));
    assert_true(h5file_close(&file, &problem));
    const hid_t id = open_file(path);
    check_text(id, "/", "long", text);
    double third = 0;
    const hid_t attribute = H5Aopen(id, "third", H5P_DEFAULT);
    H5Aread(attribute, H5T_NATIVE_DOUBLE, &third);
    assert_true(third == 1.0 / 3.0);
    H5Aclose(attribute);
    H5Fclose(id);
    memory_free(text);
    memory_free(path);
}

/* A mistake of the caller: HDF5's own words are in the problem, and the file stays usable. */
static void test_library_message(void **state) {
    char *path = file_join(*state, "trace.h5");
    struct problem problem = {0}, none = {0};
    struct h5file *file = h5file_create(path, &problem);
    assert_true(h5file_make_group(file, "/a", &problem));
    assert_false(h5file_make_group(file, "/a", &problem));
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, "name already exists"));
    assert_true(h5file_flush(file, &none));
    assert_true(h5file_close(&file, &none));
    assert_int_equal(strncmp(h5file_library_version(), "1.", 2), 0);
    memory_free(path);
}

#define TRACE_TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TRACE_TEST(test_layout_and_types),
        TRACE_TEST(test_attributes_and_names),
        TRACE_TEST(test_without_a_search),
        TRACE_TEST(test_allocation),
        TRACE_TEST(test_many_rows),
        TRACE_TEST(test_flush_interval),
        TRACE_TEST(test_killed_writer_keeps_flushed_rows),
        TRACE_TEST(test_unwritable_place),
        TRACE_TEST(test_device_is_refused),
        TRACE_TEST(test_locked_file_is_left_alone),
        TRACE_TEST(test_full_disk),
        TRACE_TEST(test_large_text),
        TRACE_TEST(test_library_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
