/* Scores of predictions. Counts are exact integers; the scores are formed from them at the end. */
#include "train/metrics.h"

#include "base/memory.h"
#include "base/report.h"
#include "io/tags.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

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

double metric_f1(const int32_t *predicted, const int32_t *gold, size_t count, int32_t positive) {
    size_t correct = 0, marked = 0;
    for (size_t i = 0; i < count; ++i) {
        correct += predicted[i] == positive && gold[i] == positive;
        marked += (size_t)(predicted[i] == positive) + (size_t)(gold[i] == positive);
    }
    return ratio(2 * correct, marked);
}

/* ---- correlations ---- */

static double mean_of(const double *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += values[i];
    return count > 0 ? sum / (double)count : 0;
}

static bool is_constant(const double *values, size_t count) {
    for (size_t i = 1; i < count; ++i)
        if (values[i] != values[0])
            return false;
    return true;
}

static double correlation(const double *x, const double *y, size_t count) {
    if (is_constant(x, count) || is_constant(y, count))
        return 0;
    const double mean_x = mean_of(x, count), mean_y = mean_of(y, count);
    double xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < count; ++i) {
        const double dx = x[i] - mean_x, dy = y[i] - mean_y;
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    const double result = xy / (sqrt(xx) * sqrt(yy));
    return isnan(result) ? result : fmax(-1, fmin(1, result));
}

struct ranked {
    float value;
    size_t place;
};

static int by_value(const void *left_pointer, const void *right_pointer) {
    const struct ranked *left = left_pointer, *right = right_pointer;
    return (left->value > right->value) - (left->value < right->value);
}

/* Ranks from 1 [count]; free with memory_free. */
static double *ranks_of(const float *values, size_t count) {
    struct ranked *sorted = memory_allocate(count, sizeof *sorted, "ranks");
    double *ranks = memory_allocate(count, sizeof *ranks, "ranks");
    for (size_t i = 0; i < count; ++i)
        sorted[i] = (struct ranked){values[i], i};
    qsort(sorted, count, sizeof *sorted, by_value);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && sorted[end].value == sorted[first].value; ++end)
            continue;
        for (size_t i = first; i < end; ++i)
            ranks[sorted[i].place] = (double)(first + 1 + end) / 2;
    }
    memory_free(sorted);
    return ranks;
}

static double *doubles_of(const float *values, size_t count) {
    double *doubles = memory_allocate(count, sizeof *doubles, "scores");
    for (size_t i = 0; i < count; ++i)
        doubles[i] = values[i];
    return doubles;
}

static double correlate(double *(*convert)(const float *, size_t), const float *predicted,
                        const float *gold, size_t count) {
    double *x = convert(predicted, count), *y = convert(gold, count);
    const double result = correlation(x, y, count);
    memory_free(x);
    memory_free(y);
    return result;
}

double metric_pearson(const float *predicted, const float *gold, size_t count) {
    return correlate(doubles_of, predicted, gold, count);
}

double metric_spearman(const float *predicted, const float *gold, size_t count) {
    return correlate(ranks_of, predicted, gold, count);
}

/* ---- entities ---- */

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
