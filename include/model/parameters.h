/* The table of what training changes: one (name, shape, place) per tensor. Values, gradients,
 * optimiser moments, tangents and saved copies are all vectors of `size` floats with this one
 * layout, so that optimiser, checkpoint and export need no knowledge of the model. */
#ifndef AUTOLORA_MODEL_PARAMETERS_H
#define AUTOLORA_MODEL_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum initialization {
    INITIALIZE_ZERO,
    INITIALIZE_KAIMING, /* uniform in +-1/sqrt(columns): Kaiming-uniform with a = sqrt 5 */
    INITIALIZE_NORMAL,  /* normal, `deviation` */
    INITIALIZE_ONE
};

struct parameter {
    char *name;
    size_t rows, columns;
    size_t offset; /* of element (0, 0); row-major */
    enum initialization initialization;
    float deviation;       /* 0.02 unless changed: BERT's initializer_range */
    bool has_weight_decay; /* false for biases and layer norms */
    bool is_pretrained;    /* the checkpoint has a tensor of this name */
    bool is_copy;          /* of an entry of the same name in the first stage: equal in values and
                              gradients, and nothing of its own */
    uint64_t identity;     /* the same on any decomposition: keys the random numbers */
};

struct parameter_table {
    struct parameter *entries;
    size_t count, size;
};

/* Appends an entry; takes ownership of name (from memory.h). Returns its offset. */
size_t parameter_table_add(struct parameter_table *table, char *name, size_t rows, size_t columns,
                           enum initialization initialization, bool has_weight_decay,
                           uint64_t identity);
/* An identity for a tensor that is known by its name: alike for tensors of one name. */
uint64_t parameter_identity(const char *name);
void parameter_table_free(struct parameter_table *table);

/* Fills values [size]. `draw` tells apart several fresh starts under one seed (search, retrain). */
void parameter_table_initialize(const struct parameter_table *table, uint64_t seed, uint64_t draw,
                                float *values);

#endif
