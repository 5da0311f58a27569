/* The search. One iteration, recipe "paper" (algorithm 1):
 *   W' = one optimiser step of W on a training batch            (the look-ahead, which is kept)
 *   a  = one optimiser step of a along the hypergradient at W'  (on a validation batch)
 * Recipe "reference": the look-ahead is taken back after the step of a and repeated at the new a.
 * Single level (meta false): W and a step together on a training batch. The state changes in these
 * functions only; the trace and the reports look at it between iterations. */
#include "train/search.h"

#include "base/memory.h"
#include "model/selection.h"
#include "train/budget.h"
#include "train/checkpoints.h"
#include "train/hypergradient.h"
#include "train/importance.h"
#include "train/search_data.h"
#include "train/state.h"
#include "train/trainer.h"

#include <math.h>
#include <string.h>

struct search {
    const struct trainer *trainer;
    const struct search_options *options;
    const struct budget *budget;
    const struct stage *stage;
    struct pipeline *pipeline;
    struct hypergradient *hypergradient;
    struct training_state state,
        saved; /* saved: before the look-ahead (factors and their optimiser) */
    struct gradient gradient;
    float *selection, *first_selection; /* [selection_size] */
    uint32_t *examples;                 /* [batch_size] */
    struct search_data data;
    struct batch *train, *validation;
    size_t num_steps;
    double start; /* of the phase, were there no earlier attempts */
    bool has_validation_loss;
};

static bool wants_importance(const struct search *search) {
    return importance_is_wanted((enum threshold_rule)search->options->threshold_rule);
}

static void search_open(struct search *search) {
    const struct trainer *trainer = search->trainer;
    const struct search_options *options = search->options;
    const struct stage *stage = search->stage;
    const size_t factors = stage->factors.size, size = stage->selection_size;
    const bool is_exact = options->is_meta && options->hypergradient == HYPERGRADIENT_EXACT;
    search->pipeline = trainer_pipeline(trainer, stage, is_exact);
    search->hypergradient =
        hypergradient_create(search->pipeline, (enum hypergradient_kind)options->hypergradient,
                             options->constraint, options->entropy_weight);
    const size_t moments = wants_importance(search)
                               ? importance_moments_size(stage->options.adapters.num_components)
                               : 0;
    search->state = training_state_create(stage, moments);
    search->saved = training_state_create(stage, 0);
    search->gradient.factors = memory_allocate(factors, sizeof(float), "a gradient");
    search->gradient.selection = memory_allocate(size, sizeof(float), "a gradient");
    search->selection = memory_allocate(size, sizeof(float), "selection variables");
    search->first_selection = memory_allocate(size, sizeof(float), "selection variables");
    search->examples =
        memory_allocate(trainer->optimizer.batch_size, sizeof(uint32_t), "a batch's examples");
    search->train = trainer_batch(trainer);
    search->validation = trainer_batch(trainer);
    const size_t per_pass = sampler_batches_per_pass(&search->data.train);
    search->num_steps = options->steps > 0
                            ? options->steps
                            : (size_t)fmax(1, ceil(options->epochs * (double)per_pass));
}

static void compute_selection(struct search *search) {
    selection_forward((enum selection_constraint)search->options->constraint, search->state.logits,
                      search->stage->num_modules, search->stage->options.adapters.num_components,
                      search->selection);
}

static void start_state(struct search *search) {
    const struct stage *stage = search->stage;
    parameter_table_initialize(&stage->factors, search->trainer->seed, PHASE_SEARCH,
                               search->state.factors);
    for (size_t i = 0; i < stage->selection_size; ++i)
        search->state.logits[i] = (float)search->options->selection_initial;
    compute_selection(search);
}

static void search_close(struct search *search) {
    hypergradient_destroy(&search->hypergradient);
    pipeline_destroy(&search->pipeline);
    training_state_free(&search->state);
    training_state_free(&search->saved);
    memory_free(search->gradient.factors);
    memory_free(search->gradient.selection);
    memory_free(search->selection);
    memory_free(search->first_selection);
    memory_free(search->examples);
    batch_destroy(&search->train);
    batch_destroy(&search->validation);
    search_data_free(&search->data);
}

static double factor_rate(const struct search *search) {
    const struct optimizer_options *optimizer = &search->trainer->optimizer;
    const double peak = search->options->learning_rate > 0 ? search->options->learning_rate
                                                           : optimizer->learning_rate;
    return schedule_rate((enum schedule_kind)optimizer->schedule, peak, optimizer->warmup_fraction,
                         search->state.step, search->num_steps);
}

static void copy_factors(const struct training_state *from, struct training_state *to) {
    const size_t bytes = from->factor_adam.size * sizeof(float);
    memcpy(to->factors, from->factors, bytes);
    memcpy(to->factor_adam.first, from->factor_adam.first, bytes);
    memcpy(to->factor_adam.second, from->factor_adam.second, bytes);
    to->factor_adam.num_updates = from->factor_adam.num_updates;
}

static void step_factors(struct search *search) {
    trainer_update_factors(search->trainer, search->pipeline, factor_rate(search),
                           search->gradient.factors, &search->state.factor_adam,
                           search->state.factors);
}

static void step_selection(struct search *search) {
    const struct search_options *options = search->options;
    const struct adam_step step = {
        .rate = schedule_rate((enum schedule_kind)options->selection_schedule,
                              options->selection_learning_rate, options->selection_warmup,
                              search->state.step, search->num_steps),
        .beta1 = options->selection_beta1,
        .beta2 = options->selection_beta2,
        .epsilon = 1e-8,
        .decay = options->selection_weight_decay,
        .gradient_scale = 1,
    };
    timer_start(search->trainer->timers, "optimizer");
    adam_update(&search->state.selection_adam, &step, NULL, search->state.d_logits,
                search->state.logits);
    timer_stop(search->trainer->timers);
    compute_selection(search);
}

/* Loss and gradient on the training batch at the present state. */
static double train_gradient(struct search *search, bool keep, bool wants_selection) {
    const struct point point = {search->state.factors, search->selection};
    struct gradient gradient = search->gradient;
    if (!wants_selection)
        gradient.selection = NULL;
    timer_start(search->trainer->timers, "train_gradient");
    const double loss = pipeline_gradient(search->pipeline, &point, search->train, keep, &gradient);
    timer_stop(search->trainer->timers);
    return loss;
}

/* After train_gradient, at the same factors. */
static void observe_importance(struct search *search) {
    if (wants_importance(search))
        importance_observe(search->stage, search->state.factors, search->gradient.factors,
                           search->state.moments);
}

static void iterate_single_level(struct search *search) {
    const size_t modules = search->stage->num_modules;
    const size_t k = search->stage->options.adapters.num_components;
    search->state.loss_train = train_gradient(search, false, true);
    observe_importance(search);
    selection_add_entropy_gradient(search->options->entropy_weight, search->selection, modules, k,
                                   search->gradient.selection);
    selection_backward((enum selection_constraint)search->options->constraint, search->selection,
                       search->gradient.selection, modules, k, search->state.d_logits);
    step_factors(search);
    step_selection(search);
}

static void iterate_bilevel(struct search *search, bool moves_selection) {
    const bool is_paper = search->options->recipe == RECIPE_PAPER;
    const bool is_exact = search->options->hypergradient == HYPERGRADIENT_EXACT;
    search->state.loss_train =
        train_gradient(search, moves_selection && is_paper && is_exact, false);
    observe_importance(search);
    const double rate = factor_rate(search);
    copy_factors(&search->state, &search->saved);
    step_factors(search);
    if (!moves_selection)
        return;
    const struct hypergradient_request request = {
        .lookahead = search->state.factors,
        .point = is_paper ? search->saved.factors : search->state.factors,
        .is_kept = is_paper && is_exact,
        .selection = search->selection,
        .coefficient = is_paper ? rate : 1,
        .train = search->train,
        .validation = search->validation,
    };
    timer_start(search->trainer->timers, "hypergradient");
    search->state.loss_validation =
        hypergradient_compute(search->hypergradient, &request, search->state.d_logits);
    timer_stop(search->trainer->timers);
    step_selection(search);
    if (is_paper)
        return;
    copy_factors(&search->saved, &search->state);
    train_gradient(search, false, false);
    step_factors(search);
}

static void draw_batches(struct search *search) {
    const struct trainer *trainer = search->trainer;
    uint32_t *examples = search->examples;
    const uint64_t key = phase_step(PHASE_SEARCH, search->state.step);
    size_t count = sampler_next(&search->data.train, search->state.step, examples);
    batch_fill(search->train, trainer->train, examples, count, key, true);
    search->state.num_tokens += search->train->num_tokens;
    if (search->options->is_meta) {
        count = sampler_next(&search->data.validation, search->state.step, examples);
        batch_fill(search->validation, trainer->train, examples, count, key, true);
        search->state.num_tokens += search->validation->num_tokens;
    }
}

static void iterate(struct search *search) {
    activity_step(search->trainer->comms.world.activity, "search", search->state.step);
    draw_batches(search);
    search->state.loss_validation = NAN;
    const bool moves_selection = search->state.step % search->options->selection_every == 0;
    search->has_validation_loss = search->options->is_meta && moves_selection;
    if (search->options->is_meta)
        iterate_bilevel(search, moves_selection);
    else
        iterate_single_level(search);
    ++search->state.step;
}

/* The selection of the whole model, gathered on every rank. */
static void gather_all(const struct search *search, const float *part, float *whole) {
    comm_all_gather(&search->trainer->comms.stages, part, search->stage->selection_size,
                    sizeof *part, whole);
}

static bool write_trace_row(const struct search *search, const struct search_result *result,
                            const float *d_logits, struct problem *problem) {
    const struct trainer *trainer = search->trainer;
    if (trainer->trace == NULL)
        return true;
    const struct trace_search_row row = {
        .step = search->state.step,
        .time = progress_seconds(trainer->progress),
        .selection = result->selection,
        .logits = result->logits,
        .hypergradient = d_logits,
        .loss_train = search->state.loss_train,
        .loss_validation = search->state.loss_validation,
        .ranks = result->ranks,
    };
    return trace_add_search(trainer->trace, &row, problem);
}

/* Scores of all modules by the moments, gathered on every rank. */
static void gather_scores(const struct search *search, enum threshold_rule rule, float *scores) {
    const struct stage *stage = search->stage;
    float *own = memory_allocate(stage->selection_size, sizeof *own, "scores");
    importance_scores(rule, search->state.moments, stage->num_modules,
                      stage->options.adapters.num_components, own);
    gather_all(search, own, scores);
    memory_free(own);
}

/* Ranks by the threshold rule, then kept to the budget by what the rule compares. */
static void choose_ranks(const struct search *search, struct search_result *result) {
    const enum threshold_rule rule = (enum threshold_rule)search->options->threshold_rule;
    const size_t modules = result->num_modules, k = result->num_components;
    if (wants_importance(search)) {
        gather_scores(search, rule, result->scores);
        importance_ranks(result->scores, modules, k, search->options->importance_threshold,
                         result->ranks);
    } else {
        selection_shares(rule, result->logits, result->selection, modules, k, result->scores);
        selection_ranks(rule, result->logits, result->selection, modules, k, result->ranks);
    }
    budget_apply(search->budget, result->scores, result->ranks);
}

/* Gathers what is known after an iteration into the result and writes the trace. */
static void observe(const struct search *search, struct search_result *result, float *d_logits,
                    bool wants_row, struct problem *problem) {
    gather_all(search, search->selection, result->selection);
    gather_all(search, search->state.logits, result->logits);
    choose_ranks(search, result);
    result->mean_entropy = 0;
    for (size_t m = 0; m < result->num_modules; ++m)
        result->mean_entropy += selection_entropy(result->selection + m * result->num_components,
                                                  result->num_components) /
                                (double)result->num_modules;
    if (!wants_row)
        return;
    gather_all(search, search->state.d_logits, d_logits);
    write_trace_row(search, result, d_logits, problem);
}

static double mean_rank(const struct search_result *result) {
    double sum = 0;
    for (size_t m = 0; m < result->num_modules; ++m)
        sum += (double)result->ranks[m];
    return sum / (double)result->num_modules;
}

static void report(const struct search *search, const struct search_result *result, double seconds,
                   struct problem *problem) {
    if (search->trainer->progress == NULL)
        return;
    const double done = (double)search->state.step, all = (double)search->num_steps;
    const struct progress_report line = {
        .phase = "search",
        .step = search->state.step,
        .num_steps = search->num_steps,
        .loss_train = search->state.loss_train,
        .loss_validation = search->state.loss_validation,
        .score = NAN,
        .learning_rate = factor_rate(search),
        .mean_rank = mean_rank(result),
        .mean_entropy = result->mean_entropy,
        .tokens_per_second = (double)search->state.num_tokens / seconds,
        .seconds_left = seconds / done * (all - done),
    };
    progress_write(search->trainer->progress, &line, problem);
}

static void result_open(const struct search *search, struct search_result *result) {
    int mine = comm_count(search->stage->num_modules), total = 0;
    comm_reduce(&search->trainer->comms.stages, &mine, &total, 1, MPI_INT, MPI_SUM);
    *result = (struct search_result){
        .num_modules = (size_t)total,
        .num_components = search->stage->options.adapters.num_components,
    };
    const size_t size = result->num_modules * result->num_components;
    result->ranks = memory_allocate(result->num_modules, sizeof(size_t), "ranks");
    result->logits = memory_allocate(size, sizeof(float), "logits");
    result->selection = memory_allocate(size, sizeof(float), "selection variables");
    result->scores = memory_allocate(size, sizeof(float), "scores");
}

static double largest_movement(const struct search *search) {
    double movement = 0, all;
    for (size_t i = 0; i < search->stage->selection_size; ++i)
        movement = fmax(movement, fabsf(search->selection[i] - search->first_selection[i]));
    comm_reduce(&search->trainer->comms.stages, &movement, &all, 1, MPI_DOUBLE, MPI_MAX);
    return all;
}

static void check_numbers(const struct search *search, struct problem *problem) {
    const struct training_state *state = &search->state;
    const struct {
        double loss;
        const char *what;
    } losses[] = {{state->loss_train, "training"},
                  {search->has_validation_loss ? state->loss_validation : 0, "validation"}};
    bool is_good = true;
    for (size_t i = 0; is_good && i < sizeof losses / sizeof *losses; ++i)
        is_good = trainer_check_loss(losses[i].loss, search->pipeline, state->factors, "search",
                                     losses[i].what, state->step, problem);
    if (is_good)
        trainer_check_state(search->stage, state, search->gradient.factors, "search", problem);
}

/* One iteration, and what is told of it. */
static bool advance(struct search *search, struct search_result *result, float *d_logits,
                    struct problem *problem) {
    const struct trainer *trainer = search->trainer;
    const struct training_state *state = &search->state;
    const struct phase_state phase = {PHASE_SEARCH, search->num_steps, search->stage,
                                      &search->state, NULL};
    trainer_start_timeline(trainer, state->step + 1);
    iterate(search);
    trainer_stop_timeline(trainer, "search", state->step, problem);
    const bool is_last = state->step == search->num_steps;
    check_numbers(search, problem);
    const bool wants_row = is_last || state->step % trainer->trace_every == 0;
    const struct decision decision = checkpoints_decide(trainer, is_last);
    search->state.seconds = MPI_Wtime() - search->start;
    timer_start(trainer->timers, "trace");
    if (wants_row || decision.wants_report)
        observe(search, result, d_logits, wants_row, problem);
    if (decision.wants_report)
        report(search, result, state->seconds, problem);
    trainer_flush_trace(trainer, is_last, problem);
    timer_stop(trainer->timers);
    return comm_agree(&trainer->comms.world, problem) &&
           checkpoints_follow(trainer, &phase, &decision, problem);
}

static bool loop(struct search *search, struct search_result *result, struct problem *problem) {
    const struct phase_state phase = {PHASE_SEARCH, search->num_steps, search->stage,
                                      &search->state, NULL};
    float *d_logits = memory_allocate(result->num_modules * result->num_components, sizeof(float),
                                      "the hypergradient");
    bool is_good = checkpoints_restore(search->trainer, &phase, problem);
    search->start = MPI_Wtime() - search->state.seconds;
    compute_selection(search);
    observe(search, result, d_logits, false, problem); /* of a search that is resumed at its end */
    while (is_good && search->state.step < search->num_steps)
        is_good = advance(search, result, d_logits, problem);
    memory_free(d_logits);
    return is_good;
}

/* The trace is read on the rank that has it. */
static bool find_certainty(const struct search *search, struct search_result *result,
                           struct problem *problem) {
    const struct trainer *trainer = search->trainer;
    const struct search_options *options = search->options;
    const struct certainty_rule rule = {
        .threshold = (enum threshold_rule)options->threshold_rule,
        .constraint = (enum selection_constraint)options->constraint,
        .first_logit = options->selection_initial,
        .budget = search->budget,
        .seed = trainer->seed,
    };
    timer_start(trainer->timers, "certainty");
    if (trainer->trace != NULL)
        certainty_read(&rule, trainer->trace, result->ranks, &result->certainty, problem);
    const bool is_good = comm_agree(&trainer->comms.world, problem);
    if (is_good)
        certainty_share(&trainer->comms.world, result->num_modules, &result->certainty);
    timer_stop(trainer->timers);
    return is_good;
}

bool search_run(const struct trainer *trainer, const struct search_options *options,
                const struct budget *budget, const struct stage *stage,
                struct search_result *result, struct problem *problem) {
    struct search search = {
        .trainer = trainer, .options = options, .budget = budget, .stage = stage};
    if (!search_data_open(trainer, options, &search.data, problem))
        return false;
    search_open(&search);
    result_open(&search, result);
    start_state(&search);
    memcpy(search.first_selection, search.selection, stage->selection_size * sizeof(float));
    const bool is_good = loop(&search, result, problem) && find_certainty(&search, result, problem);
    result->num_steps = search.state.step;
    result->num_tokens = search.state.num_tokens;
    result->seconds = search.state.seconds;
    result->loss_train = search.state.loss_train;
    result->loss_validation = search.state.loss_validation;
    result->train_examples = search.data.num_train;
    result->validation_examples = search.data.num_validation;
    result->largest_movement = largest_movement(&search);
    search_close(&search);
    return is_good;
}

bool search_rehearse(const struct trainer *trainer, const struct search_options *options,
                     const struct stage *stage, rehearsal_look look, void *context,
                     struct problem *problem) {
    struct search search = {.trainer = trainer, .options = options, .stage = stage};
    if (!search_data_open(trainer, options, &search.data, problem))
        return false;
    search_open(&search);
    look(context, PHASE_SEARCH, stage, search.num_steps);
    search_close(&search);
    return true;
}

struct search_passes search_passes(const struct search_options *options) {
    const bool is_reference = options->recipe == RECIPE_REFERENCE;
    const double moves = options->is_meta ? 1 / (double)options->selection_every : 0;
    struct search_passes passes = {.train_gradients = 1, .validation_gradients = moves};
    if (options->hypergradient == HYPERGRADIENT_EXACT) {
        passes.tangents = moves;
        passes.train_gradients += is_reference ? moves : 0; /* at the look-ahead, to be kept */
    } else if (options->hypergradient == HYPERGRADIENT_FINITE_DIFFERENCE) {
        passes.train_gradients += 2 * moves;
    }
    passes.updates = 1 + (is_reference ? moves : 0);
    passes.train_gradients += is_reference ? moves : 0; /* the step that is repeated */
    return passes;
}
