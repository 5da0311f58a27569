/* A hash table from texts (any bytes) to ids. Texts belong to the caller and must stay. */
#ifndef AUTOLORA_IO_TEXT_TABLE_H
#define AUTOLORA_IO_TEXT_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct text_table_slot {
    const char *text; /* NULL: empty */
    uint32_t length, tag /* upper half of the hash */;
    int32_t id;
};

/* Starts as {0}, freed with text_table_free. */
struct text_table {
    struct text_table_slot *slots;
    size_t num_slots, count;
};

void text_table_free(struct text_table *table);
/* The text must not be there yet and be shorter than 2^32 bytes. */
void text_table_add(struct text_table *table, const char *text, size_t length, int32_t id);
/* -1 if the text is not there. */
int32_t text_table_find(const struct text_table *table, const char *text, size_t length);

#endif
