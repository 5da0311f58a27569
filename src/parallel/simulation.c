/* Events in the order of time: some stage ends a piece of work, or a message arrives. */
#include "parallel/simulation.h"

#include "base/memory.h"
#include "base/report.h"
#include "parallel/schedule.h"

#include <math.h>

struct stage_progress {
    struct slot_work *work;
    size_t count, next;
    double left;     /* seconds of work in the present piece */
    double arrival;  /* of its message; INFINITY: not sent yet */
    bool is_working; /* the message is there, and work is left */
};

struct simulation {
    const struct simulation_input *input;
    struct stage_progress *stages;
    double *down_sent, *up_sent; /* [stages, microbatches] when a message arrives behind that stage,
                                    before it; INFINITY: not yet */
    size_t *active;              /* [stages] working stages of a node */
    double now;
};

static double cost_of(const struct simulation *simulation, size_t stage,
                      const struct slot_work *work) {
    const struct simulation_input *input = simulation->input;
    const double *costs = work->direction == DIRECTION_DOWN ? input->down : input->up;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): work that goes up has costs */
    return costs[stage * input->num_microbatches + work->microbatch];
}

static double arrival_of(const struct simulation *simulation, size_t stage,
                         const struct slot_work *work) {
    const size_t m = simulation->input->num_microbatches;
    if (work->direction == DIRECTION_DOWN)
        return stage == 0 ? 0 : simulation->down_sent[(stage - 1) * m + work->microbatch];
    return stage + 1 == simulation->input->num_stages
               ? 0
               : simulation->up_sent[(stage + 1) * m + work->microbatch];
}

static void take_next(struct simulation *simulation, size_t stage) {
    struct stage_progress *progress = &simulation->stages[stage];
    if (progress->next < progress->count)
        progress->left = cost_of(simulation, stage, &progress->work[progress->next]);
}

/* The present piece is done: its message goes out. */
static void finish_piece(struct simulation *simulation, size_t stage) {
    struct stage_progress *progress = &simulation->stages[stage];
    const struct slot_work *work = &progress->work[progress->next++];
    const struct simulation_input *input = simulation->input;
    const size_t m = input->num_microbatches, place = stage * m + work->microbatch;
    const bool is_down = work->direction == DIRECTION_DOWN;
    const size_t link = is_down ? place : place - (stage > 0 ? m : 0);
    const bool has_target = is_down ? stage + 1 < input->num_stages : stage > 0;
    const double delay = input->delays == NULL || !has_target ? 0 : input->delays[link];
    (is_down ? simulation->down_sent : simulation->up_sent)[place] = simulation->now + delay;
    take_next(simulation, stage);
}

static size_t node_of(const struct simulation *simulation, size_t stage) {
    return simulation->input->nodes == NULL ? 0 : simulation->input->nodes[stage];
}

/* Which stages work now; returns whether any has something left to do. */
static bool look_around(struct simulation *simulation) {
    bool is_going = false;
    for (size_t s = 0; s < simulation->input->num_stages; ++s)
        simulation->active[node_of(simulation, s)] = 0;
    for (size_t s = 0; s < simulation->input->num_stages; ++s) {
        struct stage_progress *progress = &simulation->stages[s];
        progress->is_working = false;
        progress->arrival = (double)INFINITY;
        if (progress->next == progress->count)
            continue;
        is_going = true;
        progress->arrival = arrival_of(simulation, s, &progress->work[progress->next]);
        progress->is_working = progress->arrival <= simulation->now;
        simulation->active[node_of(simulation, s)] += progress->is_working;
    }
    return is_going;
}

static double speed_of(const struct simulation *simulation, size_t stage) {
    const double active = (double)simulation->active[node_of(simulation, stage)];
    return fmin(1, simulation->input->cores / active);
}

static double next_event(const struct simulation *simulation) {
    double next = (double)INFINITY;
    for (size_t s = 0; s < simulation->input->num_stages; ++s) {
        const struct stage_progress *progress = &simulation->stages[s];
        next = fmin(next, progress->is_working
                              ? simulation->now + progress->left / speed_of(simulation, s)
                              : progress->arrival);
    }
    FAULT_UNLESS(isfinite(next), "the schedule of %zu stages waits for ever",
                 simulation->input->num_stages);
    return next;
}

static void advance(struct simulation *simulation) {
    const double next = next_event(simulation), passed = next - simulation->now;
    simulation->now = next;
    for (size_t s = 0; s < simulation->input->num_stages; ++s) {
        struct stage_progress *progress = &simulation->stages[s];
        if (!progress->is_working)
            continue;
        progress->left -= passed * speed_of(simulation, s);
        if (progress->left <= 1e-9) /* rounding */
            finish_piece(simulation, s);
    }
}

static double *not_sent(size_t count) {
    double *times = memory_allocate(count, sizeof *times, "a simulation");
    for (size_t i = 0; i < count; ++i)
        times[i] = (double)INFINITY;
    return times;
}

double simulation_run(const struct simulation_input *input) {
    const size_t stages = input->num_stages, m = input->num_microbatches;
    struct simulation simulation = {
        .input = input,
        .stages = memory_allocate(stages, sizeof *simulation.stages, "a simulation"),
        .down_sent = not_sent(stages * m),
        .up_sent = not_sent(stages * m),
        .active = memory_allocate(stages, sizeof *simulation.active, "a simulation"),
    };
    for (size_t s = 0; s < stages; ++s) {
        struct stage_progress *progress = &simulation.stages[s];
        progress->work = memory_allocate(2 * m, sizeof *progress->work, "a simulation");
        progress->count = schedule_fill(stages, s, m, input->up != NULL, progress->work);
        take_next(&simulation, s);
    }
    while (look_around(&simulation))
        advance(&simulation);
    for (size_t s = 0; s < stages; ++s)
        memory_free(simulation.stages[s].work);
    memory_free(simulation.stages);
    memory_free(simulation.down_sent);
    memory_free(simulation.up_sent);
    memory_free(simulation.active);
    return simulation.now;
}
