/* Reading HDF5 files. */
#include "io/h5reader.h"

#include "base/memory.h"

#include <hdf5.h>

struct h5reader {
    hid_t id;
    char *path;
};

struct h5reader *h5reader_open(const char *path, struct problem *problem) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0) {
        problem_set(problem, EXIT_DATA,
                    "%s: is no HDF5 file that can be opened (on a file system without locks set "
                    "HDF5_USE_FILE_LOCKING=FALSE in the environment)",
                    path);
        return NULL;
    }
    struct h5reader *reader = memory_allocate(1, sizeof *reader, "an HDF5 file");
    *reader = (struct h5reader){.id = id, .path = memory_copy_string(path)};
    return reader;
}

void h5reader_close(struct h5reader **reader) {
    if (*reader == NULL)
        return;
    H5Fclose((*reader)->id);
    memory_free((*reader)->path);
    memory_free(*reader);
    *reader = NULL;
}

/* A copy of a scalar attribute of variable length, or NULL. */
static char *read_text(hid_t attribute) {
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    char *value = NULL, *copy = NULL;
    if (type >= 0 && space >= 0 && H5Tis_variable_str(type) > 0 &&
        H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, type, &value) >= 0 &&
        value != NULL)
        copy = memory_copy_string(value);
    if (value != NULL)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, &value);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return copy;
}

char *h5reader_text(const struct h5reader *reader, const char *name, struct problem *problem) {
    const hid_t attribute = H5Aopen(reader->id, name, H5P_DEFAULT);
    char *text = attribute >= 0 ? read_text(attribute) : NULL;
    if (attribute >= 0)
        H5Aclose(attribute);
    if (text == NULL)
        problem_set(problem, EXIT_DATA, "%s: has no text attribute \"%s\"", reader->path, name);
    return text;
}

bool h5reader_has(const struct h5reader *reader, const char *path) {
    return H5Lexists(reader->id, path, H5P_DEFAULT) > 0;
}

static bool has_shape(hid_t dataset, size_t rows, size_t columns) {
    hsize_t shape[2] = {0, 0};
    const hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    const bool is_good = space >= 0 && type >= 0 && H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
                         H5Sget_simple_extent_ndims(space) == 2 &&
                         H5Sget_simple_extent_dims(space, shape, NULL) == 2 && shape[0] == rows &&
                         shape[1] == columns;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    return is_good;
}

bool h5reader_matrix(const struct h5reader *reader, const char *path, size_t rows, size_t columns,
                     float *values, struct problem *problem) {
    const hid_t dataset = H5Dopen2(reader->id, path, H5P_DEFAULT);
    if (dataset < 0)
        return problem_set(problem, EXIT_DATA, "%s: has no tensor %s", reader->path, path);
    bool is_good = true;
    if (!has_shape(dataset, rows, columns))
        is_good = problem_set(problem, EXIT_DATA, "%s: %s is not float32 [%zu, %zu]", reader->path,
                              path, rows, columns);
    else if (H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        is_good = problem_set(problem, EXIT_DATA, "%s: %s cannot be read", reader->path, path);
    H5Dclose(dataset);
    return is_good;
}
