/* Checkpoints. The checksum stands behind the end of what HDF5 knows, which HDF5 does not mind. */
#include "io/checkpoint.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/h5file.h"
#include "io/h5reader.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static const char FORMAT[] = "autolora checkpoint 1";

/* The last bytes of a file: "checksum 89abcdef\n". */
#define SEAL "checksum %08lx\n"
enum { SEAL_BYTES = sizeof "checksum 89abcdef\n" - 1 };

static void make_seal(const unsigned char *bytes, size_t size, char seal[SEAL_BYTES + 1]) {
    snprintf(seal, SEAL_BYTES + 1, SEAL, (unsigned long)crc32_z(0, bytes, size) & 0xfffffffful);
}

struct checkpoint_writer {
    struct h5file *file;
    char *path, *temporary;
};

struct checkpoint_writer *checkpoint_writer_create(const char *path, struct problem *problem) {
    char *temporary = memory_format("%s.tmp", path);
    struct h5file *file = h5file_create(temporary, problem);
    if (file == NULL) {
        unlink(temporary);
        memory_free(temporary);
        return NULL;
    }
    struct checkpoint_writer *writer = memory_allocate(1, sizeof *writer, "a checkpoint");
    *writer = (struct checkpoint_writer){file, memory_copy_string(path), temporary};
    checkpoint_write_text(writer, "format", FORMAT, problem);
    return writer;
}

bool checkpoint_write_text(struct checkpoint_writer *writer, const char *name, const char *text,
                           struct problem *problem) {
    return h5file_write_text(writer->file, "/", name, text, problem);
}

bool checkpoint_write_tensor(struct checkpoint_writer *writer, const char *group, const char *name,
                             const float *values, size_t rows, size_t columns,
                             struct problem *problem) {
    FAULT_UNLESS(strchr(name, '/') == NULL, "tensor name %s has a slash", name);
    char *path = memory_format("/%s/%s", group, name);
    const bool is_good = h5file_write_matrix(writer->file, path, values, rows, columns, problem);
    memory_free(path);
    return is_good;
}

static bool append_seal(const char *path, struct problem *problem) {
    struct file_map map;
    char seal[SEAL_BYTES + 1];
    if (!file_map_open(&map, path, problem))
        return false;
    make_seal(map.bytes, map.size, seal);
    file_map_close(&map);
    return file_append(path, seal, SEAL_BYTES, problem);
}

bool checkpoint_writer_finish(struct checkpoint_writer **pointer, struct problem *problem) {
    struct checkpoint_writer *writer = *pointer;
    if (writer == NULL)
        return problem->exit_code == 0;
    const bool is_good = h5file_close(&writer->file, problem) && problem->exit_code == 0 &&
                         append_seal(writer->temporary, problem) &&
                         file_rename(writer->temporary, writer->path, problem);
    if (!is_good)
        unlink(writer->temporary);
    memory_free(writer->temporary);
    memory_free(writer->path);
    memory_free(writer);
    *pointer = NULL;
    return is_good;
}

struct checkpoint {
    struct h5reader *reader;
};

static bool verify_seal(const char *path, struct problem *problem) {
    struct file_map map;
    char seal[SEAL_BYTES + 1];
    if (!file_map_open(&map, path, problem))
        return false;
    bool is_good = map.size > SEAL_BYTES;
    if (is_good) {
        const size_t size = map.size - SEAL_BYTES;
        make_seal(map.bytes, size, seal);
        is_good = memcmp(map.bytes + size, seal, SEAL_BYTES) == 0;
    }
    file_map_close(&map);
    return is_good ||
           problem_set(problem, EXIT_DATA,
                       "%s: the checksum at its end does not fit: is it a checkpoint, whole and "
                       "unchanged?",
                       path);
}

static bool verify_format(const struct checkpoint *checkpoint, const char *path,
                          struct problem *problem) {
    char *format = checkpoint_text(checkpoint, "format", problem);
    if (format == NULL)
        return false;
    const bool is_good = strcmp(format, FORMAT) == 0 ||
                         problem_set(problem, EXIT_DATA, "%s: its format is \"%.60s\", not \"%s\"",
                                     path, format, FORMAT);
    memory_free(format);
    return is_good;
}

struct checkpoint *checkpoint_open(const char *path, struct problem *problem) {
    if (!verify_seal(path, problem))
        return NULL;
    struct h5reader *reader = h5reader_open(path, problem);
    if (reader == NULL)
        return NULL;
    struct checkpoint *checkpoint = memory_allocate(1, sizeof *checkpoint, "a checkpoint");
    checkpoint->reader = reader;
    if (!verify_format(checkpoint, path, problem))
        checkpoint_close(&checkpoint);
    return checkpoint;
}

void checkpoint_close(struct checkpoint **checkpoint) {
    if (*checkpoint == NULL)
        return;
    h5reader_close(&(*checkpoint)->reader);
    memory_free(*checkpoint);
    *checkpoint = NULL;
}

char *checkpoint_text(const struct checkpoint *checkpoint, const char *name,
                      struct problem *problem) {
    return h5reader_text(checkpoint->reader, name, problem);
}

bool checkpoint_has_tensor(const struct checkpoint *checkpoint, const char *group,
                           const char *name) {
    char *path = memory_format("/%s/%s", group, name);
    const bool has = h5reader_has(checkpoint->reader, path);
    memory_free(path);
    return has;
}

bool checkpoint_read_tensor(const struct checkpoint *checkpoint, const char *group,
                            const char *name, size_t rows, size_t columns, float *values,
                            struct problem *problem) {
    char *path = memory_format("/%s/%s", group, name);
    const bool is_good = h5reader_matrix(checkpoint->reader, path, rows, columns, values, problem);
    memory_free(path);
    return is_good;
}
