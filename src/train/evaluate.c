/* Evaluation. The last stages collect predictions, each those of its replica's microbatches; all
 * ranks receive them and compute the metrics. */
#include "train/evaluate.h"

#include "base/memory.h"
#include "train/checkpoints.h"
#include "train/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct collection {
    const struct dataset *dataset;
    size_t num_labels;
    struct predictions predictions;
};

static size_t num_predictions(const struct dataset *dataset) {
    return task_labels_tokens(dataset->kind) ? dataset->offsets[dataset->num_examples]
                                             : dataset->num_examples;
}

static struct predictions predictions_create(const struct dataset *dataset, bool is_regression) {
    const size_t count = num_predictions(dataset);
    return (struct predictions){
        .labels = memory_allocate(count, sizeof(int32_t), "predictions"),
        .scores = is_regression ? memory_allocate(count, sizeof(float), "predictions") : NULL,
    };
}

void predictions_free(struct predictions *predictions) {
    memory_free(predictions->labels);
    memory_free(predictions->scores);
    *predictions = (struct predictions){0};
}

static int32_t largest_label(const float *logits, size_t num_labels) {
    size_t best = 0;
    for (size_t j = 1; j < num_labels; ++j)
        if (logits[j] > logits[best])
            best = j;
    return (int32_t)best;
}

static void collect(void *context, const struct batch *batch, size_t microbatch,
                    const float *logits) {
    const struct collection *collection = context;
    const struct predictions *predictions = &collection->predictions;
    const struct microbatch *m = &batch->microbatches[microbatch];
    const bool is_token_task = collection->dataset->kind == TASK_TOKEN_CLASSIFICATION;
    const size_t width = collection->num_labels;
    for (size_t s = 0; s < m->num_sequences; ++s) {
        const uint32_t example = batch->examples[microbatch][s];
        if (!is_token_task) {
            predictions->labels[example] = largest_label(logits + s * width, width);
            if (predictions->scores != NULL)
                predictions->scores[example] = logits[s * width];
            continue;
        }
        const size_t first = collection->dataset->offsets[example];
        for (size_t i = m->offsets[s]; i < m->offsets[s + 1]; ++i)
            predictions->labels[first + i - m->offsets[s]] =
                largest_label(logits + i * width, width);
    }
}

void evaluation_add(struct evaluation *evaluation, const char *name, double value) {
    FAULT_UNLESS(evaluation->num_metrics < EVALUATION_MAX_METRICS, "too many metrics");
    snprintf(evaluation->metrics[evaluation->num_metrics].name, sizeof evaluation->metrics[0].name,
             "%s", name);
    evaluation->metrics[evaluation->num_metrics++].value = value;
}

static double glue_metric_value(enum glue_metric metric, const struct dataset *dataset,
                                const struct predictions *predictions, size_t num_labels) {
    const size_t count = dataset->num_examples;
    switch (metric) {
    case GLUE_ACCURACY:
        return metric_accuracy(predictions->labels, dataset->labels, count);
    case GLUE_F1:
        return metric_f1(predictions->labels, dataset->labels, count, 1);
    case GLUE_MATTHEWS:
        return metric_matthews(predictions->labels, dataset->labels, count, num_labels);
    case GLUE_PEARSON:
        return metric_pearson(predictions->scores, dataset->targets, count);
    case GLUE_SPEARMAN:
        return metric_spearman(predictions->scores, dataset->targets, count);
    }
    FAULT("metric %d", (int)metric);
}

static void score_sequences(const struct glue_task *glue, const struct dataset *dataset,
                            const struct predictions *predictions, size_t num_labels,
                            struct evaluation *evaluation) {
    double sum = 0;
    for (size_t i = 0; i < glue->num_metrics; ++i) {
        const double value = glue_metric_value(glue->metrics[i], dataset, predictions, num_labels);
        evaluation_add(evaluation, glue_metric_name(glue->metrics[i]), value);
        sum += value;
    }
    if (glue->score == NULL)
        return;
    evaluation->score = evaluation->num_metrics;
    evaluation_add(evaluation, glue->score, sum / (double)glue->num_metrics);
}

/* Drops the tokens without label, so that what is left are the words. */
static void score_tokens(const struct dataset *dataset, const int32_t *predictions,
                         const struct label_set *labels, struct evaluation *evaluation) {
    const size_t tokens = dataset->offsets[dataset->num_examples];
    int32_t *predicted = memory_allocate(tokens, sizeof *predicted, "predictions");
    int32_t *gold = memory_allocate(tokens, sizeof *gold, "labels");
    size_t *offsets = memory_allocate(dataset->num_examples + 1, sizeof *offsets, "offsets");
    size_t words = 0;
    for (size_t e = 0; e < dataset->num_examples; ++e) {
        for (size_t i = dataset->offsets[e]; i < dataset->offsets[e + 1]; ++i) {
            if (dataset->labels[i] < 0)
                continue;
            predicted[words] = predictions[i];
            gold[words++] = dataset->labels[i];
        }
        offsets[e + 1] = words;
    }
    const struct entity_scores scores =
        metric_entities((const char *const *)labels->names, labels->count, predicted, gold, offsets,
                        dataset->num_examples);
    evaluation_add(evaluation, "f1", scores.f1);
    evaluation_add(evaluation, "precision", scores.precision);
    evaluation_add(evaluation, "recall", scores.recall);
    evaluation_add(evaluation, "accuracy", metric_accuracy(predicted, gold, words));
    memory_free(predicted);
    memory_free(gold);
    memory_free(offsets);
}

static void score_language(struct evaluation *evaluation) {
    evaluation_add(evaluation, "negative_loss", -evaluation->loss);
    evaluation_add(evaluation, "perplexity", exp(evaluation->loss));
}

/* Forward passes over the dataset in its order; returns the mean loss. */
static double run_batches(const struct trainer *trainer, struct pipeline *pipeline,
                          const struct point *point, pipeline_consumer consume,
                          struct collection *collection) {
    const struct dataset *dataset = collection->dataset;
    const size_t size = trainer->optimizer.batch_size;
    struct batch *batch = trainer_batch(trainer);
    uint32_t *examples = memory_allocate(size, sizeof *examples, "a batch's examples");
    double loss = 0;
    size_t labelled = 0;
    for (size_t first = 0; first < dataset->num_examples; first += size) {
        if (checkpoints_interrupt(trainer))
            break;
        size_t count = 0;
        for (; count < size && first + count < dataset->num_examples; ++count)
            examples[count] = (uint32_t)(first + count);
        batch_fill(batch, dataset, examples, count, 0, false);
        const double mean = pipeline_evaluate(pipeline, point, batch, consume, collection);
        loss += mean * (double)batch->num_labels;
        labelled += batch->num_labels;
    }
    batch_destroy(&batch);
    memory_free(examples);
    return labelled > 0 ? loss / (double)labelled : 0;
}

static void score(const struct glue_task *glue, const struct label_set *labels,
                  const struct dataset *dataset, const struct predictions *predictions,
                  struct evaluation *evaluation) {
    if (dataset->kind == TASK_LANGUAGE_MODELING)
        score_language(evaluation);
    else if (dataset->kind == TASK_TOKEN_CLASSIFICATION)
        score_tokens(dataset, predictions->labels, labels, evaluation);
    else
        score_sequences(glue, dataset, predictions, labels->count, evaluation);
}

/* Words of 32 bits, of which each last stage has its own, and zeros elsewhere. */
static void share_predictions(const struct comms *comms, void *words, size_t count) {
    const struct comm *stages = &comms->stages;
    const size_t bytes = count * sizeof(uint32_t);
    if (stages->mpi_rank == stages->size - 1 && comms->replicas.size > 1) {
        uint32_t *own = memory_allocate(count, sizeof *own, "predictions");
        memcpy(own, words, bytes);
        comm_reduce(&comms->replicas, own, words, count, MPI_UINT32_T, MPI_BOR);
        memory_free(own);
    }
    comm_broadcast(stages, stages->size - 1, words, bytes);
}

double evaluate_predict(const struct trainer *trainer, struct pipeline *pipeline,
                        const struct point *point, const struct dataset *dataset,
                        struct predictions *predictions) {
    struct collection collection = {
        .dataset = dataset,
        .num_labels = trainer->labels->count,
        .predictions =
            predictions_create(dataset, trainer->glue != NULL && glue_is_regression(trainer->glue)),
    };
    const pipeline_consumer consume = dataset->kind == TASK_LANGUAGE_MODELING ? NULL : collect;
    const double loss = run_batches(trainer, pipeline, point, consume, &collection);
    *predictions = collection.predictions;
    const struct grid *grid = pipeline_stage(pipeline)->options.grid;
    const size_t count = num_predictions(dataset);
    comm_start_waiting(&trainer->comms.grid, PEER_ALL);
    grid_merge_integers(grid, predictions->labels, count);
    if (predictions->scores != NULL)
        grid_merge_floats(grid, predictions->scores, count);
    comm_stop_waiting(&trainer->comms.grid);
    share_predictions(pipeline_comms(pipeline), predictions->labels, count);
    if (predictions->scores != NULL)
        share_predictions(pipeline_comms(pipeline), predictions->scores, count);
    return loss;
}

struct evaluation evaluate_dataset(const struct trainer *trainer, struct pipeline *pipeline,
                                   const struct point *point, const struct dataset *dataset) {
    struct predictions predictions;
    struct evaluation evaluation = {0};
    timer_start(trainer->timers, "evaluate");
    evaluation.loss = evaluate_predict(trainer, pipeline, point, dataset, &predictions);
    timer_stop(trainer->timers);
    if (!checkpoints_is_stopping(trainer))
        score(trainer->glue, trainer->labels, dataset, &predictions, &evaluation);
    predictions_free(&predictions);
    return evaluation;
}

struct constant_answer evaluate_constant_answer(const struct dataset *train,
                                                const struct label_set *labels) {
    const size_t count = num_predictions(train);
    size_t *counts = memory_allocate(labels->count, sizeof *counts, "label counts");
    struct constant_answer answer = {0};
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
        if (train->labels[i] >= 0)
            ++counts[train->labels[i]];
        if (train->targets != NULL)
            sum += train->targets[i];
    }
    for (size_t l = 1; l < labels->count; ++l)
        if (counts[l] > counts[answer.label])
            answer.label = (int32_t)l;
    answer.score = count > 0 ? (float)(sum / (double)count) : 0;
    memory_free(counts);
    return answer;
}

struct evaluation evaluate_constant(const struct glue_task *glue, const struct label_set *labels,
                                    const struct dataset *dataset, struct constant_answer answer) {
    const size_t count = num_predictions(dataset);
    struct predictions predictions = predictions_create(dataset, dataset->targets != NULL);
    struct evaluation evaluation = {0};
    for (size_t i = 0; i < count; ++i) {
        predictions.labels[i] = answer.label;
        if (dataset->targets == NULL)
            continue;
        const double residual = (double)answer.score - (double)dataset->targets[i];
        predictions.scores[i] = answer.score;
        evaluation.loss += residual * residual / (double)count;
    }
    score(glue, labels, dataset, &predictions, &evaluation);
    predictions_free(&predictions);
    return evaluation;
}

double evaluation_score(const struct evaluation *evaluation) {
    return evaluation->metrics[evaluation->score].value;
}

const char *evaluation_score_name(const struct evaluation *evaluation) {
    return evaluation->metrics[evaluation->score].name;
}
