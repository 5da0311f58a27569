/* AdaLoRA: an extension of the training that adds the penalty, and masks components; at its end the
 * components that are left, with their singular values folded into B, become plain LoRA. */
#include "train/method.h"

#include "base/memory.h"
#include "train/allocator.h"

#include <math.h>
#include <string.h>

struct adalora {
    const struct method_input *input;
    struct method_output *output;
    struct stage *stage, *used_stage;
    float *used_factors;
    struct allocator *allocator;
    float *importance, *singular_values; /* of the model; for the trace */
};

size_t method_adalora_rank(const struct method_input *input) {
    const double mean = (double)method_total_rank(input) / (double)input->num_modules;
    return input->options->initial_rank > 0 ? input->options->initial_rank
                                            : (size_t)fmax(1, ceil(1.5 * mean));
}

static bool check_options(const struct method_input *input, struct problem *problem) {
    const struct method_options *options = input->options;
    const size_t total = method_total_rank(input), rank = method_adalora_rank(input);
    if (options->warmup_share + options->final_share > 1)
        return problem_set(problem, EXIT_USAGE,
                           "adapter.warmup_share, %g, and adapter.final_share, %g, are more than 1",
                           options->warmup_share, options->final_share);
    if (total > rank * input->num_modules)
        return problem_set(problem, EXIT_USAGE,
                           "%zu modules of adapter.initial_rank %zu have less than the total rank "
                           "of %zu that adapter.mean_rank, or adapter.rank, asks for",
                           input->num_modules, rank, total);
    return true;
}

/* The last update is always in the final part, so that the total rank is met. */
static struct allocation_schedule schedule_of(const struct method_input *input) {
    const double steps = (double)retrain_num_steps(input->trainer, input->retrain);
    const size_t first = (size_t)(input->options->warmup_share * steps);
    const size_t last = (size_t)(steps - fmax(1, floor(input->options->final_share * steps)));
    return (struct allocation_schedule){
        .initial = method_adalora_rank(input) * input->num_modules,
        .target = method_total_rank(input),
        .first = first < last ? first : last,
        .last = last,
        .every = input->options->allocate_every,
    };
}

static void add_gradient(void *context, const float *factors, float *gradient) {
    const struct adalora *adalora = context;
    orthogonality_penalty(&adalora->input->trainer->comms.stages, adalora->stage,
                          adalora->input->options->orthogonality, factors, gradient);
}

static void write_trace_row(struct adalora *adalora, size_t step, const float *factors,
                            struct problem *problem) {
    const struct trainer *trainer = adalora->input->trainer;
    const struct allocation_schedule schedule = schedule_of(adalora->input);
    allocator_singular_values(adalora->allocator, factors, adalora->singular_values);
    if (trainer->trace == NULL)
        return;
    for (size_t i = 0; i < schedule.initial; ++i)
        adalora->importance[i] = (float)allocator_scores(adalora->allocator)[i];
    allocator_ranks(adalora->allocator, adalora->output->ranks);
    const struct trace_allocation_row row = {
        .step = step + 1,
        .time = progress_seconds(trainer->progress),
        .budget = allocation_budget(&schedule, step),
        .singular_values = adalora->singular_values,
        .importance = adalora->importance,
        .ranks = adalora->output->ranks,
    };
    trace_add_allocation(trainer->trace, &row, problem);
}

static void after_update(void *context, size_t step, const float *gradient, double gradient_scale,
                         float *factors, struct problem *problem) {
    struct adalora *adalora = context;
    const struct trainer *trainer = adalora->input->trainer;
    allocator_update(adalora->allocator, step, gradient, gradient_scale, factors);
    const size_t done = step + 1;
    if (done % trainer->trace_every == 0 ||
        done == retrain_num_steps(trainer, adalora->input->retrain))
        write_trace_row(adalora, step, factors, problem);
}

static void write_state(void *context, struct checkpoint_writer *writer, struct problem *problem) {
    const struct adalora *adalora = context;
    allocator_write(adalora->allocator, writer, problem);
}

static void read_state(void *context, const struct checkpoint *checkpoint,
                       struct problem *problem) {
    const struct adalora *adalora = context;
    allocator_read(adalora->allocator, checkpoint, problem);
}

/* Copies what is not an adapter's by its name. */
static void copy_head(const struct stage *from, const float *factors, const struct stage *to,
                      float *used) {
    for (size_t i = 0; i < to->factors.count; ++i) {
        const struct parameter *entry = &to->factors.entries[i];
        for (size_t j = 0; j < from->factors.count; ++j) {
            const struct parameter *source = &from->factors.entries[j];
            if (strstr(entry->name, ".lora_") == NULL && strcmp(entry->name, source->name) == 0)
                memcpy(used + entry->offset, factors + source->offset,
                       entry->rows * entry->columns * sizeof *used);
        }
    }
}

static void copy_components(const struct linear *from, const float *factors, const bool *is_kept,
                            const struct linear *to, float *used) {
    const size_t in = from->input_size, out = from->output_size;
    float *a = used + to->adapter.a_offset, *b = used + to->adapter.b_offset;
    for (size_t j = 0; j < from->adapter.rank; ++j) {
        if (!is_kept[j])
            continue;
        const float singular_value = factors[from->adapter.singular_offset + j];
        const float *row = factors + from->adapter.b_offset + j * out;
        memcpy(a, factors + from->adapter.a_offset + j * in, in * sizeof *a);
        for (size_t c = 0; c < out; ++c)
            b[c] = singular_value * row[c];
        a += in;
        b += out;
    }
}

static void fold(const struct adalora *adalora, const float *factors) {
    const struct stage *from = adalora->stage, *to = adalora->used_stage;
    const bool *is_kept = allocator_kept(adalora->allocator) +
                          from->first_module * method_adalora_rank(adalora->input);
    copy_head(from, factors, to, adalora->used_factors);
    for (size_t block = 0; block < from->options.num_blocks; ++block)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (!from->options.adapters.is_target[p])
                continue;
            const struct linear *linear = &from->blocks[block].projections[p];
            copy_components(linear, factors, is_kept, &to->blocks[block].projections[p],
                            adalora->used_factors);
            is_kept += linear->adapter.rank;
        }
}

static bool finish(void *context, const float *factors, const struct stage **stage,
                   const float **used_factors, struct problem *problem) {
    struct adalora *adalora = context;
    const struct method_input *input = adalora->input;
    allocator_ranks(adalora->allocator, adalora->output->ranks);
    const struct stage_request request = {
        .ranks = adalora->output->ranks,
        .fixed_divisor = method_adalora_rank(input),
    };
    *stage = adalora->used_stage = input->create_stage(input->context, &request, problem);
    if (adalora->used_stage == NULL)
        return false;
    method_count_parameters(input, adalora->used_stage, adalora->output);
    *used_factors = adalora->used_factors =
        memory_allocate(adalora->used_stage->factors.size, sizeof(float), "factors");
    fold(adalora, factors);
    return true;
}

struct stage_request method_adalora_request(const struct method_input *input, size_t *ranks) {
    const size_t rank = method_adalora_rank(input);
    for (size_t m = 0; m < input->num_modules; ++m)
        ranks[m] = rank;
    return (struct stage_request){
        .ranks = ranks, .fixed_divisor = rank, .has_singular_values = true};
}

static bool adalora_open(struct adalora *adalora, struct problem *problem) {
    const struct method_input *input = adalora->input;
    const size_t rank = method_adalora_rank(input);
    const struct stage_request request = method_adalora_request(input, adalora->output->ranks);
    adalora->stage = input->create_stage(input->context, &request, problem);
    if (adalora->stage == NULL)
        return false;
    method_count_parameters(input, adalora->stage, adalora->output);
    const struct allocator_options options = {
        .schedule = schedule_of(input),
        .beta1 = input->options->importance_beta1,
        .beta2 = input->options->importance_beta2,
    };
    adalora->allocator = allocator_create(&input->trainer->comms.stages, adalora->stage, &options);
    adalora->importance = memory_allocate(rank * input->num_modules, sizeof(float), "importance");
    adalora->singular_values =
        memory_allocate(rank * input->num_modules, sizeof(float), "singular values");
    return true;
}

static void adalora_close(struct adalora *adalora) {
    allocator_destroy(&adalora->allocator);
    stage_destroy(&adalora->stage);
    stage_destroy(&adalora->used_stage);
    memory_free(adalora->used_factors);
    memory_free(adalora->importance);
    memory_free(adalora->singular_values);
}

bool method_adalora_train(const struct method_input *input, struct method_output *output,
                          struct problem *problem) {
    struct adalora adalora = {.input = input, .output = output};
    if (!check_options(input, problem) || !adalora_open(&adalora, problem))
        return false;
    const struct retrain_extension extension = {
        .context = &adalora,
        .add_gradient = add_gradient,
        .after_update = after_update,
        .write = write_state,
        .read = read_state,
        .finish = finish,
    };
    const struct stage *stage = adalora.stage;
    float *factors = memory_allocate(stage->factors.size, sizeof *factors, "factors");
    parameter_table_initialize(&stage->factors, input->trainer->seed, PHASE_RETRAIN, factors);
    const bool is_good =
        retrain_run(input->trainer, input->retrain, &extension, stage, factors, &output->retrain,
                    problem) &&
        input->save(input->context, adalora.used_stage, adalora.used_factors, problem);
    memory_free(factors);
    adalora_close(&adalora);
    return is_good;
}
