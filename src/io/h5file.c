/* HDF5 files, written by one process with the serial interface. The file format is the earliest
 * one: since 1.10 the latest format carries a mark "open for writing" that makes readers refuse the
 * file of a killed run. Writes go through io/h5driver.h, which keeps what was flushed readable
 * whatever happens afterwards. */
#include "io/h5file.h"

#include "base/memory.h"
#include "io/h5driver.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_ROWS = 256, MAX_ROW_DIMENSIONS = 3, MESSAGE_BYTES = 512 };

struct h5series {
    struct h5series *next; /* the file owns its series */
    struct h5file *file;
    char *path;
    hid_t dataset, memory_type;
    size_t num_dimensions;                 /* of a row */
    hsize_t shape[1 + MAX_ROW_DIMENSIONS]; /* shape[0]: rows so far */
};

struct h5file {
    hid_t id;
    char *path;
    struct h5driver *driver;
    struct h5series *series;
};

/* ---- problems ---- */

static herr_t keep_innermost(unsigned depth, const H5E_error2_t *error, void *message) {
    if (depth == 0)
        snprintf(message, MESSAGE_BYTES, "%s", error->desc != NULL ? error->desc : "");
    return 0;
}

/* HDF5's own message; to be called before anything else touches its error stack. */
static void innermost_message(char message[MESSAGE_BYTES]) {
    message[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, message);
    if (message[0] == '\0')
        snprintf(message, MESSAGE_BYTES, "HDF5 gives no reason");
}

/* True if the last calls succeeded and no write to the disk has failed so far. */
static bool check(const struct h5file *file, bool is_good, const char *action, const char *object,
                  struct problem *problem) {
    const char *error = h5driver_error(file->driver);
    if (is_good && error == NULL)
        return true;
    char message[MESSAGE_BYTES];
    if (error == NULL)
        innermost_message(message);
    return problem_set(problem, EXIT_IO, "%s: %s %s failed: %s", file->path, action, object,
                       error != NULL ? error : message);
}

static void report_open_failure(const char *path, const char *what, int exit_code,
                                struct problem *problem) {
    char message[MESSAGE_BYTES];
    innermost_message(message);
    const bool is_lock = strstr(message, "lock file") != NULL;
    problem_set(problem, is_lock ? EXIT_IO : exit_code, "%s: cannot be %s: %s%s", path, what,
                message,
                is_lock ? "\nAnother process has it open; or the file system does not support "
                          "locks: then set HDF5_USE_FILE_LOCKING=FALSE in the environment"
                        : "");
}

/* ---- the file ---- */

/* Our own flags: metadata leaves HDF5's cache at flushes only. */
static hid_t make_access(void) {
    const hid_t access = h5driver_make_access();
    if (access < 0)
        return -1;
    H5AC_cache_config_t cache = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    bool is_good = H5Pget_mdc_config(access, &cache) >= 0;
    cache.evictions_enabled = false;
    cache.incr_mode = H5C_incr__off;
    cache.flash_incr_mode = H5C_flash_incr__off;
    cache.decr_mode = H5C_decr__off;
    is_good = is_good && H5Pset_mdc_config(access, &cache) >= 0 &&
              H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) >= 0;
    if (is_good)
        return access;
    H5Pclose(access);
    return -1;
}

static struct h5file *wrap(hid_t id, const char *path) {
    struct h5file *file = memory_allocate(1, sizeof *file, "an HDF5 file");
    *file = (struct h5file){.id = id, .path = memory_copy_string(path), .driver = h5driver_of(id)};
    FAULT_UNLESS(file->driver != NULL, "%s: HDF5 gives no handle of its driver", path);
    return file;
}

struct h5file *h5file_open(const char *path, struct problem *problem) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t access = make_access();
    const hid_t id = access < 0 ? -1 : H5Fopen(path, H5F_ACC_RDWR, access);
    if (id < 0)
        report_open_failure(path, "opened", EXIT_DATA, problem);
    if (access >= 0)
        H5Pclose(access);
    return id < 0 ? NULL : wrap(id, path);
}

struct h5file *h5file_create(const char *path, struct problem *problem) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t access = make_access();
    const hid_t id = access < 0 ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (id < 0)
        report_open_failure(path, "created", EXIT_IO, problem);
    if (access >= 0)
        H5Pclose(access);
    if (id < 0)
        return NULL;
    struct h5file *file = wrap(id, path);
    if (!h5file_flush(file, problem))
        h5file_close(&file, problem);
    return file;
}

bool h5file_flush(struct h5file *file, struct problem *problem) {
    return check(file, H5Fflush(file->id, H5F_SCOPE_LOCAL) >= 0, "flushing", "the file", problem);
}

bool h5file_sync(struct h5file *file, struct problem *problem) {
    const bool is_good = h5file_flush(file, problem);
    h5driver_sync(file->driver);
    return check(file, true, "syncing", "the file", problem) && is_good;
}

bool h5file_save(struct h5file *file, struct problem *problem) {
    return h5file_sync(file, problem) && h5driver_save(file->driver, problem);
}

bool h5file_close(struct h5file **file_pointer, struct problem *problem) {
    struct h5file *file = *file_pointer;
    if (file == NULL)
        return true;
    bool is_good = h5file_sync(file, problem);
    while (file->series != NULL) {
        struct h5series *series = file->series;
        file->series = series->next;
        H5Dclose(series->dataset);
        memory_free(series->path);
        memory_free(series);
    }
    const hid_t driver = h5driver_hold(file->driver);
    if (H5Fclose(file->id) < 0) {
        char message[MESSAGE_BYTES];
        innermost_message(message);
        is_good = problem_set(problem, EXIT_IO, "%s: closing failed: %s", file->path, message);
    }
    H5Idec_ref(driver);
    memory_free(file->path);
    memory_free(file);
    *file_pointer = NULL;
    return is_good;
}

bool h5file_has(const struct h5file *file, const char *path) {
    return H5Lexists(file->id, path, H5P_DEFAULT) > 0;
}

bool h5file_make_group(struct h5file *file, const char *path, struct problem *problem) {
    const hid_t group = H5Gcreate2(file->id, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const bool is_good = check(file, group >= 0, "making the group", path, problem);
    if (group >= 0)
        H5Gclose(group);
    return is_good;
}

/* ---- attributes and strings ---- */

static hid_t make_text_type(void) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static bool write_attribute(struct h5file *file, const char *object, const char *name, hid_t stored,
                            hid_t in_memory, const void *value, struct problem *problem) {
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate_by_name(file->id, object, name, stored, space, H5P_DEFAULT,
                                              H5P_DEFAULT, H5P_DEFAULT);
    const bool is_written = attribute >= 0 && H5Awrite(attribute, in_memory, value) >= 0;
    const bool is_good = check(file, is_written, "writing the attribute", name, problem);
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Sclose(space);
    return is_good;
}

bool h5file_write_text(struct h5file *file, const char *object, const char *name, const char *text,
                       struct problem *problem) {
    const hid_t type = make_text_type();
    const bool is_good = write_attribute(file, object, name, type, type, &text, problem);
    H5Tclose(type);
    return is_good;
}

bool h5file_write_number(struct h5file *file, const char *object, const char *name, double value,
                         struct problem *problem) {
    return write_attribute(file, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value, problem);
}

bool h5file_write_strings(struct h5file *file, const char *path, const char *const *strings,
                          size_t count, struct problem *problem) {
    const hsize_t shape[1] = {count};
    const hid_t type = make_text_type();
    const hid_t space = H5Screate_simple(1, shape, NULL);
    const hid_t dataset =
        H5Dcreate2(file->id, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const bool is_written = dataset >= 0 && (count == 0 || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL,
                                                                    H5P_DEFAULT, strings) >= 0);
    const bool is_good = check(file, is_written, "writing", path, problem);
    if (dataset >= 0)
        H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
    return is_good;
}

bool h5file_write_matrix(struct h5file *file, const char *path, const float *values, size_t rows,
                         size_t columns, struct problem *problem) {
    const hsize_t shape[2] = {rows, columns};
    const hid_t space = H5Screate_simple(2, shape, NULL);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    hid_t dataset = -1;
    if (H5Pset_create_intermediate_group(links, 1) >= 0)
        dataset =
            H5Dcreate2(file->id, path, H5T_IEEE_F32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
    const bool is_written = dataset >= 0 && H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL,
                                                     H5P_DEFAULT, values) >= 0;
    const bool is_good = check(file, is_written, "writing", path, problem);
    if (dataset >= 0)
        H5Dclose(dataset);
    H5Pclose(links);
    H5Sclose(space);
    return is_good;
}

/* ---- series ---- */

static hid_t stored_type(enum h5type type) {
    switch (type) {
    case H5TYPE_F32:
        return H5T_IEEE_F32LE;
    case H5TYPE_F64:
        return H5T_IEEE_F64LE;
    case H5TYPE_U64:
        return H5T_STD_U64LE;
    case H5TYPE_I32:
        return H5T_STD_I32LE;
    }
    FAULT("no HDF5 type %d", (int)type);
}

static hid_t memory_type(enum h5type type) {
    switch (type) {
    case H5TYPE_F32:
        return H5T_NATIVE_FLOAT;
    case H5TYPE_F64:
        return H5T_NATIVE_DOUBLE;
    case H5TYPE_U64:
        return H5T_NATIVE_UINT64;
    case H5TYPE_I32:
        return H5T_NATIVE_INT32;
    }
    FAULT("no HDF5 type %d", (int)type);
}

/* No chunk cache: rows go straight to their place, and no dirty chunk is left when the disk is
 * full. */
static hid_t make_series_access(void) {
    const hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    if (access >= 0 && H5Pset_chunk_cache(access, 0, 0, 0.0) >= 0)
        return access;
    return -1;
}

static hid_t create_dataset(const struct h5series *series, enum h5type type) {
    const int rank = 1 + (int)series->num_dimensions;
    hsize_t largest[1 + MAX_ROW_DIMENSIONS], chunk[1 + MAX_ROW_DIMENSIONS];
    memcpy(largest, series->shape, sizeof largest);
    memcpy(chunk, series->shape, sizeof chunk);
    largest[0] = H5S_UNLIMITED;
    chunk[0] = CHUNK_ROWS;
    const hid_t space = H5Screate_simple(rank, series->shape, largest);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), access = make_series_access();
    hid_t dataset = -1;
    if (space >= 0 && access >= 0 && H5Pset_chunk(creation, rank, chunk) >= 0)
        dataset = H5Dcreate2(series->file->id, series->path, stored_type(type), space, H5P_DEFAULT,
                             creation, access);
    if (access >= 0)
        H5Pclose(access);
    H5Pclose(creation);
    if (space >= 0)
        H5Sclose(space);
    return dataset;
}

static struct h5series *series_create(struct h5file *file, const char *path, enum h5type type,
                                      const size_t *row_shape, size_t num_dimensions) {
    FAULT_UNLESS(num_dimensions <= MAX_ROW_DIMENSIONS, "%s: %zu dimensions", path, num_dimensions);
    struct h5series *series = memory_allocate(1, sizeof *series, "an HDF5 dataset");
    series->file = file;
    series->path = memory_copy_string(path);
    series->memory_type = memory_type(type);
    series->num_dimensions = num_dimensions;
    for (size_t i = 0; i < num_dimensions; ++i)
        series->shape[1 + i] = row_shape[i];
    return series;
}

/* From here on the file owns it, if it has a dataset. */
static struct h5series *keep_series(struct h5series *series, bool is_good) {
    if (series->dataset < 0) {
        memory_free(series->path);
        memory_free(series);
        return NULL;
    }
    series->next = series->file->series;
    series->file->series = series;
    return is_good ? series : NULL;
}

struct h5series *h5file_make_series(struct h5file *file, const char *path, enum h5type type,
                                    const size_t *row_shape, size_t num_dimensions,
                                    struct problem *problem) {
    struct h5series *series = series_create(file, path, type, row_shape, num_dimensions);
    series->dataset = create_dataset(series, type);
    return keep_series(series, check(file, series->dataset >= 0, "creating", path, problem));
}

/* Is it a series of this type and row shape, with at least as many rows? */
static bool fits(const struct h5series *series, enum h5type type, size_t num_rows) {
    hsize_t shape[1 + MAX_ROW_DIMENSIONS] = {0};
    const hid_t space = H5Dget_space(series->dataset), stored = H5Dget_type(series->dataset);
    const int rank = 1 + (int)series->num_dimensions;
    bool is_good = space >= 0 && stored >= 0 && H5Tequal(stored, stored_type(type)) > 0 &&
                   H5Sget_simple_extent_ndims(space) == rank &&
                   H5Sget_simple_extent_dims(space, shape, NULL) == rank && shape[0] >= num_rows;
    for (int i = 1; is_good && i < rank; ++i)
        is_good = shape[i] == series->shape[i];
    if (stored >= 0)
        H5Tclose(stored);
    if (space >= 0)
        H5Sclose(space);
    return is_good;
}

struct h5series *h5file_continue_series(struct h5file *file, const char *path, enum h5type type,
                                        const size_t *row_shape, size_t num_dimensions,
                                        size_t num_rows, struct problem *problem) {
    struct h5series *series = series_create(file, path, type, row_shape, num_dimensions);
    const hid_t access = make_series_access();
    series->dataset = access < 0 ? -1 : H5Dopen2(file->id, path, access);
    if (access >= 0)
        H5Pclose(access);
    bool is_good = series->dataset >= 0 && fits(series, type, num_rows);
    if (!is_good)
        problem_set(problem, EXIT_DATA, "%s: %s is not a series of %zu or more rows of its shape",
                    file->path, path, num_rows);
    series->shape[0] = num_rows;
    if (is_good)
        is_good = check(file, H5Dset_extent(series->dataset, series->shape) >= 0, "cutting", path,
                        problem);
    return keep_series(series, is_good);
}

/* Where rows are: in the file, `count` of them from `first` on in strides, and in memory. */
struct row_spaces {
    hid_t in_file, in_memory;
};

static struct row_spaces open_rows(const struct h5series *series, size_t first, size_t stride,
                                   size_t count) {
    const int rank = 1 + (int)series->num_dimensions;
    hsize_t start[1 + MAX_ROW_DIMENSIONS] = {first}, shape[1 + MAX_ROW_DIMENSIONS];
    hsize_t steps[1 + MAX_ROW_DIMENSIONS];
    memcpy(shape, series->shape, sizeof shape);
    shape[0] = count;
    for (int i = 0; i < rank; ++i)
        steps[i] = i == 0 ? stride : 1;
    struct row_spaces spaces = {H5Dget_space(series->dataset), H5Screate_simple(rank, shape, NULL)};
    if (spaces.in_file >= 0 &&
        H5Sselect_hyperslab(spaces.in_file, H5S_SELECT_SET, start, steps, shape, NULL) < 0) {
        H5Sclose(spaces.in_file);
        spaces.in_file = -1;
    }
    return spaces;
}

static void close_rows(struct row_spaces spaces) {
    if (spaces.in_memory >= 0)
        H5Sclose(spaces.in_memory);
    if (spaces.in_file >= 0)
        H5Sclose(spaces.in_file);
}

bool h5series_append(struct h5series *series, const void *rows, size_t num_rows,
                     struct problem *problem) {
    if (num_rows == 0 || !check(series->file, true, "writing", series->path, problem))
        return num_rows == 0;
    const size_t first = (size_t)series->shape[0];
    series->shape[0] += num_rows;
    struct row_spaces spaces = {-1, -1};
    if (H5Dset_extent(series->dataset, series->shape) >= 0)
        spaces = open_rows(series, first, 1, num_rows);
    const bool is_written = spaces.in_file >= 0 && spaces.in_memory >= 0 &&
                            H5Dwrite(series->dataset, series->memory_type, spaces.in_memory,
                                     spaces.in_file, H5P_DEFAULT, rows) >= 0;
    const bool is_good = check(series->file, is_written, "writing", series->path, problem);
    close_rows(spaces);
    return is_good;
}

bool h5series_read(const struct h5series *series, size_t first, size_t stride, size_t count,
                   void *rows, struct problem *problem) {
    FAULT_UNLESS(count == 0 || first + (count - 1) * stride < series->shape[0],
                 "%s: reading %zu rows from %zu on, every %zu", series->path, count, first, stride);
    if (count == 0 || !check(series->file, true, "reading", series->path, problem))
        return count == 0;
    const struct row_spaces spaces = open_rows(series, first, stride, count);
    const bool is_read = spaces.in_file >= 0 && spaces.in_memory >= 0 &&
                         H5Dread(series->dataset, series->memory_type, spaces.in_memory,
                                 spaces.in_file, H5P_DEFAULT, rows) >= 0;
    const bool is_good = check(series->file, is_read, "reading", series->path, problem);
    close_rows(spaces);
    return is_good;
}

const char *h5file_library_version(void) {
    static char text[32]; /* constant once written */
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    return text;
}
