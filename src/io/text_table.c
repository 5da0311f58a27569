/* Open addressing, at most half full. */
#include "io/text_table.h"

#include "base/memory.h"
#include "base/report.h"

#include <string.h>

static uint64_t hash_bytes(const char *text, size_t length) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; ++i)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/* The slot of the text, or the empty one where it belongs. */
static struct text_table_slot *find_slot(const struct text_table *table, uint64_t hash,
                                         const char *text, size_t length) {
    const size_t mask = table->num_slots - 1;
    for (size_t at = (size_t)(hash ^ hash >> 32) & mask;; at = (at + 1) & mask) {
        struct text_table_slot *slot = &table->slots[at];
        if (slot->text == NULL || (slot->tag == (uint32_t)(hash >> 32) && slot->length == length &&
                                   memcmp(slot->text, text, length) == 0))
            return slot;
    }
}

static void put(struct text_table *table, const char *text, size_t length, int32_t id) {
    const uint64_t hash = hash_bytes(text, length);
    *find_slot(table, hash, text, length) =
        (struct text_table_slot){text, (uint32_t)length, (uint32_t)(hash >> 32), id};
}

static void grow(struct text_table *table) {
    struct text_table_slot *old = table->slots;
    const size_t num_old = table->num_slots;
    table->num_slots = num_old == 0 ? 64 : 2 * num_old;
    table->slots = memory_allocate(table->num_slots, sizeof *table->slots, "table of texts");
    for (size_t i = 0; i < num_old; ++i)
        if (old[i].text != NULL)
            put(table, old[i].text, old[i].length, old[i].id);
    memory_free(old);
}

void text_table_add(struct text_table *table, const char *text, size_t length, int32_t id) {
    FAULT_UNLESS(length <= UINT32_MAX, "a text of %zu bytes", length);
    if (2 * (table->count + 1) > table->num_slots)
        grow(table);
    put(table, text, length, id);
    ++table->count;
}

int32_t text_table_find(const struct text_table *table, const char *text, size_t length) {
    if (table->count == 0 || length > UINT32_MAX)
        return -1;
    const struct text_table_slot *slot = find_slot(table, hash_bytes(text, length), text, length);
    return slot->text == NULL ? -1 : slot->id;
}

void text_table_free(struct text_table *table) {
    memory_free(table->slots);
    *table = (struct text_table){0};
}
