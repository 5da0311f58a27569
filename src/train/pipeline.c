/* The pipeline. One routine, run_pass, walks the 1F1B schedule and moves the messages; what is
 * computed on the way down and on the way up is given by the kind of pass. */
#include "train/pipeline.h"

#include "base/memory.h"
#include "base/report.h"
#include "parallel/link.h"
#include "parallel/reduction.h"
#include "parallel/schedule.h"

#include <math.h>
#include <string.h>

struct pipeline {
    struct comms comms;
    const struct stage *stage;
    struct pipeline_options options;
    struct link *link;
    struct workspace *workspace;
    struct slot **slots, **kept_slots; /* [num_slots], [num_kept_slots] */
    size_t num_slots, num_kept_slots;
    struct reduction *factors, *selection; /* of the microbatches' gradients over the replicas */
    double *losses, *all_losses;           /* [largest_count] of the microbatches */
    struct slot_work *schedule;
    double *squares, *all_squares; /* of the stage's trained tensors; of all stages' */
    size_t num_tensors;            /* of all stages */
};

/* One pass over the pipeline. Messages are [rows, hidden]; NULL where there is no neighbour. */
struct pass {
    const struct point *point;
    const float *direction;
    const struct batch *batch;
    bool keep;
    struct gradient *gradient;
    float *t_d_selection;
    pipeline_consumer consume;
    void *context;
    void (*down)(struct pipeline *, struct pass *, size_t microbatch, const float *in, float *out);
    void (*up)(struct pipeline *, struct pass *, size_t microbatch, float *in, float *out);
};

/* The microbatches replica, replica + replicas, ... of a batch are this rank's. */
static size_t num_replicas(const struct pipeline *pipeline) {
    return (size_t)pipeline->comms.replicas.size;
}

static size_t own_count(const struct pipeline *pipeline, size_t count) {
    const size_t replica = (size_t)pipeline->comms.replicas.mpi_rank;
    return (count + num_replicas(pipeline) - 1 - replica) / num_replicas(pipeline);
}

/* Microbatches' gradients wait up to a size for their sum with the other replicas': the fewer
 * exchanges, the less replicas wait for each other. The same room on every replica. */
static struct reduction *create_sum(const struct pipeline *pipeline, size_t size) {
    const size_t waiting_bytes = 64 << 20, fitting = waiting_bytes / sizeof(float) / (size + 1);
    const size_t replicas = num_replicas(pipeline);
    const size_t most = (pipeline->options.largest_count + replicas - 1) / replicas;
    return reduction_create(&pipeline->comms.replicas, size, fitting < most ? fitting : most);
}

/* Room for pipeline_norm. */
static void open_norms(struct pipeline *pipeline) {
    const size_t count = pipeline->stage->factors.count;
    int mine = comm_count(count), total = 0;
    comm_reduce(&pipeline->comms.stages, &mine, &total, 1, MPI_INT, MPI_SUM);
    pipeline->num_tensors = (size_t)total;
    pipeline->squares = memory_allocate(count, sizeof(double), "norms");
    pipeline->all_squares = memory_allocate(pipeline->num_tensors, sizeof(double), "norms");
}

static void advance(void *link) {
    link_advance(link);
}

struct pipeline *pipeline_create(const struct comms *comms, const struct stage *stage,
                                 const struct pipeline_options *options) {
    struct pipeline *pipeline = memory_allocate(1, sizeof *pipeline, "the pipeline");
    const struct comm *comm = &comms->stages;
    pipeline->comms = *comms;
    pipeline->stage = stage;
    pipeline->options = *options;
    pipeline->link = link_create(comm, options->capacity.tokens * stage_width(stage));
    pipeline->workspace = workspace_create(stage, &options->capacity, options->num_threads);
    if (comm->size > 1)
        workspace_set_pause(pipeline->workspace, advance, pipeline->link);
    const size_t largest_count = own_count(pipeline, options->largest_count);
    pipeline->num_slots =
        schedule_in_flight((size_t)comm->size, (size_t)comm->mpi_rank, largest_count);
    pipeline->slots = memory_allocate(pipeline->num_slots, sizeof(struct slot *), "slots");
    for (size_t i = 0; i < pipeline->num_slots; ++i)
        pipeline->slots[i] = slot_create(stage, &options->capacity, false);
    if (options->keeps_tangents) {
        pipeline->num_kept_slots = largest_count;
        pipeline->kept_slots = memory_allocate(largest_count, sizeof(struct slot *), "slots");
        for (size_t i = 0; i < largest_count; ++i)
            pipeline->kept_slots[i] = slot_create(stage, &options->capacity, true);
    }
    pipeline->factors = create_sum(pipeline, stage->factors.size);
    pipeline->selection = create_sum(pipeline, stage->selection_size);
    pipeline->losses = memory_allocate(options->largest_count, sizeof(double), "losses");
    pipeline->all_losses = memory_allocate(options->largest_count, sizeof(double), "losses");
    pipeline->schedule =
        memory_allocate(2 * largest_count, sizeof *pipeline->schedule, "the schedule");
    open_norms(pipeline);
    return pipeline;
}

void pipeline_destroy(struct pipeline **pipeline) {
    struct pipeline *p = *pipeline;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->num_slots; ++i)
        slot_destroy(&p->slots[i]);
    for (size_t i = 0; i < p->num_kept_slots; ++i)
        slot_destroy(&p->kept_slots[i]);
    memory_free(p->slots);
    memory_free(p->kept_slots);
    reduction_destroy(&p->factors);
    reduction_destroy(&p->selection);
    memory_free(p->losses);
    memory_free(p->all_losses);
    memory_free(p->schedule);
    memory_free(p->squares);
    memory_free(p->all_squares);
    workspace_destroy(&p->workspace);
    link_destroy(&p->link);
    memory_free(p);
    *pipeline = NULL;
}

/* Floats of the messages of a microbatch to and from the stage before, and the stage behind. */
static size_t input_size(const struct pipeline *pipeline, const struct batch *batch,
                         size_t microbatch) {
    return stage_input_rows(pipeline->stage, &batch->microbatches[microbatch]) *
           stage_width(pipeline->stage);
}

static size_t output_size(const struct pipeline *pipeline, const struct batch *batch,
                          size_t microbatch) {
    return stage_output_rows(pipeline->stage, &batch->microbatches[microbatch]) *
           stage_width(pipeline->stage);
}

static void start_receive(struct pipeline *pipeline, const struct batch *batch,
                          const struct slot_work *work) {
    if (link_has_source(pipeline->link, work->direction))
        link_start_receive(pipeline->link, work->direction,
                           work->direction == DIRECTION_DOWN
                               ? input_size(pipeline, batch, work->microbatch)
                               : output_size(pipeline, batch, work->microbatch));
}

/* The order of this rank's work, with the microbatches' numbers in the batch. */
static size_t fill_schedule(struct pipeline *pipeline, const struct pass *pass) {
    const struct comm *stages = &pipeline->comms.stages;
    const size_t own = own_count(pipeline, pass->batch->num_microbatches);
    const size_t count = schedule_fill((size_t)stages->size, (size_t)stages->mpi_rank, own,
                                       pass->up != NULL, pipeline->schedule);
    for (size_t i = 0; i < count; ++i)
        pipeline->schedule[i].microbatch =
            pipeline->schedule[i].microbatch * num_replicas(pipeline) +
            (size_t)pipeline->comms.replicas.mpi_rank;
    return count;
}

/* What a microbatch adds to the sums is made. */
static void add_vectors(struct pipeline *pipeline, const struct pass *pass) {
    timer_start(pipeline->options.timers, "sums");
    if (pass->gradient != NULL)
        reduction_add(pipeline->factors);
    if (pass->t_d_selection != NULL ||
        (pass->gradient != NULL && pass->gradient->selection != NULL))
        reduction_add(pipeline->selection);
    timer_stop(pipeline->options.timers);
}

/* A replica without work has the same timers as the others. */
static void meet_timers(struct timer_tree *timers, bool has_up) {
    static const char *const names[] = {"waiting", "forward", "backward", "sums"};
    for (size_t i = 0; i < (has_up ? 4 : 2); ++i) {
        timer_start(timers, names[i]);
        timer_stop(timers);
    }
}

/* Receives are opened one piece of work ahead, sends are waited for when their buffer is needed
 * again. */
static void run_pass(struct pipeline *pipeline, struct pass *pass) {
    const struct batch *batch = pass->batch;
    FAULT_UNLESS(batch->num_microbatches <= pipeline->options.largest_count,
                 "%zu microbatches, planned for %zu", batch->num_microbatches,
                 pipeline->options.largest_count);
    struct link *link = pipeline->link;
    struct timer_tree *timers = pipeline->options.timers;
    const size_t count = fill_schedule(pipeline, pass);
    if (count == 0)
        meet_timers(timers, pass->up != NULL);
    for (size_t i = 0; i < count; ++i) {
        const struct slot_work *work = &pipeline->schedule[i];
        const enum direction direction = work->direction;
        activity_microbatch(pipeline->comms.stages.activity, work->microbatch);
        if (i == 0)
            start_receive(pipeline, batch, work);
        timer_start(timers, "waiting");
        float *in = link_has_source(link, direction) ? link_finish_receive(link, direction) : NULL;
        if (i + 1 < count)
            start_receive(pipeline, batch, work + 1);
        float *out = link_has_target(link, direction) ? link_send_buffer(link, direction) : NULL;
        timer_stop(timers);
        timer_start(timers, direction == DIRECTION_DOWN ? "forward" : "backward");
        comm_start_waiting(&pipeline->comms.grid, PEER_ALL); /* within the products */
        if (direction == DIRECTION_DOWN)
            pass->down(pipeline, pass, work->microbatch, in, out);
        else
            /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): else no work goes up */
            pass->up(pipeline, pass, work->microbatch, in, out);
        comm_stop_waiting(&pipeline->comms.grid);
        timer_stop(timers);
        if (out != NULL)
            link_start_send(link, direction,
                            direction == DIRECTION_DOWN
                                ? output_size(pipeline, batch, work->microbatch)
                                : input_size(pipeline, batch, work->microbatch));
        if (direction == DIRECTION_UP)
            add_vectors(pipeline, pass);
    }
    timer_start(timers, "waiting");
    link_finish_sends(link);
    timer_stop(timers);
}

/* The last stages know their microbatches' losses, which are summed in the order of the batch. */
static double share_loss(const struct pipeline *pipeline, const struct batch *batch) {
    const struct comm *stages = &pipeline->comms.stages;
    const size_t count = batch->num_microbatches;
    const struct grid *grid = pipeline->stage->options.grid;
    double loss = 0;
    timer_start(pipeline->options.timers, "waiting");
    if (stages->mpi_rank == stages->size - 1) {
        comm_reduce(&pipeline->comms.replicas, pipeline->losses, pipeline->all_losses, count,
                    MPI_DOUBLE, MPI_SUM);
        for (size_t i = 0; i < count; ++i)
            loss += pipeline->all_losses[i];
        comm_start_waiting(&pipeline->comms.grid, PEER_ALL);
        loss = grid_sum_number(grid, grid_is_leader(grid) ? loss : 0);
        comm_stop_waiting(&pipeline->comms.grid);
    }
    comm_broadcast(stages, stages->size - 1, &loss, sizeof loss);
    timer_stop(pipeline->options.timers);
    return loss;
}

static struct slot *slot_of(const struct pipeline *pipeline, const struct pass *pass,
                            size_t microbatch) {
    const size_t own = microbatch / num_replicas(pipeline);
    return pass->keep ? pipeline->kept_slots[own] : pipeline->slots[own % pipeline->num_slots];
}

static void forward_down(struct pipeline *pipeline, struct pass *pass, size_t microbatch,
                         const float *in, float *out) {
    struct slot *slot = slot_of(pipeline, pass, microbatch);
    if (in != NULL)
        memcpy(slot_input(slot), in, input_size(pipeline, pass->batch, microbatch) * sizeof(float));
    pipeline->losses[microbatch] =
        stage_forward(pipeline->stage, pass->point, &pass->batch->microbatches[microbatch],
                      pass->up != NULL, slot, pipeline->workspace);
    if (out != NULL)
        memcpy(out, slot_output(slot),
               output_size(pipeline, pass->batch, microbatch) * sizeof(float));
    if (pass->consume != NULL && pipeline->stage->options.has_task_head)
        pass->consume(pass->context, pass->batch, microbatch, slot_logits(slot));
}

static void backward_up(struct pipeline *pipeline, struct pass *pass, size_t microbatch, float *in,
                        float *out) {
    struct gradient part = {reduction_vector(pipeline->factors), NULL};
    if (pass->gradient->selection != NULL)
        part.selection = reduction_vector(pipeline->selection);
    stage_backward(pipeline->stage, pass->point, &pass->batch->microbatches[microbatch],
                   slot_of(pipeline, pass, microbatch), pipeline->workspace, in, &part, out);
}

/* A tied embedding has two gradients, each summed over the microbatches on its own; their sum goes
 * to both places, so that the two copies stay equal, bit by bit on any number of stages. */
static void combine_tied(const struct pipeline *pipeline, float *gradient) {
    const struct stage *stage = pipeline->stage;
    const size_t count = stage->tied_size, bytes = count * sizeof *gradient;
    const struct comm *comm = &pipeline->comms.stages;
    const int last = comm->size - 1;
    if (count == 0 || (comm->mpi_rank != 0 && comm->mpi_rank != last))
        return;
    const bool is_first = comm->mpi_rank == 0;
    float *own = gradient + (is_first ? stage->tied_offset : stage->tied_copy_offset);
    if (last == 0) {
        float *copy = gradient + stage->tied_copy_offset;
        vector_add(copy, count, own);
        memcpy(copy, own, bytes);
        return;
    }
    float *other = reduction_vector(pipeline->factors); /* free between passes */
    comm_exchange(comm, is_first ? last : 0, own, other, bytes);
    vector_add(other, count, own);
}

static void close_sums(struct pipeline *pipeline, bool has_factors, bool has_selection) {
    timer_start(pipeline->options.timers, "sums");
    if (has_factors)
        reduction_close(pipeline->factors);
    if (has_selection)
        reduction_close(pipeline->selection);
    timer_stop(pipeline->options.timers);
}

/* Each process of a grid has made its part; NULL: not wanted. */
static void sum_over_grid(const struct pipeline *pipeline, float *factors, float *selection) {
    const struct stage *stage = pipeline->stage;
    if (stage->options.grid == NULL)
        return;
    timer_start(pipeline->options.timers, "sums");
    comm_start_waiting(&pipeline->comms.grid, PEER_ALL);
    if (factors != NULL)
        grid_sum(stage->options.grid, factors, stage->factors.size);
    if (selection != NULL)
        grid_sum(stage->options.grid, selection, stage->selection_size);
    comm_stop_waiting(&pipeline->comms.grid);
    timer_stop(pipeline->options.timers);
}

double pipeline_gradient(struct pipeline *pipeline, const struct point *point,
                         const struct batch *batch, bool keep, struct gradient *gradient) {
    FAULT_UNLESS(!keep || pipeline->kept_slots != NULL, "this pipeline keeps no tangents");
    const struct stage *stage = pipeline->stage;
    const size_t count = batch->num_microbatches;
    reduction_open(pipeline->factors, gradient->factors, stage->factors.size, count);
    if (gradient->selection != NULL)
        reduction_open(pipeline->selection, gradient->selection, stage->selection_size, count);
    struct pass pass = {
        .point = point,
        .batch = batch,
        .keep = keep,
        .gradient = gradient,
        .down = forward_down,
        .up = backward_up,
    };
    run_pass(pipeline, &pass);
    close_sums(pipeline, true, gradient->selection != NULL);
    sum_over_grid(pipeline, gradient->factors, gradient->selection);
    combine_tied(pipeline, gradient->factors);
    return share_loss(pipeline, batch);
}

static void tangent_down(struct pipeline *pipeline, struct pass *pass, size_t microbatch,
                         const float *in, float *out) {
    stage_tangent(pipeline->stage, pass->point, pass->direction,
                  &pass->batch->microbatches[microbatch], slot_of(pipeline, pass, microbatch),
                  pipeline->workspace, in, out);
}

static void tangent_up(struct pipeline *pipeline, struct pass *pass, size_t microbatch, float *in,
                       float *out) {
    stage_backward_tangent(pipeline->stage, pass->point, pass->direction,
                           &pass->batch->microbatches[microbatch],
                           slot_of(pipeline, pass, microbatch), pipeline->workspace, in,
                           reduction_vector(pipeline->selection), out);
}

void pipeline_tangent(struct pipeline *pipeline, const struct point *point, const float *direction,
                      const struct batch *batch, float *t_d_selection) {
    reduction_open(pipeline->selection, t_d_selection, pipeline->stage->selection_size,
                   batch->num_microbatches);
    struct pass pass = {
        .point = point,
        .direction = direction,
        .batch = batch,
        .keep = true,
        .t_d_selection = t_d_selection,
        .down = tangent_down,
        .up = tangent_up,
    };
    run_pass(pipeline, &pass);
    close_sums(pipeline, false, true);
    sum_over_grid(pipeline, NULL, t_d_selection);
}

double pipeline_evaluate(struct pipeline *pipeline, const struct point *point,
                         const struct batch *batch, pipeline_consumer consume, void *context) {
    struct pass pass = {
        .point = point,
        .batch = batch,
        .consume = consume,
        .context = context,
        .down = forward_down,
    };
    run_pass(pipeline, &pass);
    return share_loss(pipeline, batch);
}

double pipeline_norm(const struct pipeline *pipeline, const float *factors) {
    const struct parameter_table *table = &pipeline->stage->factors;
    for (size_t e = 0; e < table->count; ++e) {
        const struct parameter *entry = &table->entries[e];
        const float *values = factors + entry->offset;
        double sum = 0;
        for (size_t i = 0; !entry->is_copy && i < entry->rows * entry->columns; ++i)
            sum += (double)values[i] * values[i];
        pipeline->squares[e] = sum;
    }
    comm_all_gather(&pipeline->comms.stages, pipeline->squares, table->count, sizeof(double),
                    pipeline->all_squares);
    double sum = 0;
    for (size_t i = 0; i < pipeline->num_tensors; ++i)
        sum += pipeline->all_squares[i];
    return sqrt(sum);
}

struct timer_tree *pipeline_timers(const struct pipeline *pipeline) {
    return pipeline->options.timers;
}

const struct stage *pipeline_stage(const struct pipeline *pipeline) {
    return pipeline->stage;
}

const struct comms *pipeline_comms(const struct pipeline *pipeline) {
    return &pipeline->comms;
}
