/* The table of methods, and what they share. */
#include "train/method.h"

#include "base/memory.h"
#include "io/json.h"

#include <math.h>
#include <string.h>

/* Fresh adapters at the chosen ranks, or whatever else the stages train. */
static struct stage_request training_request(const struct method_input *input, size_t *ranks) {
    const bool is_fixed = input->retrain->scaling == SCALING_ALPHA_OVER_K;
    return (struct stage_request){
        .ranks = ranks,
        .scales = input->scales,
        .fixed_divisor = is_fixed ? input->options->rank : 0,
    };
}

static bool train_adapters(const struct method_input *input, struct method_output *output,
                           struct problem *problem) {
    const struct stage_request request = training_request(input, output->ranks);
    struct stage *stage = input->create_stage(input->context, &request, problem);
    if (stage == NULL)
        return false;
    method_count_parameters(input, stage, output);
    float *factors = memory_allocate(stage->factors.size, sizeof *factors, "factors");
    parameter_table_initialize(&stage->factors, input->trainer->seed, PHASE_RETRAIN, factors);
    const bool is_good = input->start(input->context, stage, factors, problem) &&
                         retrain_run(input->trainer, input->retrain, NULL, stage, factors,
                                     &output->retrain, problem) &&
                         input->save(input->context, stage, factors, problem);
    memory_free(factors);
    stage_destroy(&stage);
    return is_good;
}

void method_rehearse_training(const struct method_input *input, const struct stage *stage,
                              rehearsal_look look, void *context) {
    float *factors = memory_allocate(stage->factors.size, sizeof *factors, "factors");
    retrain_rehearse(input->trainer, input->retrain, stage, look, context);
    memory_free(factors);
}

static const struct method METHODS[] = {
    [METHOD_AUTOLORA] = {method_autolora_ranks, train_adapters, training_request},
    [METHOD_LORA] = {method_lora_ranks, train_adapters, training_request},
    [METHOD_RANDOM] = {method_random_ranks, train_adapters, training_request},
    [METHOD_ADALORA] = {NULL, method_adalora_train, method_adalora_request},
    /* Without ranks: what the stages train is decided where they are created. */
    [METHOD_FULL] = {NULL, train_adapters, training_request},
    [METHOD_ADAPTER] = {NULL, train_adapters, training_request},
};

const struct method *method_of(enum adapter_method method) {
    return &METHODS[method];
}

bool method_has_ranks(enum adapter_method method) {
    return method != METHOD_FULL && method != METHOD_ADAPTER;
}

void method_output_free(struct method_output *output) {
    search_result_free(&output->search);
    memory_free(output->warning);
    output->warning = NULL;
}

/* The numbers of a search that a result tells. */
static void write_search(const struct search_result *search, struct json *parent) {
    struct json *part = json_add_object(parent, "search");
    json_add_number(part, "num_steps", (double)search->num_steps);
    json_add_number(part, "num_tokens", (double)search->num_tokens);
    json_add_number(part, "num_components", (double)search->num_components);
    json_add_number(part, "train_examples", (double)search->train_examples);
    json_add_number(part, "validation_examples", (double)search->validation_examples);
    json_add_number(part, "seconds", search->seconds);
    json_add_number(part, "loss_train", search->loss_train);
    json_add_number(part, "loss_validation", search->loss_validation);
    json_add_number(part, "largest_movement", search->largest_movement);
    json_add_number(part, "mean_entropy", search->mean_entropy);
    if (search->certainty.intervals != NULL)
        certainty_write(&search->certainty, json_add_object(part, "certainty"));
}

/* The certainty may be missing: where nothing was known of it. */
static bool read_search(const struct json *part, size_t num_modules, struct search_result *search) {
    const struct {
        const char *name;
        double *value;
    } numbers[] = {{"seconds", &search->seconds},
                   {"loss_train", &search->loss_train},
                   {"loss_validation", &search->loss_validation},
                   {"largest_movement", &search->largest_movement},
                   {"mean_entropy", &search->mean_entropy}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
        const struct json *node = json_get(part, numbers[i].name);
        if (node == NULL)
            return false;
        *numbers[i].value = json_type(node) == JSON_NUMBER ? json_number(node) : (double)NAN;
    }
    const struct json *certainty = json_get(part, "certainty");
    if (certainty != NULL && !certainty_parse(certainty, num_modules, &search->certainty))
        return false;
    return json_size(json_get(part, "num_steps"), &search->num_steps) &&
           json_size(json_get(part, "num_tokens"), &search->num_tokens) &&
           json_size(json_get(part, "num_components"), &search->num_components) &&
           json_size(json_get(part, "train_examples"), &search->train_examples) &&
           json_size(json_get(part, "validation_examples"), &search->validation_examples);
}

char *method_output_text(const struct method_output *output, size_t num_modules) {
    struct json *root = json_create_object();
    struct json *ranks = json_add_array(root, "ranks");
    for (size_t m = 0; m < num_modules; ++m)
        json_add_number(ranks, NULL, (double)output->ranks[m]);
    json_add_number(root, "most_parameters", (double)output->most_parameters);
    if (output->warning != NULL)
        json_add_string(root, "warning", output->warning);
    if (output->search.num_steps > 0)
        write_search(&output->search, root);
    char *text = json_print(root, false);
    json_destroy(&root);
    return text;
}

static bool read_output(struct method_output *output, size_t num_modules, const struct json *root) {
    const struct json *ranks = json_get(root, "ranks"), *warning = json_get(root, "warning"),
                      *search = json_get(root, "search");
    if (ranks == NULL || json_count(ranks) != num_modules)
        return false;
    size_t m = 0;
    for (const struct json *rank = json_first(ranks); rank != NULL; rank = json_next(rank), ++m)
        if (!json_size(rank, &output->ranks[m]) || output->ranks[m] > 65536)
            return false;
    if (warning != NULL && json_type(warning) == JSON_STRING)
        output->warning = memory_copy_string(json_string(warning));
    return json_size(json_get(root, "most_parameters"), &output->most_parameters) &&
           (search == NULL || read_search(search, num_modules, &output->search));
}

bool method_output_read(struct method_output *output, size_t num_modules, const char *text,
                        struct problem *problem) {
    struct json *root = json_parse(text, strlen(text), "output", EXIT_DATA, problem);
    if (root == NULL)
        return false;
    if (!read_output(output, num_modules, root))
        problem_set(problem, EXIT_DATA, "the checkpoint's part of the search is incomplete");
    json_destroy(&root);
    return problem->exit_code == 0;
}

size_t method_total_rank(const struct method_input *input) {
    const struct method_options *options = input->options;
    return options->mean_rank > 0 ? (size_t)lround(options->mean_rank * (double)input->num_modules)
                                  : options->rank * input->num_modules;
}

void method_count_parameters(const struct method_input *input, const struct stage *stage,
                             struct method_output *output) {
    const struct comm *comm = &input->trainer->comms.stages;
    size_t counts[2] = {0};
    size_t own[2] = {0};
    for (size_t i = 0; i < stage->factors.count; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        const bool is_head = strncmp(entry->name, "classifier.", 11) == 0;
        if (!entry->is_copy)
            own[is_head] += entry->rows * entry->columns;
    }
    own[0] += stage->selection_size;
    size_t *all = memory_allocate(2 * (size_t)comm->size, sizeof *all, "counts");
    comm_all_gather(comm, own, 2, sizeof *own, all);
    for (int r = 0; r < comm->size; ++r) {
        counts[0] += all[2 * r];
        counts[1] += all[2 * r + 1];
    }
    memory_free(all);
    output->adapter_parameters = counts[0];
    output->head_parameters = counts[1];
    if (counts[0] + counts[1] > output->most_parameters)
        output->most_parameters = counts[0] + counts[1];
}
