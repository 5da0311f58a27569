/* Datasets among ranks. */
#include "io/dataset_share.h"

#include "base/memory.h"

#include <string.h>

static size_t num_labels_of(const struct dataset *dataset) {
    return task_labels_tokens(dataset->kind) ? dataset->offsets[dataset->num_examples]
                                             : dataset->num_examples;
}

/* Receives an array in fresh memory, or sends the one that is there. */
static void share_array(const struct comm *comm, void **array, size_t count, size_t size) {
    if (comm->mpi_rank != 0)
        *array = memory_allocate(count, size, "a dataset");
    comm_broadcast(comm, 0, *array, count * size);
}

void dataset_broadcast(const struct comm *comm, struct dataset *dataset) {
    struct dataset shared = *dataset;
    comm_broadcast(comm, 0, &shared, sizeof shared);
    if (comm->mpi_rank != 0) /* the numbers, without the addresses of rank 0 */
        *dataset = shared;
    share_array(comm, (void **)&dataset->offsets, dataset->num_examples + 1, sizeof(size_t));
    const size_t tokens = dataset->offsets[dataset->num_examples];
    share_array(comm, (void **)&dataset->token_ids, tokens, sizeof(int32_t));
    share_array(comm, (void **)&dataset->type_ids, tokens, sizeof(int32_t));
    share_array(comm, (void **)&dataset->labels, num_labels_of(dataset), sizeof(int32_t));
    if (shared.targets != NULL)
        share_array(comm, (void **)&dataset->targets, dataset->num_examples, sizeof(float));
    if (shared.indices != NULL)
        share_array(comm, (void **)&dataset->indices, dataset->num_examples, sizeof(uint32_t));
}

void label_set_broadcast(const struct comm *comm, struct label_set *labels) {
    size_t count = labels->count;
    comm_broadcast(comm, 0, &count, sizeof count);
    for (size_t i = 0; i < count; ++i) {
        char *name = comm->mpi_rank == 0 ? labels->names[i] : NULL;
        size_t bytes = name != NULL ? strlen(name) + 1 : 0;
        comm_broadcast_block(comm, 0, &name, &bytes);
        if (comm->mpi_rank == 0)
            continue;
        label_set_add(labels, name);
        memory_free(name);
    }
}

void lm_references_broadcast(const struct comm *comm, struct lm_references *references) {
    comm_broadcast(comm, 0, &references->count, sizeof references->count);
    if (references->count == 0)
        return;
    share_array(comm, (void **)&references->context_offsets, references->count + 1, sizeof(size_t));
    share_array(comm, (void **)&references->context_ids,
                references->context_offsets[references->count], sizeof(int32_t));
}

static void append(void **array, size_t old_count, const void *more, size_t more_count,
                   size_t size) {
    *array = memory_resize(*array, old_count + more_count, size, "a dataset");
    memcpy((char *)*array + old_count * size, more, more_count * size);
}

void dataset_append(struct dataset *dataset, const struct dataset *more) {
    FAULT_UNLESS(dataset->kind == more->kind &&
                     (dataset->targets == NULL) == (more->targets == NULL) &&
                     dataset->indices == NULL && more->indices == NULL,
                 "datasets of two kinds");
    const size_t tokens = dataset->offsets[dataset->num_examples];
    const size_t more_tokens = more->offsets[more->num_examples];
    append((void **)&dataset->labels, num_labels_of(dataset), more->labels, num_labels_of(more),
           sizeof(int32_t));
    if (dataset->targets != NULL)
        append((void **)&dataset->targets, dataset->num_examples, more->targets, more->num_examples,
               sizeof(float));
    append((void **)&dataset->token_ids, tokens, more->token_ids, more_tokens, sizeof(int32_t));
    append((void **)&dataset->type_ids, tokens, more->type_ids, more_tokens, sizeof(int32_t));
    append((void **)&dataset->offsets, dataset->num_examples + 1, more->offsets + 1,
           more->num_examples, sizeof(size_t));
    for (size_t i = 0; i < more->num_examples; ++i)
        dataset->offsets[dataset->num_examples + 1 + i] += tokens;
    dataset->num_examples += more->num_examples;
    dataset->num_truncated += more->num_truncated;
    dataset->num_skipped += more->num_skipped;
    dataset->entities_total += more->entities_total;
    dataset->entities_lost += more->entities_lost;
    if (more->longest > dataset->longest)
        dataset->longest = more->longest;
}
