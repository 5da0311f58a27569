/* CoNLL files as lines: what io/dataset.h's reader and the writing of predictions share. */
#ifndef AUTOLORA_IO_CONLL_H
#define AUTOLORA_IO_CONLL_H

#include "io/dataset.h"

/* A blank line, or one starting with -DOCSTART-. */
bool conll_ends_sentence(const char *line);

/* The text of a file with one more column, the predicted label. `dataset` was read from it as
 * unlabelled; predicted [tokens] are ids into labels. Words that the model has not seen (behind the
 * cut at max_length, or without a piece) get "O". Free with memory_free. */
char *conll_predictions_text(const char *text, size_t size, const struct dataset *dataset,
                             const int32_t *predicted, const struct label_set *labels);

#endif
