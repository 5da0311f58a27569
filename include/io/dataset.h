/* Tasks as token sequences: GLUE's files, two-column CoNLL files, contexts with completions,
 * tokenized. */
#ifndef AUTOLORA_IO_DATASET_H
#define AUTOLORA_IO_DATASET_H

#include "base/report.h"
#include "io/glue.h"
#include "io/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum task_kind { TASK_SEQUENCE_CLASSIFICATION, TASK_TOKEN_CLASSIFICATION, TASK_LANGUAGE_MODELING };

/* Has a token a label, or the example? */
static inline bool task_labels_tokens(enum task_kind kind) {
    return kind == TASK_TOKEN_CLASSIFICATION || kind == TASK_LANGUAGE_MODELING;
}

enum { LABEL_IGNORED = -100 }; /* a token without a label: a later sub-word, [CLS], a context */

/* The labels of a task, in the order of their ids. More than so many are words taken for labels. */
enum { LABEL_SET_MAX = 1024 };
struct label_set {
    size_t count;
    char **names;
};
void label_set_free(struct label_set *labels);
/* Id of a name, or -1. */
int32_t label_set_find(const struct label_set *labels, const char *name);
/* Copies a name that is not yet in the set to its end and returns its id. */
int32_t label_set_add(struct label_set *labels, const char *name);

/* Files of language modelling; the formats are in io/dataset_lm.h. */
enum completion_format { COMPLETION_LINES, COMPLETION_WEBNLG };

struct dataset_options {
    enum task_kind kind;
    const struct glue_task *glue; /* sequence classification: which task */
    enum completion_format completion_format;
    const char *path;    /* the file */
    size_t max_length;   /* tokens with [CLS] and [SEP], 3 or more; longer sequences are cut */
    size_t limit;        /* take the first N examples; 0: all */
    bool defines_labels; /* the training file (token task): adds the labels that the set has not */
    bool is_unlabelled;  /* a file to be predicted (not language modelling) */
    struct lm_references *references; /* language modelling: filled as well unless NULL */
};

/* Examples as one packed list. Owns its arrays; freed by dataset_free. */
struct dataset {
    enum task_kind kind;
    size_t num_examples;
    size_t *offsets;      /* [num_examples + 1] into the arrays over tokens */
    int32_t *token_ids;   /* [tokens] with [CLS] ... [SEP] */
    int32_t *type_ids;    /* [tokens] 0 or 1 (second sentence) */
    int32_t *labels;      /* [num_examples] or, task_labels_tokens, [tokens] with LABEL_IGNORED */
    float *targets;       /* [num_examples] scores of a regression, whose labels are 0; else NULL */
    uint32_t *indices;    /* [num_examples] of an unlabelled file; else NULL */
    size_t longest;       /* tokens of the longest example */
    size_t num_truncated; /* examples that were cut at max_length */
    size_t num_skipped;   /* QQP's rows that lack columns and are left out */
    /* Token task: entities of the examples as the file has them; those of them that the labels
     * here do not hold whole. */
    size_t entities_total, entities_lost;
};

/* Fills a label set with a GLUE task's names; a regression's only one is its column's. */
void label_set_add_glue(struct label_set *labels, const struct glue_task *task);

/* Reads a file. CR LF line ends and a UTF-8 byte-order mark are accepted.
 *
 * Sequence classification reads GLUE's files (io/glue.h): tab-separated without quoting, columns by
 * the names in the header; CoLA's labelled files have none, but four columns, namely source, label,
 * mark (may be empty), sentence. A label is a name of the set, or the number of a regression. Two
 * sentences become [CLS] a [SEP] b [SEP] or what the tokenizer makes of pairs; the longer one is
 * cut first (transformers' longest_first). Unlabelled files have a header with the sentences and
 * `index` or `id`; without that, rows count from 0, also in CoLA's labelled layout; their labels
 * are LABEL_IGNORED.
 *
 * Token classification is a word and its label a line: the first column is the word, the last the
 * label. A line with a TAB is split at TABs (a word may then hold spaces), any other at spaces. A
 * blank line ends the sentence, so does a line starting with -DOCSTART-, which is skipped. The
 * first sub-word of a word carries its label, the others LABEL_IGNORED; a word without any (control
 * characters) is dropped with its label, so an example may be without labels. In an unlabelled file
 * the other columns may be missing, and a word's label is its number in the sentence, from 0.
 *
 * Labels of tokens are chunk tags (io/tags.h). New ones follow those that the set had, sorted: "O"
 * first, then by type, within a type B- I- E- S-. A file that defines labels does so as a whole,
 * whatever `limit`: the task is the same for a short trial.
 *
 * Language modelling has no label set: a label is the next token's id (io/dataset_lm.h).
 *
 * Errors (EXIT_DATA) name file and line: missing columns (QQP: such rows are left out and
 * counted), a score that is no number, a word without label, a label that the
 * set does not have (lists what it has) or that is no chunk tag, no example, embedded NUL.
 * max_length below 3 is EXIT_USAGE. After an error the dataset is empty and the label set as it
 * was. Not collective. */
bool dataset_read(struct dataset *dataset, const struct dataset_options *options,
                  const struct tokenizer *tokenizer, struct label_set *labels,
                  struct problem *problem);
void dataset_free(struct dataset *dataset);
/* CRC-32 of its examples: to see that data have changed. */
uint32_t dataset_checksum(const struct dataset *dataset);

#endif
