/* config.json of a model. The sizes that were read make modules. */
#include "fuzz.h"

#include "job_parts.h"

void fuzz_prepare(void) {
}

static void name_modules(const struct architecture *architecture) {
    struct job job = {.architecture = *architecture};
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        job.config.adapter.is_target[p] = true;
    job_name_modules(&job);
    job_close(&job);
}

void fuzz_one(const char *bytes, size_t size) {
    fuzz_put("config.json", (struct part){bytes, size});
    struct architecture architecture;
    struct problem problem = {0};
    const bool is_good = config_read_architecture(fuzz_folder(), &architecture, &problem);
    fuzz_check(is_good, &problem);
    if (!is_good)
        return;
    FAULT_UNLESS(architecture_longest(&architecture) > 0, "no positions");
    name_modules(&architecture);
}
