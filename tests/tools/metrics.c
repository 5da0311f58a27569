/* Prints the program's scores of pairs of numbers, for tests/peers/compare_metrics.py:
 *
 *   metrics classes|scores < PAIRS
 *
 * A line of PAIRS is a prediction and the truth. Classes (labels below 100): accuracy, F1 of class
 * 1, Matthews correlation; scores: Pearson's and Spearman's correlation. */
#include "train/metrics.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PAIRS = 1 << 20, NUM_CLASSES = 100 };

int main(int argc, char **argv) {
    float *predicted = memory_allocate(MAX_PAIRS, sizeof *predicted, "predictions");
    float *gold = memory_allocate(MAX_PAIRS, sizeof *gold, "truth");
    int32_t *labels = memory_allocate(MAX_PAIRS, sizeof *labels, "predictions");
    int32_t *gold_labels = memory_allocate(MAX_PAIRS, sizeof *gold_labels, "truth");
    size_t count = 0;
    while (count < MAX_PAIRS && scanf("%f %f", &predicted[count], &gold[count]) == 2) {
        labels[count] = (int32_t)predicted[count];
        gold_labels[count] = (int32_t)gold[count];
        ++count;
    }
    if (argc == 2 && strcmp(argv[1], "classes") == 0)
        printf("%.17g %.17g %.17g\n", metric_accuracy(labels, gold_labels, count),
               metric_f1(labels, gold_labels, count, 1),
               metric_matthews(labels, gold_labels, count, NUM_CLASSES));
    else
        printf("%.17g %.17g\n", metric_pearson(predicted, gold, count),
               metric_spearman(predicted, gold, count));
    memory_free(predicted);
    memory_free(gold);
    memory_free(labels);
    memory_free(gold_labels);
    return 0;
}
