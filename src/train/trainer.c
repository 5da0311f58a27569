/* What both phases share. */
#include "train/trainer.h"

#include "base/memory.h"

#include <math.h>

uint64_t phase_step(enum phase phase, size_t step) {
    return ((uint64_t)phase << 48) + step;
}

size_t trainer_longest(const struct trainer *trainer) {
    const struct dataset *sets[] = {trainer->train, trainer->dev, trainer->other_dev,
                                    trainer->test};
    size_t longest = 1;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; ++i)
        if (sets[i] != NULL && sets[i]->longest > longest)
            longest = sets[i]->longest;
    return longest;
}

struct pipeline *trainer_pipeline(const struct trainer *trainer, const struct stage *stage,
                                  bool keeps_tangents) {
    const size_t longest = trainer_longest(trainer), size = trainer->optimizer.batch_size;
    const struct pipeline_options options = {
        .capacity = batch_capacity(size, longest, trainer->microbatch_tokens),
        .largest_count = batch_largest_count(size, longest, trainer->microbatch_tokens),
        .keeps_tangents = keeps_tangents,
        .num_threads = trainer->num_threads,
        .timers = trainer->timers,
    };
    return pipeline_create(&trainer->comms, stage, &options);
}

struct batch *trainer_batch(const struct trainer *trainer) {
    return batch_create(trainer->optimizer.batch_size, trainer_longest(trainer),
                        trainer->microbatch_tokens);
}

double trainer_gradient_scale(const struct trainer *trainer, double norm) {
    const double limit = trainer->optimizer.max_grad_norm;
    return limit > 0 && norm > limit ? limit / (norm + 1e-6) : 1;
}

double trainer_update_factors(const struct trainer *trainer, const struct pipeline *pipeline,
                              double rate, const float *gradient, struct adam *adam,
                              float *factors) {
    const struct optimizer_options *options = &trainer->optimizer;
    timer_start(trainer->timers, "optimizer");
    const double norm = pipeline_norm(pipeline, gradient);
    const struct adam_step step = {
        .rate = rate,
        .beta1 = options->beta1,
        .beta2 = options->beta2,
        .epsilon = options->epsilon,
        .decay = options->weight_decay,
        .is_decoupled = true,
        .gradient_scale = trainer_gradient_scale(trainer, norm),
    };
    adam_update(adam, &step, &pipeline_stage(pipeline)->factors, gradient, factors);
    timer_stop(trainer->timers);
    return norm;
}

bool trainer_check_loss(double loss, const char *phase, const char *what, size_t step,
                        struct problem *problem) {
    if (isfinite(loss))
        return true;
    return problem_set(problem, EXIT_NUMERICS,
                       "%s, step %zu: the %s loss is not finite (%g); a smaller learning rate "
                       "(optimizer.lr, search.selection_lr) usually helps",
                       phase, step, what, loss);
}

static bool wants_timeline(const struct trainer *trainer, size_t step) {
    return trainer->timers != NULL && step == trainer->timeline_step;
}

void trainer_start_timeline(const struct trainer *trainer, size_t step) {
    if (wants_timeline(trainer, step))
        timer_record(trainer->timers, trainer->comms.world.handle);
}

void trainer_stop_timeline(const struct trainer *trainer, const char *phase, size_t step,
                           struct problem *problem) {
    if (!wants_timeline(trainer, step))
        return;
    size_t count;
    struct timer_interval *intervals =
        timer_end_record(trainer->timers, trainer->comms.world.handle, &count);
    if (trainer->trace != NULL)
        trace_add_timeline(trainer->trace, phase, step, intervals, count, problem);
    memory_free(intervals);
}

void trainer_flush_trace(const struct trainer *trainer, bool is_now, struct problem *problem) {
    if (trainer->trace == NULL)
        return;
    if (is_now)
        trace_flush(trainer->trace, problem);
    else
        trace_flush_if_due(trainer->trace, problem);
}
