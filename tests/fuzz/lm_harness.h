/* Files of contexts and completions, in one of their formats: a byte says how the file is read. */
#ifndef AUTOLORA_FUZZ_LM_HARNESS_H
#define AUTOLORA_FUZZ_LM_HARNESS_H

#include "fuzz.h"

#include "io/dataset.h"
#include "io/dataset_lm.h"

static struct tokenizer *tokenizer;

void fuzz_prepare(void) {
    tokenizer = fuzz_bpe_tokenizer();
}

static void cut_texts(const struct lm_references *references) {
    const size_t count =
        references->texts == NULL ? 0 : references->text_offsets[references->count];
    for (size_t i = 0; i < count; ++i)
        lm_text_cut(references->texts[i]);
}

static void read_completions(enum completion_format format, struct part file) {
    const unsigned how = fuzz_take_byte(&file);
    struct lm_references references = {0};
    struct label_set labels = {0};
    const struct dataset_options options = {
        .kind = TASK_LANGUAGE_MODELING,
        .completion_format = format,
        .path = fuzz_put("data", file),
        .max_length = 1 + how % 32,
        .limit = how / 32 % 4,
        .is_unlabelled = (how & 128) != 0,
        .references = &references,
    };
    struct dataset dataset;
    struct problem problem = {0};
    fuzz_check(dataset_read(&dataset, &options, tokenizer, &labels, &problem), &problem);
    dataset_checksum(&dataset);
    cut_texts(&references);
    dataset_free(&dataset);
    lm_references_free(&references);
}

#endif
