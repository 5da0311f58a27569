/* tokenizer.json with its options, and a text. */
#include "fuzz.h"

void fuzz_prepare(void) {
}

void fuzz_one(const char *bytes, size_t size) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    enum { NUM_FILES = sizeof names / sizeof *names };
    struct part parts[NUM_FILES + 1];
    fuzz_cut(bytes, size, parts, NUM_FILES + 1);
    for (size_t i = 0; i < NUM_FILES; ++i)
        fuzz_put(names[i], parts[i]);
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(fuzz_folder(), &problem);
    fuzz_check(tokenizer != NULL, &problem);
    if (tokenizer != NULL)
        fuzz_use_tokenizer(tokenizer, parts[NUM_FILES]);
    tokenizer_destroy(&tokenizer);
}
