/* The pipeline. One routine, run_pass, walks the 1F1B schedule and moves the messages; what is
 * computed on the way down and on the way up is given by the kind of pass. */
#include "train/pipeline.h"

#include "base/memory.h"
#include "base/report.h"
#include "parallel/link.h"
#include "parallel/schedule.h"

#include <math.h>
#include <string.h>

struct pipeline {
    struct comms comms;
    const struct stage *stage;
    struct pipeline_options options;
    struct link *link;
    struct workspace *workspace;
    struct slot **slots, **kept_slots; /* [num_slots], [largest_count] */
    size_t num_slots;
    struct gradient part; /* gradient of one microbatch */
    struct slot_work *schedule;
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
    double loss;
    void (*down)(struct pipeline *, struct pass *, size_t microbatch, const float *in, float *out);
    void (*up)(struct pipeline *, struct pass *, size_t microbatch, float *in, float *out);
};

struct pipeline *pipeline_create(const struct comms *comms, const struct stage *stage,
                                 const struct pipeline_options *options) {
    struct pipeline *pipeline = memory_allocate(1, sizeof *pipeline, "the pipeline");
    const struct comm *comm = &comms->stages;
    pipeline->comms = *comms;
    pipeline->stage = stage;
    pipeline->options = *options;
    const size_t hidden = stage->options.architecture.hidden_size;
    pipeline->link = link_create(comm, options->capacity.tokens * hidden);
    pipeline->workspace = workspace_create(stage, &options->capacity, options->num_threads);
    pipeline->num_slots =
        schedule_in_flight((size_t)comm->size, (size_t)comm->mpi_rank, options->largest_count);
    pipeline->slots = memory_allocate(pipeline->num_slots, sizeof(struct slot *), "slots");
    for (size_t i = 0; i < pipeline->num_slots; ++i)
        pipeline->slots[i] = slot_create(stage, &options->capacity, false);
    if (options->keeps_tangents) {
        pipeline->kept_slots =
            memory_allocate(options->largest_count, sizeof(struct slot *), "slots");
        for (size_t i = 0; i < options->largest_count; ++i)
            pipeline->kept_slots[i] = slot_create(stage, &options->capacity, true);
    }
    pipeline->part.factors = memory_allocate(stage->factors.size, sizeof(float), "a gradient");
    pipeline->part.selection = memory_allocate(stage->selection_size, sizeof(float), "a gradient");
    pipeline->schedule =
        memory_allocate(2 * options->largest_count, sizeof *pipeline->schedule, "the schedule");
    return pipeline;
}

void pipeline_destroy(struct pipeline **pipeline) {
    struct pipeline *p = *pipeline;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->num_slots; ++i)
        slot_destroy(&p->slots[i]);
    for (size_t i = 0; p->kept_slots != NULL && i < p->options.largest_count; ++i)
        slot_destroy(&p->kept_slots[i]);
    memory_free(p->slots);
    memory_free(p->kept_slots);
    memory_free(p->part.factors);
    memory_free(p->part.selection);
    memory_free(p->schedule);
    workspace_destroy(&p->workspace);
    link_destroy(&p->link);
    memory_free(p);
    *pipeline = NULL;
}

/* Floats of the messages of a microbatch to and from the stage before, and the stage behind. */
static size_t input_size(const struct pipeline *pipeline, const struct batch *batch,
                         size_t microbatch) {
    return stage_input_rows(pipeline->stage, &batch->microbatches[microbatch]) *
           pipeline->stage->options.architecture.hidden_size;
}

static size_t output_size(const struct pipeline *pipeline, const struct batch *batch,
                          size_t microbatch) {
    return stage_output_rows(pipeline->stage, &batch->microbatches[microbatch]) *
           pipeline->stage->options.architecture.hidden_size;
}

static void start_receive(struct pipeline *pipeline, const struct batch *batch,
                          const struct slot_work *work) {
    if (link_has_source(pipeline->link, work->direction))
        link_start_receive(pipeline->link, work->direction,
                           work->direction == DIRECTION_DOWN
                               ? input_size(pipeline, batch, work->microbatch)
                               : output_size(pipeline, batch, work->microbatch));
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
    const size_t count =
        schedule_fill((size_t)pipeline->comms.stages.size, (size_t)pipeline->comms.stages.mpi_rank,
                      batch->num_microbatches, pass->up != NULL, pipeline->schedule);
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
        if (direction == DIRECTION_DOWN)
            pass->down(pipeline, pass, work->microbatch, in, out);
        else
            pass->up(pipeline, pass, work->microbatch, in, out);
        timer_stop(timers);
        if (out != NULL)
            link_start_send(link, direction,
                            direction == DIRECTION_DOWN
                                ? output_size(pipeline, batch, work->microbatch)
                                : input_size(pipeline, batch, work->microbatch));
    }
    timer_start(timers, "waiting");
    link_finish_sends(link);
    timer_stop(timers);
}

/* The loss is summed in the last stage, in the order of the microbatches. */
static double share_loss(const struct pipeline *pipeline, double loss) {
    timer_start(pipeline->options.timers, "waiting");
    comm_broadcast(&pipeline->comms.stages, pipeline->comms.stages.size - 1, &loss, sizeof loss);
    timer_stop(pipeline->options.timers);
    return loss;
}

static struct slot *slot_of(const struct pipeline *pipeline, const struct pass *pass,
                            size_t microbatch) {
    return pass->keep ? pipeline->kept_slots[microbatch]
                      : pipeline->slots[microbatch % pipeline->num_slots];
}

static void forward_down(struct pipeline *pipeline, struct pass *pass, size_t microbatch,
                         const float *in, float *out) {
    struct slot *slot = slot_of(pipeline, pass, microbatch);
    if (in != NULL)
        memcpy(slot_input(slot), in, input_size(pipeline, pass->batch, microbatch) * sizeof(float));
    pass->loss +=
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
    struct gradient part = pipeline->part;
    if (pass->gradient->selection == NULL)
        part.selection = NULL;
    stage_backward(pipeline->stage, pass->point, &pass->batch->microbatches[microbatch],
                   slot_of(pipeline, pass, microbatch), pipeline->workspace, in, &part, out);
    vector_add(part.factors, pipeline->stage->factors.size, pass->gradient->factors);
    if (part.selection != NULL)
        vector_add(part.selection, pipeline->stage->selection_size, pass->gradient->selection);
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
    float *other = pipeline->part.factors; /* free between passes */
    comm_exchange(comm, is_first ? last : 0, own, other, bytes);
    vector_add(other, count, own);
}

double pipeline_gradient(struct pipeline *pipeline, const struct point *point,
                         const struct batch *batch, bool keep, struct gradient *gradient) {
    FAULT_UNLESS(!keep || pipeline->kept_slots != NULL, "this pipeline keeps no tangents");
    const struct stage *stage = pipeline->stage;
    memset(gradient->factors, 0, stage->factors.size * sizeof(float));
    if (gradient->selection != NULL)
        memset(gradient->selection, 0, stage->selection_size * sizeof(float));
    struct pass pass = {
        .point = point,
        .batch = batch,
        .keep = keep,
        .gradient = gradient,
        .down = forward_down,
        .up = backward_up,
    };
    run_pass(pipeline, &pass);
    combine_tied(pipeline, gradient->factors);
    return share_loss(pipeline, pass.loss);
}

static void tangent_down(struct pipeline *pipeline, struct pass *pass, size_t microbatch,
                         const float *in, float *out) {
    stage_tangent(pipeline->stage, pass->point, pass->direction,
                  &pass->batch->microbatches[microbatch], pipeline->kept_slots[microbatch],
                  pipeline->workspace, in, out);
}

static void tangent_up(struct pipeline *pipeline, struct pass *pass, size_t microbatch, float *in,
                       float *out) {
    stage_backward_tangent(pipeline->stage, pass->point, pass->direction,
                           &pass->batch->microbatches[microbatch], pipeline->kept_slots[microbatch],
                           pipeline->workspace, in, pipeline->part.selection, out);
    vector_add(pipeline->part.selection, pipeline->stage->selection_size, pass->t_d_selection);
}

void pipeline_tangent(struct pipeline *pipeline, const struct point *point, const float *direction,
                      const struct batch *batch, float *t_d_selection) {
    memset(t_d_selection, 0, pipeline->stage->selection_size * sizeof(float));
    struct pass pass = {
        .point = point,
        .direction = direction,
        .batch = batch,
        .t_d_selection = t_d_selection,
        .down = tangent_down,
        .up = tangent_up,
    };
    run_pass(pipeline, &pass);
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
    return share_loss(pipeline, pass.loss);
}

double pipeline_norm(const struct pipeline *pipeline, const float *factors) {
    const struct parameter_table *table = &pipeline->stage->factors;
    const struct comm *comm = &pipeline->comms.stages;
    int mine = comm_count(table->count), total = 0;
    comm_reduce(comm, &mine, &total, 1, MPI_INT, MPI_SUM);
    double *squares = memory_allocate(table->count, sizeof *squares, "norms");
    double *all = memory_allocate((size_t)total, sizeof *all, "norms");
    for (size_t e = 0; e < table->count; ++e) {
        const struct parameter *entry = &table->entries[e];
        const float *values = factors + entry->offset;
        double sum = 0;
        for (size_t i = 0; !entry->is_copy && i < entry->rows * entry->columns; ++i)
            sum += (double)values[i] * values[i];
        squares[e] = sum;
    }
    comm_all_gather(comm, squares, table->count, sizeof *squares, all);
    double sum = 0;
    for (int i = 0; i < total; ++i)
        sum += all[i];
    memory_free(squares);
    memory_free(all);
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
