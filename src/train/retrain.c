/* Retraining, and plain LoRA: the same thing at other ranks. */
#include "train/retrain.h"

#include "base/memory.h"
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
    const float *used_factors; /* those that are evaluated */
    struct gradient gradient;
    uint32_t *subset, *examples;
    struct sampler sampler;
    struct batch *batch;
    size_t num_steps, steps_per_epoch, num_tokens;
    double loss, gradient_norm, rate;
};

size_t retrain_num_steps(const struct trainer *trainer, const struct retrain_options *options) {
    const size_t count = trainer->train->num_examples, size = trainer->optimizer.batch_size;
    const double steps = ceil(options->epochs * (double)((count + size - 1) / size));
    return options->steps > 0 ? options->steps : (size_t)fmax(1, steps);
}

static void retrain_open(struct retrain *retrain) {
    const struct trainer *trainer = retrain->trainer;
    const size_t count = trainer->train->num_examples, size = trainer->optimizer.batch_size;
    retrain->pipeline = trainer_pipeline(trainer, retrain->stage, false);
    retrain->state = training_state_create(retrain->stage, trainer->seed, PHASE_RETRAIN, 0);
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
    const size_t count = sampler_next(&retrain->sampler, step, retrain->examples);
    batch_fill(retrain->batch, trainer->train, retrain->examples, count,
               phase_step(PHASE_RETRAIN, step), true);
    const struct point point = {retrain->state.factors, NULL};
    timer_start(trainer->timers, "gradient");
    retrain->loss =
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
    retrain->num_tokens += retrain->batch->num_tokens;
    ++retrain->state.step;
}

static void write_trace_row(const struct retrain *retrain, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    if (trainer->trace == NULL)
        return;
    const struct trace_retrain_row row = {
        .step = retrain->state.step,
        .time = progress_seconds(trainer->progress),
        .loss_train = retrain->loss,
        .learning_rate = retrain->rate,
        .gradient_norm = retrain->gradient_norm,
    };
    trace_add_retrain(trainer->trace, &row, problem);
}

static void evaluate_dev(struct retrain *retrain, struct retrain_result *result,
                         struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    const struct point point = {retrain->used_factors, NULL};
    result->dev = evaluate_dataset(trainer, retrain->pipeline, &point, trainer->dev);
    const double score = evaluation_score(&result->dev);
    if (result->best_step == 0 || score > result->best_score) {
        result->best_score = score;
        result->best_step = retrain->state.step;
    }
    if (trainer->trace == NULL)
        return;
    const struct trace_evaluation_row row = {
        .step = retrain->state.step,
        .time = progress_seconds(trainer->progress),
        .loss = result->dev.loss,
        .score = score,
    };
    trace_add_evaluation(trainer->trace, &row, problem);
}

static void report(const struct retrain *retrain, const struct retrain_result *result,
                   double seconds, bool has_score, struct problem *problem) {
    if (retrain->trainer->progress == NULL)
        return;
    const double done = (double)retrain->state.step, all = (double)retrain->num_steps;
    const struct progress_report line = {
        .phase = "retrain",
        .step = retrain->state.step,
        .num_steps = retrain->num_steps,
        .loss_train = retrain->loss,
        .loss_validation = NAN,
        .score = has_score ? evaluation_score(&result->dev) : NAN,
        .score_name = evaluation_score_name(&result->dev),
        .learning_rate = retrain->rate,
        .tokens_per_second = (double)retrain->num_tokens / seconds,
        .seconds_left = seconds / done * (all - done),
    };
    progress_write(retrain->trainer->progress, &line, problem);
}

/* What is evaluated from here on. */
static bool finish(struct retrain *retrain, struct problem *problem) {
    const struct retrain_extension *extension = retrain->extension;
    if (extension == NULL)
        return true;
    if (!comm_agree(&retrain->trainer->comm, problem) ||
        !extension->finish(extension->context, retrain->state.factors, &retrain->stage,
                           &retrain->used_factors, problem))
        return false;
    pipeline_destroy(&retrain->pipeline);
    retrain->pipeline = trainer_pipeline(retrain->trainer, retrain->stage, false);
    return true;
}

static bool loop(struct retrain *retrain, struct retrain_result *result, struct problem *problem) {
    const struct trainer *trainer = retrain->trainer;
    const double start = MPI_Wtime();
    bool is_good = true;
    while (is_good && retrain->state.step < retrain->num_steps) {
        iterate(retrain, problem);
        const size_t step = retrain->state.step;
        const bool is_last = step == retrain->num_steps;
        const bool ends_epoch = step % retrain->steps_per_epoch == 0;
        const bool evaluates = trainer->dev != NULL &&
                               (is_last || (ends_epoch && retrain->options->evaluates_each_epoch));
        trainer_check_loss(retrain->loss, "retrain", "training", step, problem);
        timer_start(trainer->timers, "trace");
        write_trace_row(retrain, problem);
        trainer_flush_trace(trainer, is_last || evaluates, problem);
        timer_stop(trainer->timers);
        is_good = !is_last || finish(retrain, problem);
        if (is_good && evaluates)
            evaluate_dev(retrain, result, problem);
        if (is_good && trainer_report_is_due(trainer, is_last || evaluates))
            report(retrain, result, MPI_Wtime() - start, evaluates, problem);
        if (is_last)
            trainer_flush_trace(trainer, true, problem);
        is_good = comm_agree(&trainer->comm, problem) && is_good;
    }
    result->seconds = MPI_Wtime() - start;
    return is_good;
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
        evaluate_texts(texts, &trainer->comm, stage, point, "dev", texts->dev, dev, problem) &&
        evaluate_texts(texts, &trainer->comm, stage, point, "test", texts->test, test, problem);
    timer_stop(trainer->timers);
    return is_good;
}

bool retrain_run(const struct trainer *trainer, const struct retrain_options *options,
                 const struct retrain_extension *extension, const struct stage *stage,
                 float *factors, struct retrain_result *result, struct problem *problem) {
    struct retrain retrain = {
        .trainer = trainer, .options = options, .extension = extension, .stage = stage};
    *result = (struct retrain_result){0};
    retrain_open(&retrain);
    const size_t bytes = stage->factors.size * sizeof *factors;
    memcpy(retrain.state.factors, factors, bytes);
    retrain.used_factors = retrain.state.factors;
    bool is_good = loop(&retrain, result, problem);
    const struct point point = {retrain.used_factors, NULL};
    if (is_good && trainer->other_dev != NULL)
        result->other_dev = evaluate_dataset(trainer, retrain.pipeline, &point, trainer->other_dev);
    if (is_good && trainer->test != NULL)
        result->test = evaluate_dataset(trainer, retrain.pipeline, &point, trainer->test);
    is_good = is_good && evaluate_generated(trainer, retrain.stage, &point, &result->dev,
                                            &result->test, problem);
    result->num_steps = retrain.state.step;
    result->num_tokens = retrain.num_tokens;
    result->loss_train = retrain.loss;
    memcpy(factors, retrain.state.factors, bytes);
    retrain_close(&retrain);
    return is_good;
}
