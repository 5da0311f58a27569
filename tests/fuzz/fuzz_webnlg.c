/* WebNLG's JSON for a language model. */
#include "lm_harness.h"

void fuzz_one(const char *bytes, size_t size) {
    read_completions(COMPLETION_WEBNLG, (struct part){bytes, size});
}
