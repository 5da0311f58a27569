/* Counted memory: a header of 64 bytes before each block holds its size. The counters are the one
 * process-wide state, as the heap itself is. */
#include "base/memory.h"

#include "base/report.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { HEADER_BYTES = 64 };

static atomic_size_t bytes_now, blocks_now, bytes_peak;

static void count_block(size_t bytes) {
    size_t now = atomic_fetch_add(&bytes_now, bytes) + bytes;
    atomic_fetch_add(&blocks_now, 1);
    size_t peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now))
        ;
}

static size_t block_bytes(const void *pointer) {
    return *(const size_t *)((const char *)pointer - HEADER_BYTES);
}

void *memory_allocate(size_t count, size_t size, const char *what) {
    if (size != 0 && count > (SIZE_MAX / 2 - HEADER_BYTES) / size)
        report_abort(EXIT_MEMORY, __FILE__, __LINE__, "out of memory: %zu x %zu bytes for %s",
                     count, size, what);
    const size_t bytes = count * size;
    const size_t rounded = (bytes + HEADER_BYTES + 63) / 64 * 64;
    char *block = aligned_alloc(64, rounded);
    if (block == NULL)
        report_abort(EXIT_MEMORY, __FILE__, __LINE__,
                     "out of memory: %zu bytes for %s (%zu bytes are in use)", bytes, what,
                     memory_bytes_now());
    memset(block, 0, rounded);
    *(size_t *)block = bytes;
    count_block(bytes);
    return block + HEADER_BYTES;
}

void *memory_resize(void *pointer, size_t count, size_t size, const char *what) {
    void *fresh = memory_allocate(count, size, what);
    if (pointer != NULL) {
        const size_t old = block_bytes(pointer);
        memcpy(fresh, pointer, old < count * size ? old : count * size);
        memory_free(pointer);
    }
    return fresh;
}

char *memory_copy_string(const char *text) {
    const size_t bytes = strlen(text) + 1;
    char *copy = memory_allocate(bytes, 1, "a string");
    memcpy(copy, text, bytes);
    return copy;
}

char *memory_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char nothing[1];
    const int length = vsnprintf(nothing, sizeof nothing, format, arguments);
    va_end(arguments);
    FAULT_UNLESS(length >= 0, "bad format string");
    char *text = memory_allocate((size_t)length + 1, 1, "a string");
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

void memory_free(void *pointer) {
    if (pointer == NULL)
        return;
    atomic_fetch_sub(&bytes_now, block_bytes(pointer));
    atomic_fetch_sub(&blocks_now, 1);
    free((char *)pointer - HEADER_BYTES);
}

size_t memory_bytes_now(void) {
    return atomic_load(&bytes_now);
}

size_t memory_blocks_now(void) {
    return atomic_load(&blocks_now);
}

size_t memory_bytes_peak(void) {
    return atomic_load(&bytes_peak);
}

size_t memory_resident_peak(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (size_t)usage.ru_maxrss * 1024;
}
