/* Files that are changed at a few places: the input's part begins with the number of bytes that are
 * cut off, 2 bytes, then comes an offset of 3 bytes and a byte for each change. */
#ifndef AUTOLORA_FUZZ_PATCH_HARNESS_H
#define AUTOLORA_FUZZ_PATCH_HARNESS_H

#include "fuzz.h"

#include "io/file.h"

/* A good file. */
struct original {
    char *bytes;
    size_t size;
};

static inline struct original read_original(const char *path) {
    struct problem problem = {0};
    struct original original;
    original.bytes = file_read(path, &original.size, &problem);
    FAULT_UNLESS(original.bytes != NULL, "%s", problem.text);
    return original;
}

/* Writes the file `name` of the folder with the part's changes. */
static inline const char *put_changed(const char *name, const struct original *original,
                                      struct part changes) {
    char *bytes = memory_allocate(original->size, 1, "a changed file");
    memcpy(bytes, original->bytes, original->size);
    fuzz_count_file(original->size);
    const size_t cut = fuzz_take_byte(&changes) << 8 | fuzz_take_byte(&changes);
    while (changes.size > 0) {
        size_t offset = fuzz_take_byte(&changes);
        offset = offset << 8 | fuzz_take_byte(&changes);
        offset = offset << 8 | fuzz_take_byte(&changes);
        bytes[offset % original->size] = (char)fuzz_take_byte(&changes);
    }
    const size_t size = cut < original->size ? original->size - cut : 0;
    const char *path = fuzz_put(name, (struct part){bytes, size});
    memory_free(bytes);
    return path;
}

#endif
