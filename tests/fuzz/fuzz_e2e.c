/* context||completion for a language model. */
#include "lm_harness.h"

void fuzz_one(const char *bytes, size_t size) {
    read_completions(COMPLETION_LINES, (struct part){bytes, size});
}
