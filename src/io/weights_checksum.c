/* A checksum that tells one checkpoint from another. */
#include "io/weights.h"

#include <string.h>
#include <zlib.h>

static uint32_t add_bytes(uint32_t checksum, const void *bytes, size_t size) {
    return (uint32_t)crc32_z(checksum, bytes, size);
}

static uint32_t add_tensor(uint32_t checksum, const struct tensor *tensor) {
    enum { PIECE = 1024 };
    checksum = add_bytes(checksum, tensor->name, strlen(tensor->name));
    checksum = add_bytes(checksum, &tensor->type, sizeof tensor->type);
    checksum = add_bytes(checksum, tensor->shape, tensor->num_dimensions * sizeof *tensor->shape);
    if (tensor->bytes <= 3 * PIECE)
        return add_bytes(checksum, tensor->data, tensor->bytes);
    const size_t last = tensor->bytes - PIECE, starts[] = {0, last / 2, last};
    for (int i = 0; i < 3; ++i)
        checksum = add_bytes(checksum, tensor->data + starts[i], PIECE);
    return checksum;
}

uint32_t weights_checksum(const struct weights *weights) {
    uint32_t checksum = 0;
    for (size_t i = 0; i < weights_count(weights); ++i)
        checksum = add_tensor(checksum, weights_at(weights, i));
    return checksum;
}
