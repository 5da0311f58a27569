/* The examples of the two levels. */
#include "train/search_data.h"

#include "base/memory.h"
#include "base/random.h"
#include "train/search.h"

#include <math.h>

static void split(const struct trainer *trainer, const struct search_options *options,
                  struct search_data *data) {
    const size_t count = trainer->train->num_examples, own = trainer->num_own_validation;
    data->subset = memory_allocate(count, sizeof *data->subset, "the split");
    if (own > 0) {
        for (size_t i = 0; i < count; ++i)
            data->subset[i] = (uint32_t)((count - own + i) % count);
    } else {
        const struct random_stream stream =
            random_stream_make(trainer->seed, RANDOM_SPLIT, 0, 0, 0);
        random_permutation(&stream, count, data->subset);
    }
    if (options->is_meta)
        data->num_validation =
            own > 0 ? own : (size_t)lround(options->validation_fraction * (double)count);
    data->num_train = count - data->num_validation;
}

bool search_data_open(const struct trainer *trainer, const struct search_options *options,
                      struct search_data *data, struct problem *problem) {
    *data = (struct search_data){0};
    split(trainer, options, data);
    if (data->num_train == 0 || (options->is_meta && data->num_validation == 0)) {
        problem_set(problem, EXIT_DATA,
                    "the training set of %zu examples is too small to be split: %zu for "
                    "training and %zu for validation (search.validation_fraction)",
                    trainer->train->num_examples, data->num_train, data->num_validation);
        search_data_free(data);
        return false;
    }
    const size_t size = trainer->optimizer.batch_size;
    data->train = sampler_create(trainer->seed, 1, data->subset + data->num_validation,
                                 data->num_train, size);
    if (options->is_meta)
        data->validation =
            sampler_create(trainer->seed, 2, data->subset, data->num_validation, size);
    return true;
}

void search_data_free(struct search_data *data) {
    sampler_free(&data->train);
    sampler_free(&data->validation);
    memory_free(data->subset);
    *data = (struct search_data){0};
}
