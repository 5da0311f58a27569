/* Retraining, and plain LoRA: the same thing at other ranks. */
#include "train/retrain.h"

#include "base/memory.h"
#include "train/checkpoints.h"
#include "train/evaluate_texts.h"
#include "train/state.h"

#include <math.h>
#include <string.h>

struct retrain {
    const struct trainer *trainer;
    const struct retrain_options *options;
    const struct retrain_extension *extension; /* NULL: none */
    const struct stage *stage;
    struct pipeline *pipeline;
    struct training_state state;
    const struct stage *used_stage; /* what is evaluated, with used_factors; NULL: not known yet */
    const float *used_factors;
    struct gradient gradient;
    uint32_t *subset, *examples;
    struct sampler sampler;
    struct batch *batch;
    size_t num_steps, steps_per_epoch;
    double start; /* of the phase, were there no earlier attempts */
    double gradient_norm, rate;
};

size_t retrain_num_steps(const struct trainer *trainer, const struct retrain_options *options) {
    const size_t count = trainer->train->num_examples, size = trainer->optimizer.batch_size;
    const size_t steps_per_epoch = (count + size - 1) / size;
    const double steps = ceil(options->epochs * (double)steps_per_epoch);
    return options->steps > 0 ? options->steps : (size_t)fmax(1, steps);
}

static void retrain_open(struct retrain *retrain) {
    const struct trainer *trainer = retrain->trainer;
    const size_t count = trainer->train->num_examples, size = trainer->optimizer.batch_size;
    retrain->pipeline = trainer_pipeline(trainer, retrain->stage, false);
    retrain->state = training_state_create(retrain->stage, 0);
    retrain->gradient.factors =
        memory_allocate(retrain->stage->factors.size, sizeof(float), "a gradient");
    retrain->subset = memory_allocate(count, sizeof(uint32_t), "the training set");
    for (size_t i = 0; i < count; ++i)
        retrain->subset[i] = (uint32_t)i;
    retrain->examples = memory_allocate(size, sizeof(uint32_t), "a batch's examples");
    retrain->sampler = sampler_create(trainer->seed, 3, retrain->subset, count, size);
    retrain->batch = trainer_batch(trainer);
    retrain->steps_per_epoch = sampler_batches_per_pass(&retrain->sampler);
    retrain->num_steps = retrain_num_steps(trainer, retrain->options);
}

static void retrain_close(struct retrain *retrain) {
    pipeline_destroy(&retrain->pipeline);
    training_state_free(&retrain->state);
    memory_free(retrain->gradient.factors);
    memory_free(retrain->subset);
    memory_free(retrain->examples);
    sampler_free(&retrain->sampler);
    batch_destroy(&retrain->batch);
}

static void iterate(struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    const struct optimizer_options *optimizer = &trainer->optimizer;
    const size_t step = retrain->state.step;
    activity_step(trainer->comms.world.activity, "retrain", step);
    const size_t count = sampler_next(&retrain->sampler, step, retrain->examples);
    batch_fill(retrain->batch, trainer->train, retrain->examples, count,
               phase_step(PHASE_RETRAIN, step), true);
    const struct point point = {retrain->state.factors, NULL};
    timer_start(trainer->timers, "gradient");
    retrain->state.loss_train =
        pipeline_gradient(retrain->pipeline, &point, retrain->batch, false, &retrain->gradient);
    const struct retrain_extension *extension = retrain->extension;
    if (extension != NULL)
        extension->add_gradient(extension->context, retrain->state.factors,
                                retrain->gradient.factors);
    timer_stop(trainer->timers);
    const double peak = retrain->options->learning_rate > 0 ? retrain->options->learning_rate
                                                            : optimizer->learning_rate;
    retrain->rate = schedule_rate((enum schedule_kind)optimizer->schedule, peak,
                                  optimizer->warmup_fraction, step, retrain->num_steps);
    retrain->gradient_norm =
        trainer_update_factors(trainer, retrain->pipeline, retrain->rate, retrain->gradient.factors,
                               &retrain->state.factor_adam, retrain->state.factors);
    if (extension != NULL)
        extension->after_update(extension->context, step, retrain->gradient.factors,
                                trainer_gradient_scale(trainer, retrain->gradient_norm),
                                retrain->state.factors, problem);
    retrain->state.num_tokens += retrain->batch->num_tokens;
    ++retrain->state.step;
}

static void write_trace_row(const struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    if (trainer->trace == NULL)
        return;
    const struct trace_retrain_row row = {
        .step = retrain->state.step,
        .time = progress_seconds(trainer->progress),
        .loss_train = retrain->state.loss_train,
        .learning_rate = retrain->rate,
        .gradient_norm = retrain->gradient_norm,
    };
    trace_add_retrain(trainer->trace, &row, problem);
}

/* The evaluation that is owed; it stays so if the run is to stop meanwhile. */
static void evaluate_dev(struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    struct training_state *state = &retrain->state;
    const struct point point = {retrain->used_factors, NULL};
    const struct evaluation dev =
        evaluate_dataset(trainer, retrain->pipeline, &point, trainer->dev);
    if (checkpoints_is_stopping(trainer))
        return;
    state->owes_evaluation = false;
    state->dev = dev;
    const double score = evaluation_score(&dev);
    if (state->best_step == 0 || score > state->best_score) {
        state->best_score = score;
        state->best_step = state->step;
    }
    if (trainer->trace == NULL)
        return;
    const struct trace_evaluation_row row = {
        .step = state->step,
        .time = progress_seconds(trainer->progress),
        .loss = dev.loss,
        .score = score,
    };
    trace_add_evaluation(trainer->trace, &row, problem);
}

static void report(const struct retrain *retrain, bool has_score, struct problem *problem) {
    if (retrain->trainer->progress == NULL)
        return;
    const double done = (double)retrain->state.step, all = (double)retrain->num_steps;
    const double seconds = retrain->state.seconds;
    const struct progress_report line = {
        .phase = "retrain",
        .step = retrain->state.step,
        .num_steps = retrain->num_steps,
        .loss_train = retrain->state.loss_train,
        .loss_validation = NAN,
        .score = has_score ? evaluation_score(&retrain->state.dev) : NAN,
        .score_name = evaluation_score_name(&retrain->state.dev),
        .learning_rate = retrain->rate,
        .tokens_per_second = (double)retrain->state.num_tokens / seconds,
        .seconds_left = seconds / done * (all - done),
    };
    progress_write(retrain->trainer->progress, &line, problem);
}

/* What is evaluated from here on, and behind the last update. */
static bool finish(struct retrain *retrain, struct problem *problem) {
    const struct retrain_extension *extension = retrain->extension;
    if (retrain->used_stage != NULL)
        return true;
    retrain->used_stage = retrain->stage;
    if (extension == NULL)
        return true;
    if (!comm_agree(&retrain->trainer->comms.world, problem) ||
        !extension->finish(extension->context, retrain->state.factors, &retrain->used_stage,
                           &retrain->used_factors, problem))
        return false;
    pipeline_destroy(&retrain->pipeline);
    retrain->pipeline = trainer_pipeline(retrain->trainer, retrain->used_stage, false);
    return true;
}

static struct phase_state phase_of(struct retrain *retrain) {
    return (struct phase_state){PHASE_RETRAIN, retrain->num_steps, retrain->stage, &retrain->state,
                                retrain->extension};
}

static void update(struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    struct training_state *state = &retrain->state;
    trainer_start_timeline(trainer, state->step + 1);
    iterate(retrain, problem);
    trainer_stop_timeline(trainer, "retrain", state->step, problem);
    if (trainer_check_loss(state->loss_train, retrain->pipeline, state->factors, "retrain",
                           "training", state->step, problem))
        trainer_check_state(retrain->stage, state, retrain->gradient.factors, "retrain", problem);
    const bool is_last = state->step == retrain->num_steps;
    const bool ends_epoch = state->step % retrain->steps_per_epoch == 0;
    state->owes_evaluation =
        trainer->dev != NULL && (is_last || (ends_epoch && retrain->options->evaluates_each_epoch));
    timer_start(trainer->timers, "trace");
    write_trace_row(retrain, problem);
    trainer_flush_trace(trainer, is_last || state->owes_evaluation, problem);
    timer_stop(trainer->timers);
}

/* One update, unless an evaluation is still owed from before a stop, and what follows it. */
static bool advance(struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    struct training_state *state = &retrain->state;
    if (!state->owes_evaluation)
        update(retrain, problem);
    const bool is_last = state->step == retrain->num_steps, evaluates = state->owes_evaluation;
    if (is_last && !finish(retrain, problem))
        return false;
    if (evaluates)
        evaluate_dev(retrain, problem);
    struct decision decision = checkpoints_decide(trainer, is_last || evaluates);
    state->seconds = MPI_Wtime() - retrain->start;
    if (decision.wants_report)
        report(retrain, evaluates && !state->owes_evaluation, problem);
    if (is_last)
        trainer_flush_trace(trainer, true, problem);
    if (is_last && trainer->texts != NULL)
        decision.wants_checkpoint = true; /* generation is long and does not stop half-way */
    const struct phase_state phase = phase_of(retrain);
    return comm_agree(&trainer->comms.world, problem) &&
           checkpoints_follow(trainer, &phase, &decision, problem);
}

static bool loop(struct retrain *retrain, struct problem *problem) {
    const struct phase_state phase = phase_of(retrain);
    bool is_good = checkpoints_restore(retrain->trainer, &phase, problem);
    retrain->start = MPI_Wtime() - retrain->state.seconds;
    while (is_good && (retrain->state.step < retrain->num_steps || retrain->state.owes_evaluation))
        is_good = advance(retrain, problem);
    return is_good && finish(retrain, problem);
}

/* Language modelling: by its texts, once. */
static bool evaluate_generated(const struct trainer *trainer, const struct stage *stage,
                               const struct point *point, struct evaluation *dev,
                               struct evaluation *test, struct problem *problem) {
    const struct text_evaluation *texts = trainer->texts;
    if (texts == NULL)
        return true;
    timer_start(trainer->timers, "generate");
    const bool is_good =
        evaluate_texts(texts, &trainer->comms, stage, point, "dev", texts->dev, dev, problem) &&
        evaluate_texts(texts, &trainer->comms, stage, point, "test", texts->test, test, problem);
    timer_stop(trainer->timers);
    return is_good;
}

/* What is evaluated once, behind the last update. */
static bool evaluate_rest(struct retrain *retrain, struct retrain_result *result,
                          struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    const struct point point = {retrain->used_factors, NULL};
    const struct decision stop = {.wants_checkpoint = true, .stops = true};
    const struct phase_state phase = phase_of(retrain);
    if (trainer->other_dev != NULL)
        result->other_dev =
            evaluate_dataset(trainer, retrain->pipeline, &point, trainer->other_dev);
    if (trainer->test != NULL && !checkpoints_is_stopping(trainer))
        result->test = evaluate_dataset(trainer, retrain->pipeline, &point, trainer->test);
    if (checkpoints_is_stopping(trainer))
        return checkpoints_follow(trainer, &phase, &stop, problem);
    return evaluate_generated(trainer, retrain->used_stage, &point, &result->dev, &result->test,
                              problem);
}

/* A look at the training with a generation on top of it. */
struct generation_look {
    const struct retrain *retrain;
    rehearsal_look look;
    void *context;
};

static void look_at_generation(void *context) {
    const struct generation_look *look = context;
    look->look(look->context, PHASE_RETRAIN, look->retrain->stage, look->retrain->num_steps);
}

void retrain_rehearse(const struct trainer *trainer, const struct retrain_options *options,
                      const struct stage *stage, rehearsal_look look, void *context) {
    struct retrain retrain = {.trainer = trainer, .options = options, .stage = stage};
    retrain_open(&retrain);
    look(context, PHASE_RETRAIN, stage, retrain.num_steps);
    const struct text_evaluation *texts = trainer->texts;
    struct generation_look generation = {&retrain, look, context};
    if (texts != NULL && texts->dev->count > 0)
        generate_rehearse(&trainer->comms, stage, &texts->options, texts->dev, look_at_generation,
                          &generation);
    if (texts != NULL && texts->test->count > 0)
        generate_rehearse(&trainer->comms, stage, &texts->options, texts->test, look_at_generation,
                          &generation);
    retrain_close(&retrain);
}

bool retrain_run(const struct trainer *trainer, const struct retrain_options *options,
                 const struct retrain_extension *extension, const struct stage *stage,
                 float *factors, struct retrain_result *result, struct problem *problem) {
    struct retrain retrain = {
        .trainer = trainer, .options = options, .extension = extension, .stage = stage};
    *result = (struct retrain_result){0};
    retrain_open(&retrain);
    const struct training_state *state = &retrain.state;
    const size_t bytes = stage->factors.size * sizeof *factors;
    memcpy(state->factors, factors, bytes);
    retrain.used_factors = state->factors;
    bool is_good = loop(&retrain, problem);
    result->dev = state->dev;
    is_good = is_good && evaluate_rest(&retrain, result, problem);
    result->num_steps = state->step;
    result->num_tokens = state->num_tokens;
    result->seconds = state->seconds;
    result->loss_train = state->loss_train;
    result->best_score = state->best_score;
    result->best_step = state->best_step;
    memcpy(factors, state->factors, bytes);
    retrain_close(&retrain);
    return is_good;
}
