/* Scores of predictions. Counts are exact integers; the scores are formed from them at the end. */
#include "train/metrics.h"

#include "base/memory.h"
#include "base/report.h"
#include "io/tags.h"

#include <math.h>

static void check_label(int32_t label, size_t num_classes) {
    FAULT_UNLESS(label >= 0 && (size_t)label < num_classes, "label %d of %zu classes", (int)label,
                 num_classes);
}

static double ratio(size_t part, size_t whole) {
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

static size_t count_equal(const int32_t *left, const int32_t *right, size_t count) {
    size_t equal = 0;
    for (size_t i = 0; i < count; ++i)
        equal += left[i] == right[i];
    return equal;
}

double metric_accuracy(const int32_t *predicted, const int32_t *gold, size_t count) {
    return ratio(count_equal(predicted, gold, count), count);
}

/* R = (c s - p.g) / sqrt((s^2 - p.p) (s^2 - g.g)): s examples, c of them correct, p and g the
 * numbers of times that each class was predicted and is true. The products of whole numbers are
 * exact in a double up to 9e7 examples, hence so is the test for 0. */
double metric_matthews(const int32_t *predicted, const int32_t *gold, size_t count,
                       size_t num_classes) {
    double *times_predicted = memory_allocate(num_classes, sizeof(double), "class counts");
    double *times_gold = memory_allocate(num_classes, sizeof(double), "class counts");
    for (size_t i = 0; i < count; ++i) {
        check_label(predicted[i], num_classes);
        check_label(gold[i], num_classes);
        times_predicted[predicted[i]] += 1.0;
        times_gold[gold[i]] += 1.0;
    }
    double cross = 0.0, predicted_square = 0.0, gold_square = 0.0;
    for (size_t k = 0; k < num_classes; ++k) {
        cross += times_predicted[k] * times_gold[k];
        predicted_square += times_predicted[k] * times_predicted[k];
        gold_square += times_gold[k] * times_gold[k];
    }
    memory_free(times_predicted);
    memory_free(times_gold);
    const double size = (double)count;
    const double correct = (double)count_equal(predicted, gold, count);
    const double spread = (size * size - predicted_square) * (size * size - gold_square);
    return spread == 0.0 ? 0.0 : (correct * size - cross) / sqrt(spread);
}

static size_t longest_sequence(const size_t *offsets, size_t num_sequences) {
    size_t longest = 0;
    for (size_t i = 0; i < num_sequences; ++i)
        if (offsets[i + 1] - offsets[i] > longest)
            longest = offsets[i + 1] - offsets[i];
    return longest;
}

struct entity_scores metric_entities(const char *const *names, size_t num_labels,
                                     const int32_t *predicted, const int32_t *gold,
                                     const size_t *offsets, size_t num_sequences) {
    const size_t longest = longest_sequence(offsets, num_sequences);
    struct entity *predicted_entities = memory_allocate(longest, sizeof(struct entity), "entities");
    struct entity *gold_entities = memory_allocate(longest, sizeof(struct entity), "entities");
    struct entity_scores scores = {0};
    for (size_t i = 0; i < num_sequences; ++i) {
        const size_t begin = offsets[i], length = offsets[i + 1] - begin;
        for (size_t k = begin; k < begin + length; ++k) {
            check_label(predicted[k], num_labels);
            check_label(gold[k], num_labels);
        }
        const size_t num_predicted =
            tags_find_entities(names, predicted + begin, length, predicted_entities);
        const size_t num_gold = tags_find_entities(names, gold + begin, length, gold_entities);
        scores.num_predicted += num_predicted;
        scores.num_gold += num_gold;
        scores.num_correct +=
            tags_count_common(predicted_entities, num_predicted, gold_entities, num_gold);
    }
    memory_free(predicted_entities);
    memory_free(gold_entities);
    scores.precision = ratio(scores.num_correct, scores.num_predicted);
    scores.recall = ratio(scores.num_correct, scores.num_gold);
    const double sum = scores.precision + scores.recall;
    scores.f1 = sum == 0.0 ? 0.0 : 2.0 * scores.precision * scores.recall / sum;
    return scores;
}
