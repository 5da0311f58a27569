/* A plan as text. */
#include "plan.h"

#include "base/memory.h"

#include <math.h>

static const double MEGABYTE = 1e6, GIGA = 1e9;

static void print_seconds(double seconds, FILE *stream) {
    if (seconds < 100)
        fprintf(stream, "%.3g s", seconds);
    else if (seconds < 6000)
        fprintf(stream, "%.0f s", seconds);
    else
        fprintf(stream, "%.1f h", seconds / 3600);
}

static void print_head(const struct planner *planner, const struct plan *plan, FILE *stream) {
    const struct job *job = planner->job;
    const struct architecture *architecture = &job->architecture;
    const struct layout *layout = &plan->layout;
    fprintf(stream, "model      %s: %s, %zu blocks, hidden size %zu%s\n", job->config.model.path,
            model_family_name(architecture->family), architecture->num_blocks,
            architecture->hidden_size,
            job->weights == NULL ? "; no weights read: shapes by config.json" : "");
    fprintf(stream, "data       %zu examples, %zu tokens, longest %zu; dev %zu examples\n",
            job->train.num_examples, job->train.offsets[job->train.num_examples],
            trainer_longest(&planner->trainer), job->dev.num_examples);
    fprintf(stream,
            "layout     %zu ranks: %zu replicas x %zu stages x grid [%zu, %zu], %d threads each; "
            "%zu nodes of %zu cores, %zu ranks on each\n",
            layout_num_ranks(layout), layout->replicas, layout->stages, layout->grid_rows,
            layout->grid_columns, plan->num_threads, plan->nodes, planner->machine.cores,
            plan->ranks_on_node);
    if (planner->searches)
        fprintf(stream,
                "ranks      %zu in the search; for the training %zu in the mean is assumed\n",
                job->config.adapter.rank,
                (plan->stages[0].factors[1] > 0 && job->num_modules > 0) ? planner->ranks[0]
                                                                         : (size_t)0);
}

static void print_stages(const struct plan *plan, FILE *stream) {
    fprintf(stream, "\nstage  blocks      frozen MB   trained   Gflop   seconds   memory MB"
                    "   (a microbatch, forward and backward)\n");
    for (size_t s = 0; s < plan->layout.stages; ++s) {
        const struct plan_stage *stage = &plan->stages[s];
        const size_t first = stage->part.first_block, count = stage->part.num_blocks;
        const size_t most =
            stage->factors[0] > stage->factors[1] ? stage->factors[0] : stage->factors[1];
        fprintf(stream, "%5zu  %3zu .. %-3zu %10.1f %9zu %7.2f %9.4f %11.1f%s\n", s, first,
                count > 0 ? first + count - 1 : first, (double)stage->mapped_bytes / MEGABYTE, most,
                stage->operations / GIGA, stage->busy,
                (double)plan_stage_resident(stage) / MEGABYTE,
                s == plan->heaviest ? "  heaviest" : "");
    }
}

static double node_bytes(const struct plan *plan) {
    double worst = 0;
    const size_t ranks = layout_num_ranks(&plan->layout);
    for (size_t first = 0; first < ranks; first += plan->ranks_on_node) {
        double sum = 0;
        bool *has_map = memory_allocate(plan->layout.stages, sizeof *has_map, "a report");
        for (size_t r = first; r < first + plan->ranks_on_node && r < ranks; ++r) {
            const size_t s = layout_place(&plan->layout, r).stage;
            sum += (double)plan_stage_private(&plan->stages[s]);
            sum += has_map[s] ? 0 : (double)plan->stages[s].mapped_bytes;
            has_map[s] = true;
        }
        memory_free(has_map);
        worst = fmax(worst, sum);
    }
    return worst;
}

static void print_memory(const struct plan *plan, FILE *stream) {
    const struct plan_stage *stage = &plan->stages[plan->heaviest];
    fprintf(stream, "\nmemory of the heaviest rank, of stage %zu, in MB\n", plan->heaviest);
    fprintf(stream, "  %-34s %9.1f  mapped: once a node\n", "frozen weights",
            (double)stage->mapped_bytes / MEGABYTE);
    for (int kind = 0; kind < NUM_MEMORY_KINDS; ++kind)
        if (stage->bytes[kind] > 0)
            fprintf(stream, "  %-34s %9.1f\n", plan_memory_name((enum plan_memory)kind),
                    (double)stage->bytes[kind] / MEGABYTE);
    fprintf(stream, "  %-34s %9.1f  of it private %.1f\n", "resident",
            (double)plan_stage_resident(stage) / MEGABYTE,
            (double)plan_stage_private(stage) / MEGABYTE);
    fprintf(stream, "  %-34s %9.1f\n", "a node with its ranks", node_bytes(plan) / MEGABYTE);
}

static void print_phase(const char *name, const struct plan_phase *phase, FILE *stream) {
    if (phase->num_steps == 0)
        return;
    fprintf(stream, "%-10s %8zu %10.0f %9.1f %11.2f %10.3f %7.1f%% %9.4f  ", name, phase->num_steps,
            phase->tokens, phase->microbatches, phase->operations / GIGA, phase->bytes / MEGABYTE,
            100 * phase->bubble, phase->seconds);
    print_seconds(phase->seconds * (double)phase->num_steps, stream);
    fputs("\n", stream);
}

static void print_time(const struct plan *plan, FILE *stream) {
    const struct plan_evaluation *evaluation = &plan->evaluation;
    fprintf(stream, "\n%-10s %8s %10s %9s %11s %10s %8s %9s  %s\n", "phase", "steps", "tokens",
            "microb.", "Gflop", "MB sent", "bubble", "seconds", "in all");
    print_phase("search", &plan->search, stream);
    print_phase("training", &plan->training, stream);
    const double all = (double)evaluation->count * evaluation->seconds + evaluation->other_seconds;
    fprintf(stream, "%-10s %8zu %10s %9s %11.2f %10s %8s %9.4f  ", "evaluation", evaluation->count,
            "", "", evaluation->operations / GIGA, "", "", evaluation->seconds);
    print_seconds(all, stream);
    if (evaluation->generation_seconds > 0) {
        fprintf(stream, "\n%-82s  ", "generation, of texts as long as the references");
        print_seconds(evaluation->generation_seconds, stream);
    }
    fprintf(stream, "\n%-82s  ", "job, without reading and writing files");
    print_seconds(plan->seconds, stream);
    fputs("\n", stream);
}

static void print_output(const struct plan *plan, FILE *stream) {
    fprintf(stream,
            "\noutput     trace.h5 %.2f MB (%zu rows of the search, %zu bytes each), a checkpoint "
            "%.2f MB, in all %.2f MB\n",
            plan->trace_bytes / MEGABYTE, plan->search_rows, plan->row_bytes,
            plan->checkpoint_bytes / MEGABYTE, plan->output_bytes / MEGABYTE);
}

void plan_print(const struct planner *planner, const struct plan *plan, FILE *stream) {
    print_head(planner, plan, stream);
    print_stages(plan, stream);
    print_memory(plan, stream);
    print_time(plan, stream);
    print_output(plan, stream);
}

void plan_print_table(const struct plan *plans, size_t count, FILE *stream) {
    fprintf(stream, "\n%6s %9s %7s %10s %8s %10s %10s %10s %8s %12s %12s\n", "ranks", "replicas",
            "stages", "grid", "nodes", "MB a rank", "MB a node", "MB sent", "bubble", "s a step",
            "job");
    for (size_t i = 0; i < count; ++i) {
        const struct plan *plan = &plans[i];
        const struct plan_phase *phase =
            plan->search.num_steps > 0 ? &plan->search : &plan->training;
        char grid[64];
        snprintf(grid, sizeof grid, "%zux%zu", plan->layout.grid_rows, plan->layout.grid_columns);
        fprintf(stream, "%6zu %9zu %7zu %10s %8zu %10.0f %10.0f %10.1f %7.1f%% %12.4g ",
                layout_num_ranks(&plan->layout), plan->layout.replicas, plan->layout.stages, grid,
                plan->nodes, (double)plan_stage_resident(&plan->stages[plan->heaviest]) / MEGABYTE,
                node_bytes(plan) / MEGABYTE, phase->bytes / MEGABYTE, 100 * phase->bubble,
                phase->seconds);
        print_seconds(plan->seconds, stream);
        fputs("\n", stream);
    }
}
