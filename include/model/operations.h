/* Floating-point operations of a stage's passes: a multiplication and an addition of every product,
 * adapters, attention and task head included, nothing else. Counted where the passes make them. */
#ifndef AUTOLORA_MODEL_OPERATIONS_H
#define AUTOLORA_MODEL_OPERATIONS_H

#include "model/stage.h"

/* The four passes of model/stage.h, and the forward pass of an evaluation. */
enum stage_pass {
    PASS_FORWARD,
    PASS_BACKWARD,
    PASS_TANGENT,
    PASS_BACKWARD_TANGENT,
    PASS_EVALUATE,
    NUM_STAGE_PASSES
};

double stage_operations(const struct stage *stage, enum stage_pass pass,
                        const struct microbatch *microbatch);

#endif
