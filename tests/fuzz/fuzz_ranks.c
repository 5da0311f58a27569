/* ranks.json, and the part of a checkpoint that tells the chosen ranks. */
#include "fuzz.h"

#include "results.h"

enum { NUM_MODULES = 3 };
static char *names[NUM_MODULES] = {"a.0.query", "a.0.value", "a.1.query"};

void fuzz_prepare(void) {
}

static void read_output(struct part part) {
    size_t ranks[NUM_MODULES];
    struct method_output output = {.ranks = ranks};
    struct problem problem = {0};
    char *text = fuzz_text(part);
    const bool is_good = method_output_read(&output, NUM_MODULES, text, &problem);
    fuzz_check(is_good, &problem);
    if (is_good)
        memory_free(method_output_text(&output, NUM_MODULES));
    method_output_free(&output);
    memory_free(text);
}

void fuzz_one(const char *bytes, size_t size) {
    struct part parts[2];
    fuzz_cut(bytes, size, parts, 2);
    const struct job job = {.num_modules = NUM_MODULES, .module_names = names};
    size_t ranks[NUM_MODULES];
    struct problem problem = {0};
    const char *path = fuzz_put("ranks.json", parts[0]);
    fuzz_check(results_read_ranks(&job, path, ranks, &problem), &problem);
    read_output(parts[1]);
}
