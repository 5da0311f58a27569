/* Names and sizes of the BERT family. */
#include "model/architecture.h"

#include "base/memory.h"

static const struct {
    const char *name, *path;
} PROJECTIONS[NUM_PROJECTIONS] = {
    [PROJECTION_QUERY] = {"query", "attention.self.query"},
    [PROJECTION_KEY] = {"key", "attention.self.key"},
    [PROJECTION_VALUE] = {"value", "attention.self.value"},
    [PROJECTION_ATTENTION_OUTPUT] = {"attention_output", "attention.output.dense"},
    [PROJECTION_INTERMEDIATE] = {"intermediate", "intermediate.dense"},
    [PROJECTION_OUTPUT] = {"output", "output.dense"},
};

const char *projection_name(enum projection projection) {
    return PROJECTIONS[projection].name;
}

const char *projection_path(enum projection projection) {
    return PROJECTIONS[projection].path;
}

size_t projection_input_size(const struct architecture *architecture, enum projection projection) {
    return projection == PROJECTION_OUTPUT ? architecture->intermediate_size
                                           : architecture->hidden_size;
}

size_t projection_output_size(const struct architecture *architecture, enum projection projection) {
    return projection == PROJECTION_INTERMEDIATE ? architecture->intermediate_size
                                                 : architecture->hidden_size;
}

char *architecture_module_name(size_t block, enum projection projection) {
    return memory_format("bert.encoder.layer.%zu.%s", block, projection_path(projection));
}
