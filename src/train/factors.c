/* What was trained, to and from a file. */
#include "train/factors.h"

#include "base/memory.h"

#include <string.h>

/* What rank 0 has to know of a tensor. */
struct message {
    char *name, *values;
    size_t shape[2];
};

static struct message message_of(const struct parameter *entry, const float *values) {
    struct message message = {.name = entry->name, .shape = {entry->rows, entry->columns}};
    message.values = (char *)(size_t)(values + entry->offset);
    return message;
}

/* Rank 0 writes the tensor that `source` has. */
static void write_one(const struct comm *comm, int source, struct message message,
                      struct checkpoint_writer *writer, const char *group,
                      struct problem *problem) {
    char *shape = (char *)message.shape;
    size_t name_bytes = message.name != NULL ? strlen(message.name) + 1 : 0;
    size_t shape_bytes = sizeof message.shape;
    size_t value_bytes = message.shape[0] * message.shape[1] * sizeof(float);
    comm_fetch_block(comm, source, &message.name, &name_bytes);
    comm_fetch_block(comm, source, &shape, &shape_bytes);
    comm_fetch_block(comm, source, &message.values, &value_bytes);
    if (comm->mpi_rank != 0)
        return;
    memcpy(message.shape, shape, sizeof message.shape);
    if (writer != NULL)
        checkpoint_write_tensor(writer, group, message.name,
                                (const float *)(const void *)message.values, message.shape[0],
                                message.shape[1], problem);
    if (source == 0)
        return;
    memory_free(message.name);
    memory_free(shape);
    memory_free(message.values);
}

bool factors_write(const struct comm *comm, const struct parameter_table *table,
                   const float *values, struct checkpoint_writer *writer, const char *group,
                   struct problem *problem) {
    for (int source = 0; source < comm->size; ++source) {
        const bool is_mine = comm->mpi_rank == source;
        size_t count = table->count;
        comm_broadcast(comm, source, &count, sizeof count);
        for (size_t i = 0; i < count; ++i) {
            int is_copy = is_mine && table->entries[i].is_copy;
            comm_broadcast(comm, source, &is_copy, sizeof is_copy);
            if (is_copy)
                continue;
            write_one(comm, source,
                      is_mine ? message_of(&table->entries[i], values) : (struct message){0},
                      writer, group, problem);
        }
    }
    return problem->exit_code == 0;
}

bool factors_read(const struct parameter_table *table, const struct checkpoint *checkpoint,
                  const char *group, float *values, struct problem *problem) {
    bool is_good = true;
    for (size_t i = 0; i < table->count && is_good; ++i) {
        const struct parameter *entry = &table->entries[i];
        is_good = checkpoint_read_tensor(checkpoint, group, entry->name, entry->rows,
                                         entry->columns, values + entry->offset, problem);
    }
    return is_good;
}
