/* A trace that is gone on with: changes to trace.h5, changes to trace.h5.meta. */
#include "patch_harness.h"

#include "io/trace.h"

#include <unistd.h>

enum { MODULES = 2, COMPONENTS = 2, ROWS = 20, TABLE_RETRAIN = 2 };

static struct original trace_file, image_file;

static struct trace_options options_of(const char *path) {
    static const char *const names[MODULES] = {"a", "b"};
    return (struct trace_options){.path = path,
                                  .module_names = names,
                                  .num_modules = MODULES,
                                  .num_components = COMPONENTS,
                                  .input_text = "{}",
                                  .provenance = "{}",
                                  .flush_seconds = 1e9};
}

static void add_row(struct trace *trace, size_t step) {
    struct problem problem = {0};
    const struct trace_retrain_row row = {.step = step};
    FAULT_UNLESS(trace_add_retrain(trace, &row, &problem), "%s", problem.text);
}

void fuzz_prepare(void) {
    struct problem problem = {0};
    const struct trace_options options = options_of(fuzz_path("trace.h5"));
    struct trace *trace = trace_create(&options, &problem);
    for (size_t step = 1; step <= ROWS; ++step)
        add_row(trace, step);
    FAULT_UNLESS(trace_close(&trace, &problem), "%s", problem.text);
    trace_file = read_original(fuzz_path("trace.h5"));
    image_file = read_original(fuzz_path("trace.h5.meta"));
}

void fuzz_one(const char *bytes, size_t size) {
    struct part parts[2];
    fuzz_cut(bytes, size, parts, 2);
    put_changed("trace.h5.meta", &image_file, parts[1]);
    const struct trace_options options = options_of(put_changed("trace.h5", &trace_file, parts[0]));
    const size_t rows[TRACE_NUM_TABLES] = {[TABLE_RETRAIN] = ROWS - 1};
    struct problem problem = {0};
    char *warning = NULL;
    struct trace *trace = trace_continue(&options, rows, &warning, &problem);
    fuzz_check(trace != NULL, &problem);
    for (size_t step = ROWS; step <= ROWS + 2; ++step)
        add_row(trace, step);
    FAULT_UNLESS(trace_close(&trace, &problem), "%s", problem.text);
    memory_free(warning);
    unlink(fuzz_path("trace.h5.damaged-1"));
}
