/* Adam and AdamW. */
#include "train/optimizer.h"

#include "base/memory.h"

#include <math.h>

double schedule_rate(enum schedule_kind kind, double peak, double warmup_fraction, size_t step,
                     size_t num_steps) {
    const double warmup = ceil(warmup_fraction * (double)num_steps);
    if ((double)step < warmup)
        return peak * (double)step / warmup;
    const double rest = (double)num_steps - warmup;
    const double done = rest > 0 ? ((double)step - warmup) / rest : 1;
    switch (kind) {
    case SCHEDULE_LINEAR:
        return peak * fmax(0, 1 - done);
    case SCHEDULE_COSINE:
        return peak * 0.5 * (1 + cos(3.14159265358979323846 * fmin(1, done)));
    case SCHEDULE_CONSTANT:
        break;
    }
    return peak;
}

struct adam adam_create(size_t size) {
    return (struct adam){
        .first = memory_allocate(size, sizeof(float), "optimizer state"),
        .second = memory_allocate(size, sizeof(float), "optimizer state"),
        .size = size,
    };
}

void adam_free(struct adam *adam) {
    memory_free(adam->first);
    memory_free(adam->second);
    *adam = (struct adam){0};
}

/* Elements begin .. end-1 with one weight decay. */
static void update_range(struct adam *adam, const struct adam_step *step, double decay,
                         size_t begin, size_t end, const float *gradient, float *values) {
    const double correction_1 = 1 - pow(step->beta1, (double)adam->num_updates);
    const double correction_2 = 1 - pow(step->beta2, (double)adam->num_updates);
    const float scale = (float)step->gradient_scale;
    const float beta1 = (float)step->beta1, beta2 = (float)step->beta2;
    const float share1 = (float)(1 - step->beta1), share2 = (float)(1 - step->beta2);
    const float size = (float)(step->rate / correction_1);
    const float inverse = (float)(1 / sqrt(correction_2)), epsilon = (float)step->epsilon;
    const float l2 = step->is_decoupled ? 0 : (float)decay;
    const float kept = step->is_decoupled ? (float)(1 - step->rate * decay) : 1;
    float *first = adam->first, *second = adam->second;
#pragma omp simd
    for (size_t i = begin; i < end; ++i) {
        const float g = scale * gradient[i] + l2 * values[i];
        first[i] = beta1 * first[i] + share1 * g;
        second[i] = beta2 * second[i] + share2 * g * g;
        values[i] = kept * values[i] - size * first[i] / (sqrtf(second[i]) * inverse + epsilon);
    }
}

void adam_update(struct adam *adam, const struct adam_step *step,
                 const struct parameter_table *table, const float *gradient, float *values) {
    ++adam->num_updates;
    if (table == NULL) {
        update_range(adam, step, step->decay, 0, adam->size, gradient, values);
        return;
    }
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        update_range(adam, step, entry->has_weight_decay ? step->decay : 0, entry->offset,
                     entry->offset + entry->rows * entry->columns, gradient, values);
    }
}
