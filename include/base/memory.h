/* Counted memory. Every allocation of the program goes through here, so that the peak is known and
 * a leak shows at exit (every test run is a leak test). Out of memory ends all ranks with code 5.
 */
#ifndef AUTOLORA_BASE_MEMORY_H
#define AUTOLORA_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* `count` zeroed elements of `size` bytes, aligned to 64 bytes; `what` names them in the message
 * when memory runs out, and in a rehearsal, and lives as long as they. Never returns NULL, also for
 * count 0. Free with memory_free. */
void *memory_allocate(size_t count, size_t size, const char *what);

/* Grows or shrinks; the new part is zeroed. pointer may be NULL. */
void *memory_resize(void *pointer, size_t count, size_t size, const char *what);

char *memory_copy_string(const char *text);
/* printf into a fresh string. */
char *memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

void memory_free(void *pointer); /* NULL is allowed */

/* A rehearsal, to see what a part of the program would take: until it is called with NULL, large
 * blocks have addresses, but no memory before they are written to, and the observer is told of each
 * block with its label, when it is taken and when it is freed. For one thread. */
typedef void (*memory_observer)(void *context, const char *what, size_t bytes, bool is_freed);
void memory_rehearse(memory_observer observer, void *context);

size_t memory_bytes_now(void);
size_t memory_blocks_now(void);
size_t memory_bytes_peak(void);
/* Resident set of this process; 0 where the system does not tell. */
size_t memory_resident_now(void);
/* Largest resident set of this process so far, in bytes (getrusage); counts mapped weights too. */
size_t memory_resident_peak(void);

#endif
