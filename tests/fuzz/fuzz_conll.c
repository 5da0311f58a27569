/* CoNLL files: a byte says how the file is read. Of an unlabelled one the predictions are written.
 */
#include "fuzz.h"

#include "io/conll.h"

static struct tokenizer *tokenizers[2];

void fuzz_prepare(void) {
    tokenizers[0] = fuzz_wordpiece_tokenizer();
    tokenizers[1] = fuzz_bpe_tokenizer();
}

static void write_predictions(struct part file, const struct dataset *dataset,
                              const struct label_set *labels) {
    const size_t tokens = dataset->offsets[dataset->num_examples];
    int32_t *predicted = memory_allocate(tokens, sizeof *predicted, "predictions");
    memory_free(conll_predictions_text(file.bytes, file.size, dataset, predicted, labels));
    memory_free(predicted);
}

void fuzz_one(const char *bytes, size_t size) {
    struct part file = {bytes, size};
    const unsigned how = fuzz_take_byte(&file);
    struct label_set labels = {0};
    label_set_add(&labels, "O");
    const struct dataset_options options = {
        .kind = TASK_TOKEN_CLASSIFICATION,
        .path = fuzz_put("data.tsv", file),
        .max_length = 3 + how % 8,
        .limit = how / 8 % 4,
        .defines_labels = (how & 32) != 0,
        .is_unlabelled = (how & 64) != 0,
    };
    struct dataset dataset;
    struct problem problem = {0};
    const bool is_good =
        dataset_read(&dataset, &options, tokenizers[how / 128 % 2], &labels, &problem);
    fuzz_check(is_good, &problem);
    dataset_checksum(&dataset);
    if (is_good && options.is_unlabelled)
        write_predictions(file, &dataset, &labels);
    dataset_free(&dataset);
    label_set_free(&labels);
}
