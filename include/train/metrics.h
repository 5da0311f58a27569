/* Scores of predictions. Pure functions of label ids or of numbers. */
#ifndef AUTOLORA_TRAIN_METRICS_H
#define AUTOLORA_TRAIN_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* Share of equal labels; 0 for count 0. */
double metric_accuracy(const int32_t *predicted, const int32_t *gold, size_t count);

/* Matthews correlation for any number of classes (Gorodkin 2004), as scikit-learn defines it: 0
 * where its denominator is 0. Labels in [0, num_classes). */
double metric_matthews(const int32_t *predicted, const int32_t *gold, size_t count,
                       size_t num_classes);

/* F1 of the class `positive` against all others; 0 where it is neither predicted nor true. */
double metric_f1(const int32_t *predicted, const int32_t *gold, size_t count, int32_t positive);

/* Pearson's correlation, and Spearman's: Pearson's of the ranks, equal values having their mean
 * rank. 0 where all values of one side are equal. In double precision. */
double metric_pearson(const float *predicted, const float *gold, size_t count);
double metric_spearman(const float *predicted, const float *gold, size_t count);

struct entity_scores {
    size_t num_gold, num_predicted, num_correct;
    double precision, recall, f1; /* micro averages; 0 where a denominator is 0 */
};

/* Entity-level scores with seqeval's default (lenient, micro-averaged) rules: tags may be "O",
 * "B-x", "I-x" or any tag seqeval's default mode accepts (prefixes B I O E S, also plain "B" /
 * "I"); an I- without a B- before it starts an entity. Sequence i holds the tags offsets[i] ..
 * offsets[i+1]-1; predicted and gold are ids into names [num_labels]. */
struct entity_scores metric_entities(const char *const *names, size_t num_labels,
                                     const int32_t *predicted, const int32_t *gold,
                                     const size_t *offsets, size_t num_sequences);

#endif
