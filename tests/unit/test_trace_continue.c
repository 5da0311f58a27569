/* A trace that goes on after a stop: cut back to a checkpoint's rows, killed again, damaged. */
#include "base/memory.h"
#include "io/file.h"
#include "io/h5file.h"
#include "io/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHECKPOINT_STEPS = 3,
    MODULES = 2,
    COMPONENTS = 3,
    RETRAIN = 2 /* the place of its table */
};
static const char *const names[MODULES] = {"a", "b"};
static const char PATH[] = "trace.h5", META[] = "trace.h5.meta",
                  META_UNFINISHED[] = "trace.h5.meta.tmp", ASIDE[] = "trace.h5.damaged-1",
                  COPY[] = "copy.h5";

/* ---- a folder for the files of a test ---- */

static int enter_folder(void **state) {
    char *folder = memory_copy_string("/tmp/autolora_test_continue_XXXXXX");
    *state = folder;
    return mkdtemp(folder) != NULL && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state) {
    unlink(PATH);
    unlink(META);
    unlink(META_UNFINISHED);
    unlink(ASIDE);
    unlink(COPY);
    const bool is_gone = chdir("/") == 0 && rmdir(*state) == 0;
    memory_free(*state);
    return is_gone && memory_blocks_now() == 0 ? 0 : -1;
}

/* ---- writing and reading ---- */

static const struct trace_options OPTIONS = {.path = PATH,
                                             .module_names = names,
                                             .num_modules = MODULES,
                                             .num_components = COMPONENTS,
                                             .input_text = "{}",
                                             .provenance = "{}",
                                             .flush_seconds = 1e9};

static double loss_of(size_t step) {
    return 1 / (double)step;
}

static bool add_rows(struct trace *trace, size_t first, size_t last, struct problem *problem) {
    bool is_good = true;
    for (size_t step = first; is_good && step <= last; ++step) {
        const struct trace_retrain_row row = {.step = step, .loss_train = loss_of(step)};
        is_good = trace_add_retrain(trace, &row, problem);
    }
    return is_good;
}

static void write_new(size_t num_rows) {
    struct problem problem = {0};
    struct trace *trace = trace_create(&OPTIONS, &problem);
    assert_non_null(trace);
    assert_true(add_rows(trace, 1, num_rows, &problem));
    assert_true(trace_close(&trace, &problem));
}

/* Goes on with the first `num_rows` rows; NULL and `warning` as trace_continue gives them. */
static struct trace *go_on(size_t num_rows, char **warning, struct problem *problem) {
    size_t rows[TRACE_NUM_TABLES] = {[RETRAIN] = num_rows};
    *warning = NULL;
    struct trace *trace = trace_continue(&OPTIONS, rows, warning, problem);
    if (trace != NULL) {
        size_t now[TRACE_NUM_TABLES];
        trace_rows(trace, now);
        assert_int_equal(now[RETRAIN], *warning == NULL ? num_rows : 0);
    }
    return trace;
}

static double *read_column(hid_t file, const char *path, size_t *count) {
    const hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(dataset);
    hsize_t rows = 0;
    assert_int_equal(H5Sget_simple_extent_dims(space, &rows, NULL), 1);
    *count = (size_t)rows;
    double *values = memory_allocate(*count, sizeof *values, "values");
    assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Sclose(space);
    H5Dclose(dataset);
    return values;
}

/* The rows are first, first + 1, ... without gap or repetition, and hold what they should; those
 * behind the first `num_sure` may have been wiped. */
static size_t check_sure_rows(size_t first, size_t num_sure) {
    size_t size = 0, count, others;
    struct problem problem = {0};
    char *bytes = file_read(PATH, &size, &problem); /* a copy: the file may be locked */
    assert_true(file_write_atomically(COPY, bytes, size, &problem));
    memory_free(bytes);
    const hid_t file = H5Fopen(COPY, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    double *steps = read_column(file, "/retrain/step", &count);
    double *losses = read_column(file, "/retrain/loss_train", &others);
    assert_true(others >= count);
    for (size_t i = 0; i < count; ++i)
        if ((steps[i] != (double)(first + i) || losses[i] != loss_of(first + i)) &&
            (i < num_sure || steps[i] != 0))
            fail_msg("row %zu of %zu: step %g, loss %g", i, count, steps[i], losses[i]);
    memory_free(steps);
    memory_free(losses);
    H5Fclose(file);
    return count;
}

static size_t check_rows(size_t first) {
    return check_sure_rows(first, SIZE_MAX);
}

/* ---- tests ---- */

static void test_cut_back_and_continued(void **state) {
    (void)state;
    static const size_t cuts[] = {700, 300, 256, 257, 255, 1, 0, 450, 512};
    write_new(700);
    size_t last = 700;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; ++i) {
        struct problem problem = {0};
        char *warning;
        struct trace *trace = go_on(cuts[i], &warning, &problem);
        assert_non_null(trace);
        assert_null(warning);
        assert_int_equal(check_rows(1), cuts[i]); /* at once, so that a kill finds it so */
        last = cuts[i] + 450;
        assert_true(add_rows(trace, cuts[i] + 1, last, &problem));
        assert_true(trace_close(&trace, &problem));
        assert_int_equal(check_rows(1), last);
    }
}

/* The index of so many chunks has two levels. */
static void test_long_trace(void **state) {
    (void)state;
    static const size_t cuts[] = {40000, 20000, 5, 3};
    write_new(50000);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; ++i) {
        struct problem problem = {0};
        char *warning;
        struct trace *trace = go_on(cuts[i], &warning, &problem);
        assert_non_null(trace);
        assert_true(add_rows(trace, cuts[i] + 1, cuts[i] + 30000, &problem));
        assert_true(trace_close(&trace, &problem));
        assert_int_equal(check_rows(1), cuts[i] + 30000);
    }
}

/* A child goes on, tells each row that was synced, and is killed. Returns the last one told. */
static size_t kill_writer(size_t num_rows, long delay_microseconds) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct problem problem = {0};
        char *warning;
        struct trace *trace = go_on(num_rows, &warning, &problem);
        for (size_t step = num_rows + 1; trace != NULL && warning == NULL; ++step)
            if (!add_rows(trace, step, step, &problem) ||
                !(step % CHECKPOINT_STEPS == 0 ? trace_sync : trace_flush)(trace, &problem) ||
                write(ends[1], &step, sizeof step) < 0)
                break;
        _exit(1);
    }
    close(ends[1]);
    const struct timespec pause = {.tv_nsec = delay_microseconds * 1000};
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    size_t told = num_rows, next;
    while (read(ends[0], &next, sizeof next) == (ssize_t)sizeof next)
        told = next;
    close(ends[0]);
    return told;
}

/* Killed at any moment, of the cut too: the rows that were told, and those of the checkpoint, are
 * there for the next attempt. */
static void test_killed_again_and_again(void **state) {
    (void)state;
    write_new(600);
    size_t num_rows = 600;
    for (long i = 0; i < 400; ++i) {
        const size_t told = kill_writer(num_rows, i % 40 == 39 ? 500000 : 200 + 1331 * i % 30000);
        assert_true(check_sure_rows(1, told) >= told);
        num_rows = told - told % CHECKPOINT_STEPS;
    }
    assert_true(num_rows > 600);
}

/* What a killed process left half cut is only set right by the flush that has the whole cut. */
static void test_opening_writes_nothing(void **state) {
    (void)state;
    write_new(300);
    size_t size = 0, size_now = 0;
    struct problem problem = {0};
    char *bytes = file_read(PATH, &size, &problem);
    assert_non_null(bytes);
    bytes[8] = (char)(bytes[8] ^ 1); /* of the superblock, which the image has as it was */
    assert_true(file_write_atomically(PATH, bytes, size, &problem));
    struct h5file *file = h5file_open(PATH, &problem);
    assert_non_null(file);
    char *now = file_read(PATH, &size_now, &problem);
    assert_int_equal(size_now, size);
    assert_memory_equal(now, bytes, size);
    memory_free(now);
    bytes[8] = (char)(bytes[8] ^ 1);
    assert_true(h5file_close(&file, &problem));
    now = file_read(PATH, &size_now, &problem);
    assert_int_equal(size_now, size);
    assert_memory_equal(now, bytes, size);
    memory_free(now);
    memory_free(bytes);
}

static size_t size_of(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (size_t)status.st_size;
}

/* What is cut off anywhere is noticed and kept, and a new file goes on. */
static void test_truncated_anywhere(void **state) {
    (void)state;
    write_new(300);
    size_t size = 0, meta_size = 0;
    struct problem problem = {0};
    char *whole = file_read(PATH, &size, &problem), *meta = file_read(META, &meta_size, &problem);
    assert_non_null(whole);
    assert_non_null(meta);
    for (size_t length = 0; length < size; length += length < 2048 ? 61 : 1021) {
        assert_true(file_write_atomically(PATH, whole, length, &problem));
        assert_true(file_write_atomically(META, meta, meta_size, &problem));
        char *warning;
        struct trace *trace = go_on(300, &warning, &problem);
        assert_non_null(trace);
        assert_non_null(warning);
        assert_non_null(strstr(warning, ASIDE));
        assert_int_equal(size_of(ASIDE), length);
        assert_true(add_rows(trace, 301, 310, &problem));
        assert_true(trace_close(&trace, &problem));
        assert_int_equal(check_rows(301), 10);
        memory_free(warning);
        unlink(ASIDE);
    }
    memory_free(meta);
    memory_free(whole);
}

/* HDF5 does not see what damage is in the file's metadata; rows are data and may be wrong. */
static void test_damaged_anywhere(void **state) {
    (void)state;
    enum { HOLE = 24 };
    write_new(300);
    size_t size = 0, meta_size = 0;
    struct problem problem = {0};
    char *whole = file_read(PATH, &size, &problem), *meta = file_read(META, &meta_size, &problem);
    for (size_t at = 0; at + HOLE <= size; at += 353) {
        char kept[HOLE];
        memcpy(kept, whole + at, HOLE);
        memset(whole + at, at % 2 == 0 ? 0xff : 0x01, HOLE);
        assert_true(file_write_atomically(PATH, whole, size, &problem));
        assert_true(file_write_atomically(META, meta, meta_size, &problem));
        memcpy(whole + at, kept, HOLE);
        char *warning;
        struct trace *trace = go_on(299, &warning, &problem);
        assert_non_null(trace);
        assert_null(warning);
        assert_true(add_rows(trace, 300, 310, &problem));
        assert_true(trace_close(&trace, &problem));
        size_t count;
        const hid_t file = H5Fopen(PATH, H5F_ACC_RDONLY, H5P_DEFAULT);
        memory_free(read_column(file, "/retrain/step", &count));
        H5Fclose(file);
        assert_int_equal(count, 310);
    }
    memory_free(meta);
    memory_free(whole);
}

/* Without its own metadata a file is not gone on with. */
static void test_damaged_image(void **state) {
    (void)state;
    write_new(30);
    size_t size = 0, meta_size = 0;
    struct problem problem = {0};
    char *whole = file_read(PATH, &size, &problem), *meta = file_read(META, &meta_size, &problem);
    for (size_t at = 0; at <= meta_size; at += at + 97 < meta_size ? 97 : 1) {
        assert_true(file_write_atomically(PATH, whole, size, &problem));
        if (at < meta_size)
            meta[at] = (char)(meta[at] ^ 4);
        else
            --meta_size;
        assert_true(file_write_atomically(META, meta, meta_size, &problem));
        char *warning;
        struct trace *trace = go_on(30, &warning, &problem);
        assert_non_null(trace);
        assert_non_null(strstr(warning, META));
        assert_true(trace_close(&trace, &problem));
        memory_free(warning);
        unlink(ASIDE);
        if (at < meta_size)
            meta[at] = (char)(meta[at] ^ 4);
        else
            break;
    }
    memory_free(meta);
    memory_free(whole);
}

static void test_fewer_rows_than_the_checkpoint(void **state) {
    (void)state;
    struct problem problem = {0};
    char *warning;
    write_new(10);
    struct trace *trace = go_on(11, &warning, &problem);
    assert_non_null(trace);
    assert_non_null(strstr(warning, "/retrain/"));
    assert_true(trace_close(&trace, &problem));
    memory_free(warning);
}

static void test_locked_file_is_left_alone(void **state) {
    (void)state;
    struct problem problem = {0};
    char *warning;
    write_new(10);
    const int other = open(PATH, O_RDWR);
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_null(go_on(5, &warning, &problem));
    assert_null(warning);
    assert_int_equal(problem.exit_code, EXIT_IO);
    assert_non_null(strstr(problem.text, "lock"));
    close(other);
    assert_int_equal(check_rows(1), 10);
    assert_false(file_exists(ASIDE));
}

#define CONTINUE_TEST(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        CONTINUE_TEST(test_cut_back_and_continued),
        CONTINUE_TEST(test_long_trace),
        CONTINUE_TEST(test_killed_again_and_again),
        CONTINUE_TEST(test_opening_writes_nothing),
        CONTINUE_TEST(test_truncated_anywhere),
        CONTINUE_TEST(test_damaged_anywhere),
        CONTINUE_TEST(test_damaged_image),
        CONTINUE_TEST(test_fewer_rows_than_the_checkpoint),
        CONTINUE_TEST(test_locked_file_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
