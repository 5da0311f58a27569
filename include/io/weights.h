/* Safetensors files, memory-mapped: https://huggingface.co/docs/safetensors. The header is treated
 * as hostile: lengths, bounds, overlaps, data types and shapes are checked before a tensor can be
 * had. */
#ifndef AUTOLORA_IO_WEIGHTS_H
#define AUTOLORA_IO_WEIGHTS_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TENSOR_MAX_DIMENSIONS = 8 };

enum tensor_type { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_I64, TENSOR_OTHER };

struct tensor {
    char *name;
    enum tensor_type type;
    size_t num_dimensions, shape[TENSOR_MAX_DIMENSIONS], count; /* count: product of the shape */
    const unsigned char *data;                                  /* in the map; maybe unaligned */
    size_t bytes;
};

struct weights;

/* NULL and a problem (EXIT_DATA) if the file is missing, truncated or inconsistent. Not collective.
 */
struct weights *weights_open(const char *path, struct problem *problem);
/* model.safetensors of a model directory, or the files of its model.safetensors.index.json. */
struct weights *weights_open_model(const char *directory, struct problem *problem);
/* Is there any of these files? */
bool weights_model_exists(const char *directory);
void weights_close(struct weights **weights);

/* The tensor of that name or NULL. */
const struct tensor *weights_find(const struct weights *weights, const char *name);

/* The tensors one by one, sorted by name. */
size_t weights_count(const struct weights *weights);
const struct tensor *weights_at(const struct weights *weights, size_t index);

/* CRC-32 of every tensor's name, type and shape, and of the first, middle and last kibibytes of its
 * elements: tells other weights without reading all of them. */
uint32_t weights_checksum(const struct weights *weights);

/* The elements as float32: the map itself for aligned F32, else a converted copy that lives as long
 * as `weights`. NULL and a problem for other types. */
const float *weights_floats(struct weights *weights, const struct tensor *tensor,
                            struct problem *problem);

/* Whether these are the map itself. */
bool tensor_is_mapped(const struct tensor *tensor);

/* Gives back what reading has taken: converted copies, of which nobody may have kept the address,
 * and the pages of the maps, which are read again when they are needed. */
void weights_release(struct weights *weights);

/* A frozen tensor of a pretrained checkpoint by its full name, whatever the checkpoint's habits:
 * with or without the model prefix ("bert."), LayerNorm.gamma/beta for weight/bias. Its shape must
 * be [rows, columns] ([rows] where columns is 1). */
const float *weights_pretrained(struct weights *weights, const char *full_name, size_t rows,
                                size_t columns, struct problem *problem);
/* The same by the header alone. */
const struct tensor *weights_check(const struct weights *weights, const char *full_name,
                                   size_t rows, size_t columns, struct problem *problem);

#endif
