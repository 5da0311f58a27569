/* A plan for programs. */
#include "plan.h"

#include "io/json.h"

static void add_layout(const struct plan *plan, struct json *parent) {
    json_add_number(parent, "ranks", (double)layout_num_ranks(&plan->layout));
    json_add_number(parent, "replicas", (double)plan->layout.replicas);
    json_add_number(parent, "stages", (double)plan->layout.stages);
    struct json *grid = json_add_array(parent, "grid");
    json_add_number(grid, NULL, (double)plan->layout.grid_rows);
    json_add_number(grid, NULL, (double)plan->layout.grid_columns);
    json_add_number(parent, "threads", plan->num_threads);
    json_add_number(parent, "nodes", (double)plan->nodes);
    json_add_number(parent, "ranks_on_node", (double)plan->ranks_on_node);
}

static void add_stage(const struct plan_stage *stage, struct json *parent) {
    struct json *node = json_add_object(parent, NULL);
    json_add_number(node, "first_block", (double)stage->part.first_block);
    json_add_number(node, "num_blocks", (double)stage->part.num_blocks);
    json_add_number(node, "search_parameters", (double)stage->factors[0]);
    json_add_number(node, "training_parameters", (double)stage->factors[1]);
    json_add_number(node, "operations", stage->operations);
    json_add_number(node, "seconds", stage->busy);
    struct json *memory = json_add_object(node, "memory_bytes");
    json_add_number(memory, "frozen weights, mapped", (double)stage->mapped_bytes);
    for (int kind = 0; kind < NUM_MEMORY_KINDS; ++kind)
        json_add_number(memory, plan_memory_name((enum plan_memory)kind),
                        (double)stage->bytes[kind]);
    json_add_number(node, "private_bytes", (double)plan_stage_private(stage));
    json_add_number(node, "resident_bytes", (double)plan_stage_resident(stage));
}

static void add_passes(const struct search_passes *passes, struct json *parent) {
    struct json *node = json_add_object(parent, "passes");
    json_add_number(node, "train_gradient", passes->train_gradients);
    json_add_number(node, "validation_gradient", passes->validation_gradients);
    json_add_number(node, "tangent", passes->tangents);
}

static void add_phase(const char *name, const struct plan_phase *phase, struct json *parent) {
    struct json *node = json_add_object(parent, name);
    json_add_number(node, "steps", (double)phase->num_steps);
    json_add_number(node, "seconds", phase->seconds * (double)phase->num_steps);
    json_add_number(node, "seconds_a_step", phase->seconds);
    json_add_number(node, "operations_a_step", phase->operations);
    json_add_number(node, "bytes_sent_a_step", phase->bytes);
    json_add_number(node, "bubble", phase->bubble);
    json_add_number(node, "tokens_a_step", phase->tokens);
    json_add_number(node, "microbatches_a_step", phase->microbatches);
    add_passes(&phase->passes, node);
}

static void add_plan(const struct plan *plan, struct json *parent) {
    struct json *node = json_add_object(parent, NULL);
    add_layout(plan, node);
    struct json *stages = json_add_array(node, "stage_table");
    for (size_t s = 0; s < plan->layout.stages; ++s)
        add_stage(&plan->stages[s], stages);
    json_add_number(node, "heaviest_stage", (double)plan->heaviest);
    add_phase("search", &plan->search, node);
    add_phase("training", &plan->training, node);
    struct json *evaluation = json_add_object(node, "evaluation");
    json_add_number(evaluation, "count", (double)plan->evaluation.count);
    json_add_number(evaluation, "seconds_each", plan->evaluation.seconds);
    json_add_number(evaluation, "operations_each", plan->evaluation.operations);
    json_add_number(evaluation, "seconds_of_others", plan->evaluation.other_seconds);
    json_add_number(evaluation, "generation_seconds", plan->evaluation.generation_seconds);
    json_add_number(node, "seconds", plan->seconds);
    json_add_number(node, "trace_bytes", plan->trace_bytes);
    json_add_number(node, "checkpoint_bytes", plan->checkpoint_bytes);
    json_add_number(node, "output_bytes", plan->output_bytes);
}

char *plan_json(const struct planner *planner, const struct plan *plans, size_t count) {
    struct json *root = json_create_object();
    struct json *machine = json_add_object(root, "machine");
    json_add_number(machine, "latency_seconds", planner->machine.latency);
    json_add_number(machine, "bytes_a_second", planner->machine.bandwidth);
    json_add_number(machine, "operations_a_second", planner->machine.rate);
    json_add_number(machine, "cores_of_node", (double)planner->machine.cores);
    struct json *list = json_add_array(root, "plans");
    for (size_t i = 0; i < count; ++i)
        add_plan(&plans[i], list);
    char *text = json_print(root, true);
    json_destroy(&root);
    return text;
}
