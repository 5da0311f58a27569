/* base/memory.h for fuzzing: blocks of exactly the size that is asked for, without a header, so
 * that the address sanitizer sees the first byte beyond one. Linked in place of base/memory.c. */
#include "base/memory.h"

#include "base/report.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t bytes_now, blocks_now, bytes_peak;

void *memory_allocate(size_t count, size_t size, const char *what) {
    void *block = NULL;
    if ((size != 0 && count > SIZE_MAX / 2 / size) ||
        posix_memalign(&block, 64, count * size) != 0 || block == NULL)
        FAULT("out of memory: %zu x %zu bytes for %s", count, size, what);
    memset(block, 0, malloc_usable_size(block));
    bytes_now += malloc_usable_size(block);
    ++blocks_now;
    if (bytes_now > bytes_peak)
        bytes_peak = bytes_now;
    return block;
}

void *memory_resize(void *pointer, size_t count, size_t size, const char *what) {
    void *fresh = memory_allocate(count, size, what);
    if (pointer != NULL) {
        const size_t old = malloc_usable_size(pointer);
        memcpy(fresh, pointer, old < count * size ? old : count * size);
        memory_free(pointer);
    }
    return fresh;
}

char *memory_copy_string(const char *text) {
    const size_t bytes = strlen(text) + 1;
    return memcpy(memory_allocate(bytes, 1, "a string"), text, bytes);
}

char *memory_format(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    char *text = memory_allocate((size_t)length + 1, 1, "a string");
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void memory_free(void *pointer) {
    if (pointer == NULL)
        return;
    bytes_now -= malloc_usable_size(pointer);
    --blocks_now;
    free(pointer);
}

size_t memory_bytes_now(void) {
    return bytes_now;
}

size_t memory_blocks_now(void) {
    return blocks_now;
}

size_t memory_bytes_peak(void) {
    return bytes_peak;
}

size_t memory_resident_peak(void) {
    return bytes_peak;
}
