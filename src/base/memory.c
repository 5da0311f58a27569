/* Counted memory: a header of 64 bytes before each block holds its size and label. The counters and
 * the observer of a rehearsal are the one process-wide state, as the heap itself is. */
#include "base/memory.h"

#include "base/report.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HEADER_BYTES = 64, UNTOUCHED_BYTES = 1 << 16 };

struct header {
    size_t bytes, mapped_bytes; /* mapped_bytes 0: from the heap */
    const char *what;
};
_Static_assert(sizeof(struct header) <= HEADER_BYTES, "the header has room");

static atomic_size_t bytes_now, blocks_now, bytes_peak;
static memory_observer observer;
static void *observer_context;

static void count_block(size_t bytes) {
    size_t now = atomic_fetch_add(&bytes_now, bytes) + bytes;
    atomic_fetch_add(&blocks_now, 1);
    size_t peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now))
        ;
}

static struct header *header_of(const void *pointer) {
    return (struct header *)(void *)((char *)(size_t)pointer - HEADER_BYTES);
}

/* Zeroed; NULL where there is not so much. */
static struct header *take(size_t rounded) {
    if (observer != NULL && rounded >= UNTOUCHED_BYTES) {
        struct header *header = mmap(NULL, rounded, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (header == MAP_FAILED)
            return NULL;
        header->mapped_bytes = rounded;
        return header;
    }
    struct header *header = aligned_alloc(64, rounded);
    if (header != NULL)
        memset(header, 0, rounded);
    return header;
}

void memory_rehearse(memory_observer seen, void *context) {
    observer = seen;
    observer_context = context;
}

void *memory_allocate(size_t count, size_t size, const char *what) {
    if (size != 0 && count > (SIZE_MAX / 2 - HEADER_BYTES) / size)
        report_abort(EXIT_MEMORY, __FILE__, __LINE__, "out of memory: %zu x %zu bytes for %s",
                     count, size, what);
    const size_t bytes = count * size;
    const size_t rounded = (bytes + HEADER_BYTES + 63) / 64 * 64;
    struct header *header = take(rounded);
    if (header == NULL)
        report_abort(EXIT_MEMORY, __FILE__, __LINE__,
                     "out of memory: %zu bytes for %s (%zu bytes are in use)", bytes, what,
                     memory_bytes_now());
    header->bytes = bytes;
    header->what = what;
    count_block(bytes);
    if (observer != NULL)
        observer(observer_context, what, bytes, false);
    return (char *)header + HEADER_BYTES;
}

void *memory_resize(void *pointer, size_t count, size_t size, const char *what) {
    void *fresh = memory_allocate(count, size, what);
    if (pointer != NULL) {
        const size_t old = header_of(pointer)->bytes;
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
    struct header *header = header_of(pointer);
    atomic_fetch_sub(&bytes_now, header->bytes);
    atomic_fetch_sub(&blocks_now, 1);
    if (observer != NULL)
        observer(observer_context, header->what, header->bytes, true);
    if (header->mapped_bytes > 0)
        munmap(header, header->mapped_bytes);
    else
        free(header);
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

size_t memory_resident_now(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages = 0;
    if (file != NULL && fscanf(file, "%*u %zu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t memory_resident_peak(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (size_t)usage.ru_maxrss * 1024;
}
