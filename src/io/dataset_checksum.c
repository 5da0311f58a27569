/* A checksum of what training sees of a dataset. */
#include "io/dataset.h"

#include <zlib.h>

static uint32_t add(uint32_t checksum, const void *values, size_t count, size_t size) {
    return values == NULL ? checksum : (uint32_t)crc32_z(checksum, values, count * size);
}

uint32_t dataset_checksum(const struct dataset *dataset) {
    if (dataset->num_examples == 0)
        return 0;
    const size_t examples = dataset->num_examples, tokens = dataset->offsets[examples];
    const size_t labels = task_labels_tokens(dataset->kind) ? tokens : examples;
    uint32_t checksum = add(0, dataset->offsets, examples + 1, sizeof *dataset->offsets);
    checksum = add(checksum, dataset->token_ids, tokens, sizeof *dataset->token_ids);
    checksum = add(checksum, dataset->type_ids, tokens, sizeof *dataset->type_ids);
    checksum = add(checksum, dataset->labels, labels, sizeof *dataset->labels);
    return add(checksum, dataset->targets, examples, sizeof *dataset->targets);
}
