/* Fixtures of tests/oracle, read with the program's own reader. */
#ifndef AUTOLORA_TESTS_FIXTURE_H
#define AUTOLORA_TESTS_FIXTURE_H

#include "base/memory.h"
#include "config.h"
#include "io/file.h"
#include "io/json.h"
#include "io/weights.h"
#include "model/architecture.h"
#include "model/microbatch.h"
#include "model/stage.h"
#include "parallel/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A case folder: the checkpoint and the reference tensors. */
struct fixture {
    struct weights *checkpoint, *reference;
    struct json *description;
    struct architecture architecture;
    size_t k, num_labels;
    double lora_alpha, eta;
    enum head_kind head_kind;
    bool is_regression;
};

/* One pipeline over all ranks of `world`. */
static inline struct comms fixture_comms(MPI_Comm world) {
    struct comms comms = comms_of(world);
    const struct layout layout = {1, (size_t)comms.world.size, 1, 1};
    comms_split(&comms, &layout);
    return comms;
}

static inline char *fixture_path(const char *folder, const char *name) {
    const char *root = getenv("AUTOLORA_FIXTURES");
    return memory_format("%s/%s/%s", root != NULL ? root : "tests/fixtures", folder, name);
}

static inline struct json *fixture_json(const char *folder, const char *name) {
    struct problem problem = {0};
    char *path = fixture_path(folder, name);
    size_t size = 0;
    char *text = file_read(path, &size, &problem);
    struct json *root = text == NULL ? NULL : json_parse(text, size, path, EXIT_DATA, &problem);
    if (root == NULL)
        fail_msg("%s", problem.text);
    memory_free(text);
    memory_free(path);
    return root;
}

static inline struct weights *fixture_weights(const char *folder, const char *name) {
    struct problem problem = {0};
    char *path = fixture_path(folder, name);
    struct weights *weights = weights_open(path, &problem);
    if (weights == NULL)
        fail_msg("%s", problem.text);
    memory_free(path);
    return weights;
}

static inline size_t fixture_size(const struct json *object, const char *name) {
    size_t value = 0;
    if (!json_size(json_get(object, name), &value))
        fail_msg("fixture has no size %s", name);
    return value;
}

static inline void fixture_set_dropout(struct architecture *architecture, float hidden,
                                       float attention) {
    architecture->hidden_dropout = architecture->embedding_dropout =
        architecture->classifier_dropout = hidden;
    architecture->attention_dropout = attention;
}

static inline struct fixture fixture_open(const char *folder) {
    struct fixture fixture = {
        .checkpoint = fixture_weights(folder, "model.safetensors"),
        .reference = fixture_weights(folder, "reference.safetensors"),
        .description = fixture_json(folder, "reference.json"),
    };
    struct problem problem = {0};
    char *directory = fixture_path(folder, "");
    if (!config_read_architecture(directory, &fixture.architecture, &problem))
        fail_msg("%s", problem.text);
    memory_free(directory);
    fixture_set_dropout(&fixture.architecture, 0, 0);
    fixture.k = fixture_size(fixture.description, "k");
    fixture.num_labels = fixture_size(fixture.description, "number_of_labels");
    fixture.lora_alpha = json_number(json_get(fixture.description, "lora_alpha"));
    fixture.eta = json_number(json_get(fixture.description, "eta"));
    const char *task = json_string(json_get(fixture.description, "task"));
    fixture.head_kind = strcmp(task, "token_classification") == 0 ? HEAD_TOKEN_CLASSIFICATION
                        : strcmp(task, "language_modeling") == 0  ? HEAD_LANGUAGE_MODELING
                                                                  : HEAD_SEQUENCE_CLASSIFICATION;
    fixture.is_regression = strcmp(task, "regression") == 0;
    return fixture;
}

static inline void fixture_close(struct fixture *fixture) {
    weights_close(&fixture->checkpoint);
    weights_close(&fixture->reference);
    json_destroy(&fixture->description);
}

/* A reference tensor by name; fails the test if it is missing. */
static inline const float *fixture_tensor(const struct fixture *fixture, size_t *count,
                                          const char *format, ...) {
    char name[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    const struct tensor *tensor = weights_find(fixture->reference, name);
    if (tensor == NULL)
        fail_msg("fixture has no tensor %s", name);
    if (count != NULL)
        *count = tensor->count;
    struct problem problem = {0};
    const float *values = weights_floats(fixture->reference, tensor, &problem);
    if (values == NULL)
        fail_msg("%s", problem.text);
    return values;
}

static inline const int64_t *fixture_integers(const struct fixture *fixture, size_t *count,
                                              const char *batch, const char *what) {
    char name[256];
    snprintf(name, sizeof name, "%s.%s", batch, what);
    const struct tensor *tensor = weights_find(fixture->reference, name);
    if (tensor == NULL || tensor->type != TENSOR_I64)
        fail_msg("fixture has no integers %s", name);
    if (count != NULL)
        *count = tensor->count;
    return (const int64_t *)(const void *)tensor->data;
}

/* Loads the checkpoint's frozen tensors into a stage. */
static inline void fixture_load_stage(const struct fixture *fixture, struct stage *stage) {
    size_t count;
    struct stage_weight *weights = stage_weights(stage, &count);
    for (size_t i = 0; i < count; ++i) {
        struct problem problem = {0};
        const float *values = weights_pretrained(fixture->checkpoint, weights[i].name,
                                                 weights[i].rows, weights[i].columns, &problem);
        if (values == NULL)
            fail_msg("%s", problem.text);
        stage_weight_set(&weights[i], values);
    }
    stage_weights_free(weights, count);
}

/* Copies a factor between PyTorch's layout and the stage's (B transposed). */
static inline void fixture_factor(const struct fixture *fixture, const struct parameter *entry,
                                  const char *prefix, float *values) {
    const size_t length = strlen(entry->name);
    size_t count;
    float *place = values + entry->offset;
    if (length > 7 && strcmp(entry->name + length - 7, ".lora_A") == 0) {
        const float *a =
            fixture_tensor(fixture, &count, "%slora_A.%.*s", prefix, (int)length - 7, entry->name);
        memcpy(place, a, count * sizeof *a);
    } else if (length > 7 && strcmp(entry->name + length - 7, ".lora_B") == 0) {
        const float *b =
            fixture_tensor(fixture, &count, "%slora_B.%.*s", prefix, (int)length - 7, entry->name);
        for (size_t i = 0; i < entry->rows; ++i)
            for (size_t j = 0; j < entry->columns; ++j)
                place[i * entry->columns + j] = b[j * entry->rows + i];
    } else if (length > 7 && strcmp(entry->name + length - 7, ".lora_E") == 0) {
        const float *e =
            fixture_tensor(fixture, &count, "%slora_E.%.*s", prefix, (int)length - 7, entry->name);
        memcpy(place, e, count * sizeof *e);
    } else {
        const float *values_of = fixture_tensor(fixture, &count, "%s%s", prefix, entry->name);
        memcpy(place, values_of, count * sizeof *values_of);
    }
    assert_true(entry->rows * entry->columns > 0);
}

static inline float *fixture_factors(const struct fixture *fixture,
                                     const struct parameter_table *table, const char *prefix) {
    float *values = memory_allocate(table->size, sizeof *values, "factors");
    for (size_t i = 0; i < table->count; ++i)
        fixture_factor(fixture, &table->entries[i], prefix, values);
    return values;
}

/* [modules, k] from one tensor a module, named prefix + module. */
static inline float *fixture_modules(const struct fixture *fixture, const char *prefix) {
    const struct json *modules = json_get(fixture->description, "modules");
    float *values = memory_allocate(json_count(modules) * fixture->k, sizeof *values, "modules");
    size_t at = 0;
    for (const struct json *m = json_first(modules); m != NULL; m = json_next(m)) {
        const char *name = json_string(json_get(m, "name"));
        memcpy(values + at, fixture_tensor(fixture, NULL, "%s%s", prefix, name),
               fixture->k * sizeof *values);
        at += fixture->k;
    }
    return values;
}

/* A batch of the fixture as one microbatch; free with fixture_batch_free. */
struct fixture_batch {
    struct microbatch microbatch;
    struct capacity capacity;
    size_t *offsets, *pair_offsets, *sequence_numbers;
    int32_t *token_ids, *type_ids, *labels;
    uint32_t *samples;
};

static inline struct fixture_batch fixture_batch(const struct fixture *fixture, const char *name) {
    size_t tokens, bounds, num_labels;
    const int64_t *ids = fixture_integers(fixture, &tokens, name, "input_ids");
    const int64_t *types = fixture_integers(fixture, NULL, name, "token_type_ids");
    const int64_t *offsets = fixture_integers(fixture, &bounds, name, "offsets");
    const int64_t *labels = fixture_integers(fixture, &num_labels, name, "labels");
    struct fixture_batch batch = {
        .offsets = memory_allocate(bounds, sizeof(size_t), "batch"),
        .pair_offsets = memory_allocate(bounds, sizeof(size_t), "batch"),
        .sequence_numbers = memory_allocate(bounds, sizeof(size_t), "batch"),
        .token_ids = memory_allocate(tokens, sizeof(int32_t), "batch"),
        .type_ids = memory_allocate(tokens, sizeof(int32_t), "batch"),
        .labels = memory_allocate(num_labels, sizeof(int32_t), "batch"),
        .samples = memory_allocate(bounds, sizeof(uint32_t), "batch"),
    };
    size_t labelled = 0, longest = 0;
    for (size_t i = 0; i < tokens; ++i) {
        batch.token_ids[i] = (int32_t)ids[i];
        batch.type_ids[i] = (int32_t)types[i];
    }
    for (size_t i = 0; i < num_labels; ++i) {
        batch.labels[i] = (int32_t)labels[i];
        labelled += labels[i] >= 0;
    }
    for (size_t i = 0; i + 1 < bounds; ++i) {
        const size_t length = (size_t)(offsets[i + 1] - offsets[i]);
        batch.offsets[i + 1] = (size_t)offsets[i + 1];
        batch.pair_offsets[i + 1] = batch.pair_offsets[i] + length * length;
        batch.sequence_numbers[i + 1] = i + 1;
        batch.samples[i] = (uint32_t)i;
        longest = length > longest ? length : longest;
    }
    batch.microbatch = (struct microbatch){
        .num_sequences = bounds - 1,
        .num_tokens = tokens,
        .longest = longest,
        .offsets = batch.offsets,
        .pair_offsets = batch.pair_offsets,
        .sequence_numbers = batch.sequence_numbers,
        .samples = batch.samples,
        .token_ids = batch.token_ids,
        .type_ids = batch.type_ids,
        .labels = batch.labels,
        .targets =
            fixture->is_regression ? fixture_tensor(fixture, NULL, "%s.targets", name) : NULL,
        .loss_scale = 1.0f / (float)labelled,
    };
    batch.capacity = (struct capacity){tokens, bounds - 1, longest, batch.pair_offsets[bounds - 1]};
    return batch;
}

static inline void fixture_batch_free(struct fixture_batch *batch) {
    memory_free(batch->offsets);
    memory_free(batch->pair_offsets);
    memory_free(batch->sequence_numbers);
    memory_free(batch->token_ids);
    memory_free(batch->type_ids);
    memory_free(batch->labels);
    memory_free(batch->samples);
}

/* max |x - y| <= tolerance * max |y|. */
static inline void assert_close(const float *values, const float *reference, size_t count,
                                double tolerance, const char *what) {
    double largest = 0, error = 0;
    for (size_t i = 0; i < count; ++i) {
        largest = fmax(largest, fabs((double)reference[i]));
        error = fmax(error, fabs((double)values[i] - (double)reference[i]));
        if (!isfinite(values[i]))
            fail_msg("%s: element %zu is not finite", what, i);
    }
    if (!(error <= tolerance * largest))
        fail_msg("%s: error %g of %g (tolerance %g)", what, error, largest, tolerance * largest);
}

#endif
