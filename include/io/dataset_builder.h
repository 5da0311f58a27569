/* What the readers of the file formats share: the lines of a file that lies in memory, and the
 * dataset that grows from them. Internal to src/io/dataset*.c. */
#ifndef AUTOLORA_IO_DATASET_BUILDER_H
#define AUTOLORA_IO_DATASET_BUILDER_H

#include "io/dataset.h"

struct dataset_builder {
    const struct dataset_options *options;
    const struct tokenizer *tokenizer;
    struct label_set *labels;
    struct problem *problem;
    char *next, *end; /* the part of the file not yet read; *end is '\0' */
    size_t line;      /* number of the last line read, from 1 */
    struct dataset dataset;
    size_t num_tokens, num_labels; /* so far in token_ids and labels */
    size_t token_capacity, type_capacity, label_capacity, offset_capacity;
    size_t target_capacity, index_capacity;
};

/* The next line as a string without its line end; NULL after the last. It may be written to. */
char *dataset_builder_next_line(struct dataset_builder *builder);

/* True once `limit` examples were taken. */
bool dataset_builder_is_full(const struct dataset_builder *builder);

/* Tokens of an example of one text without [CLS] and [SEP]. */
size_t dataset_builder_room(const struct dataset_builder *builder);

/* Adds an example as it is; labels [length], in tasks that label tokens, else [1]. */
void dataset_builder_add_tokens(struct dataset_builder *builder, const int32_t *ids,
                                const int32_t *labels, size_t length, bool is_cut);

/* Adds [CLS] pieces [SEP], cut to max_length. labels: one per piece in the token task, else one.
 * Without special tokens where the tokenizer has none ([CLS] is -1). */
void dataset_builder_add(struct dataset_builder *builder, const struct token_list *pieces,
                         const int32_t *labels);

/* Adds [CLS] a [SEP] b [SEP], or with two [SEP] between, cut to max_length; label [1]. */
void dataset_builder_add_pair(struct dataset_builder *builder, const struct token_list *a,
                              const struct token_list *b, const int32_t *label);

/* The target or the index of the example that is added next. */
void dataset_builder_add_target(struct dataset_builder *builder, float target);
void dataset_builder_add_index(struct dataset_builder *builder, uint32_t index);

/* Records that the current line has a label that the set does not have; returns false. */
bool dataset_builder_unknown_label(struct dataset_builder *builder, const char *label);

/* `array` with room for `needed` elements; grows by half or more, the new part is zeroed. */
void *dataset_grow(void *array, size_t *capacity, size_t needed, size_t size, const char *what);

/* The first bytes of a text from a file, safe for a terminal: "\xNN" for what is not printable
 * ASCII. */
struct printable {
    char text[176];
};
struct printable dataset_printable(const char *text);

/* The formats. */
bool dataset_read_glue(struct dataset_builder *builder);
bool dataset_read_conll(struct dataset_builder *builder);
bool dataset_read_lm(struct dataset_builder *builder);

#endif
