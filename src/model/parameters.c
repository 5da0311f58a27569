/* The table of what training changes. */
#include "model/parameters.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>

size_t parameter_table_add(struct parameter_table *table, char *name, size_t rows, size_t columns,
                           enum initialization initialization, bool has_weight_decay,
                           uint64_t identity) {
    table->entries = memory_resize(table->entries, table->count + 1, sizeof *table->entries,
                                   "the parameter table");
    const size_t offset = table->size;
    table->entries[table->count++] = (struct parameter){
        .name = name,
        .rows = rows,
        .columns = columns,
        .offset = offset,
        .initialization = initialization,
        .deviation = 0.02f,
        .has_weight_decay = has_weight_decay,
        .identity = identity,
    };
    table->size += rows * columns;
    return offset;
}

uint64_t parameter_identity(const char *name) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *name != '\0'; ++name)
        hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return hash;
}

void parameter_table_free(struct parameter_table *table) {
    for (size_t i = 0; i < table->count; ++i)
        memory_free(table->entries[i].name);
    memory_free(table->entries);
    *table = (struct parameter_table){0};
}

static void initialize_entry(const struct parameter *entry, const struct random_stream *stream,
                             float *values) {
    const float bound = 1.0f / sqrtf((float)entry->columns);
    for (size_t i = 0; i < entry->rows * entry->columns; ++i) {
        switch (entry->initialization) {
        case INITIALIZE_ZERO:
            values[i] = 0;
            break;
        case INITIALIZE_KAIMING:
            values[i] = bound * (2.0f * random_uniform(stream, i) - 1.0f);
            break;
        case INITIALIZE_NORMAL:
            values[i] = entry->deviation * random_normal(stream, i);
            break;
        case INITIALIZE_ONE:
            values[i] = 1;
            break;
        }
    }
}

void parameter_table_initialize(const struct parameter_table *table, uint64_t seed, uint64_t draw,
                                float *values) {
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        const struct random_stream stream =
            random_stream_make(seed, RANDOM_INITIALIZE, entry->identity, draw, 0);
        initialize_entry(entry, &stream, values + entry->offset);
    }
}
