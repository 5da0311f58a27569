/* Evaluation. The last stage collects predictions and computes the metrics; the others receive
 * them. */
#include "train/evaluate.h"

#include "base/memory.h"
#include "train/metrics.h"

#include <stdio.h>
#include <string.h>

struct collection {
    const struct dataset *dataset;
    size_t num_labels;
    int32_t *predicted; /* [examples] or [tokens] */
};

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
    const struct microbatch *m = &batch->microbatches[microbatch];
    const bool is_token_task = collection->dataset->kind == TASK_TOKEN_CLASSIFICATION;
    const size_t width = collection->num_labels;
    for (size_t s = 0; s < m->num_sequences; ++s) {
        const uint32_t example = batch->examples[microbatch][s];
        if (!is_token_task) {
            collection->predicted[example] = largest_label(logits + s * width, width);
            continue;
        }
        const size_t first = collection->dataset->offsets[example];
        for (size_t i = m->offsets[s]; i < m->offsets[s + 1]; ++i)
            collection->predicted[first + i - m->offsets[s]] =
                largest_label(logits + i * width, width);
    }
}

static void add_metric(struct evaluation *evaluation, const char *name, double value) {
    FAULT_UNLESS(evaluation->num_metrics < EVALUATION_MAX_METRICS, "too many metrics");
    snprintf(evaluation->metrics[evaluation->num_metrics].name, sizeof evaluation->metrics[0].name,
             "%s", name);
    evaluation->metrics[evaluation->num_metrics++].value = value;
}

static void score_sequences(const struct collection *collection, struct evaluation *evaluation) {
    const struct dataset *dataset = collection->dataset;
    add_metric(evaluation, "matthews_correlation",
               metric_matthews(collection->predicted, dataset->labels, dataset->num_examples,
                               collection->num_labels));
    add_metric(evaluation, "accuracy",
               metric_accuracy(collection->predicted, dataset->labels, dataset->num_examples));
}

/* Drops the tokens without label, so that what is left are the words. */
static void score_tokens(const struct collection *collection, const struct label_set *labels,
                         struct evaluation *evaluation) {
    const struct dataset *dataset = collection->dataset;
    const size_t tokens = dataset->offsets[dataset->num_examples];
    int32_t *predicted = memory_allocate(tokens, sizeof *predicted, "predictions");
    int32_t *gold = memory_allocate(tokens, sizeof *gold, "labels");
    size_t *offsets = memory_allocate(dataset->num_examples + 1, sizeof *offsets, "offsets");
    size_t words = 0;
    for (size_t e = 0; e < dataset->num_examples; ++e) {
        for (size_t i = dataset->offsets[e]; i < dataset->offsets[e + 1]; ++i) {
            if (dataset->labels[i] < 0)
                continue;
            predicted[words] = collection->predicted[i];
            gold[words++] = dataset->labels[i];
        }
        offsets[e + 1] = words;
    }
    const struct entity_scores scores =
        metric_entities((const char *const *)labels->names, labels->count, predicted, gold, offsets,
                        dataset->num_examples);
    add_metric(evaluation, "f1", scores.f1);
    add_metric(evaluation, "precision", scores.precision);
    add_metric(evaluation, "recall", scores.recall);
    add_metric(evaluation, "accuracy", metric_accuracy(predicted, gold, words));
    memory_free(predicted);
    memory_free(gold);
    memory_free(offsets);
}

/* Forward passes over the dataset in its order; returns the mean loss. */
static double run_batches(const struct trainer *trainer, struct pipeline *pipeline,
                          const struct point *point, struct collection *collection) {
    const struct dataset *dataset = collection->dataset;
    const size_t size = trainer->optimizer.batch_size;
    struct batch *batch = trainer_batch(trainer);
    uint32_t *examples = memory_allocate(size, sizeof *examples, "a batch's examples");
    double loss = 0;
    size_t labelled = 0;
    for (size_t first = 0; first < dataset->num_examples; first += size) {
        size_t count = 0;
        for (; count < size && first + count < dataset->num_examples; ++count)
            examples[count] = (uint32_t)(first + count);
        batch_fill(batch, dataset, examples, count, 0, false);
        const double mean = pipeline_evaluate(pipeline, point, batch, collect, collection);
        loss += mean * (double)batch->num_labels;
        labelled += batch->num_labels;
    }
    batch_destroy(&batch);
    memory_free(examples);
    return labelled > 0 ? loss / (double)labelled : 0;
}

struct evaluation evaluate_dataset(const struct trainer *trainer, struct pipeline *pipeline,
                                   const struct point *point, const struct dataset *dataset) {
    const bool is_token_task = dataset->kind == TASK_TOKEN_CLASSIFICATION;
    struct collection collection = {
        .dataset = dataset,
        .num_labels = trainer->labels->count,
        .predicted = memory_allocate(is_token_task ? dataset->offsets[dataset->num_examples]
                                                   : dataset->num_examples,
                                     sizeof(int32_t), "predictions"),
    };
    struct evaluation evaluation = {0};
    evaluation.loss = run_batches(trainer, pipeline, point, &collection);
    if (is_token_task)
        score_tokens(&collection, trainer->labels, &evaluation);
    else
        score_sequences(&collection, &evaluation);
    memory_free(collection.predicted);
    const struct comm *comm = pipeline_comm(pipeline);
    comm_broadcast(comm, comm->size - 1, &evaluation, sizeof evaluation);
    return evaluation;
}

double evaluation_score(const struct evaluation *evaluation) {
    return evaluation->metrics[evaluation->score].value;
}

const char *evaluation_score_name(const struct evaluation *evaluation) {
    return evaluation->metrics[evaluation->score].name;
}
