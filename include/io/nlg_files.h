/* Files of generated texts in the layout of e2e-metrics (measure_scores.py REFERENCES HYPOTHESES):
 * a hypothesis a line; its references a line each, behind them an empty line. Written as UTF-8:
 * what would break a line there (also U+0085, U+2028 and the like) becomes a space, space at both
 * ends is cut, a byte that is not UTF-8 becomes U+FFFD. */
#ifndef AUTOLORA_IO_NLG_FILES_H
#define AUTOLORA_IO_NLG_FILES_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* Examples with the same context are one hypothesis with several references, in the order in which
 * the contexts first occur, also where they are not neighbours. */
struct nlg_groups {
    size_t count;
    size_t *first;           /* [count] the first example of a group: what to generate for */
    size_t *offsets;         /* [count + 1] into references */
    const char **references; /* [examples] in the order of the examples; the caller's strings */
};

struct nlg_groups nlg_groups_create(const char *const *contexts, const char *const *completions,
                                    size_t num_examples);
void nlg_groups_destroy(struct nlg_groups *groups);

bool nlg_write_hypotheses(const char *path, const char *const *hypotheses, size_t count,
                          struct problem *problem);

/* References of hypothesis i: references[offsets[i]] .. references[offsets[i+1]-1]. Empty ones are
 * left out, since an empty line ends a block; a hypothesis without another one is a problem
 * (EXIT_DATA). e2e-metrics takes a file with one block for one reference a hypothesis. */
bool nlg_write_references(const char *path, const char *const *references, const size_t *offsets,
                          size_t count, struct problem *problem);

#endif
