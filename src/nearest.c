/* Edit distance, one row of the table at a time. */
#include "nearest.h"

#include "base/memory.h"

#include <string.h>

static size_t smaller(size_t left, size_t right) {
    return left < right ? left : right;
}

size_t edit_distance(const char *left, const char *right) {
    const size_t columns = strlen(right);
    size_t *row = memory_allocate(columns + 1, sizeof *row, "edit distance");
    for (size_t j = 0; j <= columns; ++j)
        row[j] = j;
    for (size_t i = 1; left[i - 1] != '\0'; ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; ++j) {
            const size_t replaced = diagonal + (left[i - 1] != right[j - 1]);
            diagonal = row[j];
            row[j] = smaller(replaced, smaller(row[j], row[j - 1]) + 1);
        }
    }
    const size_t distance = row[columns];
    memory_free(row);
    return distance;
}

size_t edit_distance_limit(const char *name) {
    const size_t third = strlen(name) / 3;
    return third < 2 ? 2 : smaller(third, 4);
}
