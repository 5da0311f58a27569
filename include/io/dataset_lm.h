/* Language modelling on pairs of a context and its completion (E2E, WebNLG), and the references
 * that generated completions are scored against.
 *
 * COMPLETION_LINES: `context||completion` a line; white space at both ends of the line is dropped.
 * COMPLETION_WEBNLG: WebNLG 2017's JSON, {"entries": [{"1": {"modifiedtripleset": [...],
 * "lexicalisations": [...]}}, ...]}. A context is the entry's triples as
 * "subject : property : object", joined by " | "; each lexicalisation whose comment is "good" gives
 * a pair (Hu et al. 2021: the preprocessing of microsoft/LoRA).
 *
 * Tokens are context, end token, " " + completion, end token; the end token is the tokenizer's
 * `separate` ("<|endoftext|>"). The label of a token is the next token where that one belongs to
 * the completion or ends it, else LABEL_IGNORED. Longer sequences lose their end. */
#ifndef AUTOLORA_IO_DATASET_LM_H
#define AUTOLORA_IO_DATASET_LM_H

#include "io/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

/* The different contexts of a file in the order of their first pair, each with its completions in
 * the order of the file. Owns its arrays; freed with lm_references_free. */
struct lm_references {
    size_t count;            /* contexts */
    size_t *context_offsets; /* [count + 1] into context_ids */
    int32_t *context_ids;    /* tokens of the contexts, end token included, at their full length */
    size_t *text_offsets;    /* [count + 1] into texts */
    char **texts;            /* completions as they are in the file */
};
void lm_references_free(struct lm_references *references);

/* Cuts a generated text at the first "<|endoftext|>" or blank line ("\n\n"), whichever comes first,
 * and drops white space at both ends. In place. */
void lm_text_cut(char *text);

enum { LM_MAX_END_TOKENS = 2 };
/* The tokens that lm_text_cut would cut at, where a generator may stop: the end token and the blank
 * line if that is one token, as it is in GPT-2. Returns how many. */
size_t lm_end_tokens(const struct tokenizer *tokenizer, int32_t *end_tokens);

#endif
