/* Everything that training changes on one stage. */
#include "train/state.h"

#include "base/memory.h"

struct training_state training_state_create(const struct stage *stage, uint64_t seed, uint64_t draw,
                                            double initial) {
    struct training_state state = {
        .factors = memory_allocate(stage->factors.size, sizeof(float), "factors"),
        .factor_adam = adam_create(stage->factors.size),
        .logits = memory_allocate(stage->selection_size, sizeof(float), "selection logits"),
        .selection_adam = adam_create(stage->selection_size),
    };
    parameter_table_initialize(&stage->factors, seed, draw, state.factors);
    for (size_t i = 0; i < stage->selection_size; ++i)
        state.logits[i] = (float)initial;
    return state;
}

void training_state_free(struct training_state *state) {
    memory_free(state->factors);
    memory_free(state->logits);
    adam_free(&state->factor_adam);
    adam_free(&state->selection_adam);
}
