/* Writing safetensors files: 8 bytes of header length, the JSON header, the data. */
#include "io/safetensors_write.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ALIGNMENT = 8 }; /* of the data in the file */

struct safetensors_writer {
    FILE *stream;
    char *path, *temporary;
    const struct safetensors_entry *entries;
    size_t count, written;
    bool is_good;
};

static size_t count_of(const struct safetensors_entry *entry) {
    return entry->shape[0] * (entry->num_dimensions == 2 ? entry->shape[1] : 1);
}

/* Free with memory_free. */
static char *header_text(const struct safetensors_entry *entries, size_t count) {
    struct json *root = json_create_object();
    json_add_string(json_add_object(root, "__metadata__"), "format", "pt");
    size_t offset = 0;
    for (size_t i = 0; i < count; ++i) {
        struct json *tensor = json_add_object(root, entries[i].name);
        json_add_string(tensor, "dtype", "F32");
        struct json *shape = json_add_array(tensor, "shape");
        for (size_t d = 0; d < entries[i].num_dimensions; ++d)
            json_add_number(shape, NULL, (double)entries[i].shape[d]);
        struct json *offsets = json_add_array(tensor, "data_offsets");
        json_add_number(offsets, NULL, (double)offset);
        offset += count_of(&entries[i]) * sizeof(float);
        json_add_number(offsets, NULL, (double)offset);
    }
    char *text = json_print(root, false);
    json_destroy(&root);
    return text;
}

static bool write_bytes(struct safetensors_writer *writer, const void *bytes, size_t size,
                        struct problem *problem) {
    if (writer->is_good && fwrite(bytes, 1, size, writer->stream) != size)
        writer->is_good = problem_set(problem, EXIT_IO, "%s: cannot be written: %s", writer->path,
                                      strerror(errno));
    return writer->is_good;
}

static void write_header(struct safetensors_writer *writer, struct problem *problem) {
    static const char spaces[ALIGNMENT + 1] = "        ";
    char *text = header_text(writer->entries, writer->count);
    const size_t length = strlen(text), padding = (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
    unsigned char prefix[8];
    for (size_t i = 0; i < sizeof prefix; ++i)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i & 0xff);
    write_bytes(writer, prefix, sizeof prefix, problem);
    write_bytes(writer, text, length, problem);
    write_bytes(writer, spaces, padding, problem);
    memory_free(text);
}

struct safetensors_writer *safetensors_writer_create(const char *path,
                                                     const struct safetensors_entry *entries,
                                                     size_t count, struct problem *problem) {
    char *temporary = memory_format("%s.tmp", path);
    FILE *stream = fopen(temporary, "wb");
    if (stream == NULL) {
        problem_set(problem, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
        memory_free(temporary);
        return NULL;
    }
    struct safetensors_writer *writer = memory_allocate(1, sizeof *writer, "a safetensors file");
    *writer = (struct safetensors_writer){
        .stream = stream,
        .path = memory_copy_string(path),
        .temporary = temporary,
        .entries = entries,
        .count = count,
        .is_good = true,
    };
    write_header(writer, problem);
    return writer;
}

bool safetensors_write(struct safetensors_writer *writer, const float *values,
                       struct problem *problem) {
    FAULT_UNLESS(writer->written < writer->count, "%s: more tensors than entries", writer->path);
    const size_t count = count_of(&writer->entries[writer->written++]);
    return write_bytes(writer, values, count * sizeof *values, problem);
}

bool safetensors_writer_finish(struct safetensors_writer **pointer, struct problem *problem) {
    struct safetensors_writer *writer = *pointer;
    if (writer == NULL)
        return false;
    bool is_good = writer->is_good && problem->exit_code == 0;
    FAULT_UNLESS(!is_good || writer->written == writer->count, "%s: %zu of %zu tensors",
                 writer->path, writer->written, writer->count);
    if (is_good && (fflush(writer->stream) != 0 || fsync(fileno(writer->stream)) != 0))
        is_good = problem_set(problem, EXIT_IO, "%s: cannot be written: %s", writer->path,
                              strerror(errno));
    fclose(writer->stream);
    is_good = is_good && file_rename(writer->temporary, writer->path, problem);
    if (!is_good)
        unlink(writer->temporary);
    memory_free(writer->temporary);
    memory_free(writer->path);
    memory_free(writer);
    *pointer = NULL;
    return is_good;
}
