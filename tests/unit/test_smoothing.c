/* Label smoothing in the four passes of the task heads, against PyTorch's derivatives
 * (tests/fixtures/label-smoothing). */
#include "model/task_head.h"

#include "model/lm_head.h"

#include "fixture.h"

struct setup {
    struct fixture fixture;
    struct task_head head;
    struct microbatch microbatch;
    struct head_activations activations;
    size_t rows, features, logits, factors_size;
    size_t offsets[2], pair_offsets[2], sequence_numbers[2];
    uint32_t sample;
    int32_t *labels;
    float *factors, *direction, *d_factors, *d_x, *t_d_x;
};

static float *floats(size_t count) {
    return memory_allocate(count, sizeof(float), "a test");
}

/* Weight and bias in one array, as a stage has them. */
static float *joined(const struct setup *s, const char *prefix) {
    float *values = floats(s->factors_size);
    size_t num_weights, num_biases;
    const float *weight = fixture_tensor(&s->fixture, &num_weights, "%sweight", prefix);
    const float *bias = fixture_tensor(&s->fixture, &num_biases, "%sbias", prefix);
    assert_int_equal(num_weights + num_biases, s->factors_size);
    memcpy(values + s->head.weight_offset, weight, num_weights * sizeof *weight);
    memcpy(values + s->head.bias_offset, bias, num_biases * sizeof *bias);
    return values;
}

static void setup_open(struct setup *s, struct json *description) {
    const size_t hidden = fixture_size(description, "hidden");
    const size_t num_labels = fixture_size(description, "labels");
    *s = (struct setup){.rows = fixture_size(description, "rows"), .sequence_numbers = {0, 1}};
    s->fixture.reference = fixture_weights("label-smoothing", "reference.safetensors");
    s->head = (struct task_head){.kind = HEAD_TOKEN_CLASSIFICATION,
                                 .hidden_size = hidden,
                                 .num_labels = num_labels,
                                 .bias_offset = num_labels * hidden};
    s->features = s->rows * hidden;
    s->logits = s->rows * num_labels;
    s->factors_size = num_labels * (hidden + 1);
    s->offsets[1] = s->rows;
    s->pair_offsets[1] = s->rows * s->rows;
    s->labels = memory_allocate(s->rows, sizeof *s->labels, "labels");
    const struct tensor *labels = weights_find(s->fixture.reference, "labels");
    size_t labelled = 0;
    for (size_t i = 0; i < s->rows; ++i) {
        s->labels[i] = (int32_t)((const int64_t *)(const void *)labels->data)[i];
        labelled += s->labels[i] >= 0;
    }
    s->microbatch = (struct microbatch){
        .num_sequences = 1,
        .num_tokens = s->rows,
        .longest = s->rows,
        .offsets = s->offsets,
        .pair_offsets = s->pair_offsets,
        .sequence_numbers = s->sequence_numbers,
        .samples = &s->sample,
        .labels = s->labels,
        .loss_scale = 1.0f / (float)labelled,
    };
    s->activations = (struct head_activations){
        .features = floats(s->features),
        .pooled = floats(s->features),
        .logits = floats(s->logits),
        .probabilities = floats(s->logits),
        .d_features = floats(s->features),
        .t_features = floats(s->features),
        .t_pooled = floats(s->features),
        .t_logits = floats(s->logits),
        .normalized = floats(s->features),
        .deviation = floats(s->rows),
        .t_normalized = floats(s->features),
        .t_deviation = floats(s->rows),
    };
    s->factors = joined(s, "");
    s->direction = joined(s, "tangent.");
    s->d_factors = floats(s->factors_size);
    s->d_x = floats(s->features);
    s->t_d_x = floats(s->features);
}

static void setup_close(struct setup *s) {
    memory_free(s->activations.features);
    memory_free(s->activations.pooled);
    memory_free(s->activations.logits);
    memory_free(s->activations.probabilities);
    memory_free(s->activations.d_features);
    memory_free(s->activations.t_features);
    memory_free(s->activations.t_pooled);
    memory_free(s->activations.t_logits);
    memory_free(s->activations.normalized);
    memory_free(s->activations.deviation);
    memory_free(s->activations.t_normalized);
    memory_free(s->activations.t_deviation);
    memory_free(s->factors);
    memory_free(s->direction);
    memory_free(s->d_factors);
    memory_free(s->d_x);
    memory_free(s->t_d_x);
    memory_free(s->labels);
    weights_close(&s->fixture.reference);
}

static void check(const struct setup *s, size_t number, const char *name, const float *values) {
    const char *prefix = s->head.kind == HEAD_LANGUAGE_MODELING ? "language." : "";
    size_t count;
    const float *expected = fixture_tensor(&s->fixture, &count, "%s%zu.%s", prefix, number, name);
    assert_close(values, expected, count, 1e-6, name);
}

static void check_passes(struct setup *s, size_t number) {
    const struct point point = {s->factors, NULL};
    struct gradient gradient = {s->d_factors, NULL};
    struct head_activations *activations = &s->activations;
    const float *x = fixture_tensor(&s->fixture, NULL, "x");
    const float *t_x = fixture_tensor(&s->fixture, NULL, "tangent.x");
    const float loss =
        (float)head_forward(&s->head, &point, &s->microbatch, x, NULL, true, activations);
    check(s, number, "loss", &loss);
    head_backward(&s->head, &point, &s->microbatch, activations, &gradient, s->d_x);
    check(s, number, "grad.x", s->d_x);
    check(s, number, "grad.weight", s->d_factors + s->head.weight_offset);
    check(s, number, "grad.bias", s->d_factors + s->head.bias_offset);
    head_tangent(&s->head, &point, s->direction, &s->microbatch, t_x, NULL, activations);
    head_backward_tangent(&s->head, &point, s->direction, &s->microbatch, activations, s->t_d_x);
    check(s, number, "grad_tangent.x", s->t_d_x);
}

static void check_language_passes(struct setup *s, size_t number) {
    struct head_activations *activations = &s->activations;
    const struct point point = {NULL, NULL};
    const float *x = fixture_tensor(&s->fixture, NULL, "x");
    const float *t_x = fixture_tensor(&s->fixture, NULL, "tangent.x");
    struct head_scratch scratch = {floats(lm_head_room(&s->head)), floats(lm_head_room(&s->head))};
    const float loss =
        (float)head_forward(&s->head, &point, &s->microbatch, x, &scratch, true, activations);
    check(s, number, "loss", &loss);
    head_backward(&s->head, &point, &s->microbatch, activations, NULL, s->d_x);
    check(s, number, "grad.x", s->d_x);
    head_tangent(&s->head, &point, NULL, &s->microbatch, t_x, &scratch, activations);
    head_backward_tangent(&s->head, &point, NULL, &s->microbatch, activations, s->t_d_x);
    check(s, number, "grad_tangent.x", s->t_d_x);
    memory_free(scratch.logits);
    memory_free(scratch.t_logits);
}

static void make_language_head(struct setup *s, const struct json *description) {
    s->head.kind = HEAD_LANGUAGE_MODELING;
    s->head.words.frozen = fixture_tensor(&s->fixture, NULL, "weight");
    s->head.final_norm.weight.frozen = fixture_tensor(&s->fixture, NULL, "norm.weight");
    s->head.final_norm.bias.frozen = fixture_tensor(&s->fixture, NULL, "norm.bias");
    s->head.layer_norm_epsilon = (float)json_number(json_get(description, "epsilon"));
}

static void check_head(void (*make_head)(struct setup *, const struct json *),
                       void (*check_all)(struct setup *, size_t)) {
    struct json *description = fixture_json("label-smoothing", "reference.json");
    const struct json *smoothing = json_first(json_get(description, "smoothing"));
    struct setup setup;
    setup_open(&setup, description);
    if (make_head != NULL)
        make_head(&setup, description);
    for (size_t i = 0; smoothing != NULL; smoothing = json_next(smoothing), ++i) {
        setup.head.label_smoothing = (float)json_number(smoothing);
        check_all(&setup, i);
    }
    setup_close(&setup);
    json_destroy(&description);
}

static void test_classification_matches_the_reference(void **state) {
    (void)state;
    check_head(NULL, check_passes);
}

static void test_language_modelling_matches_the_reference(void **state) {
    (void)state;
    check_head(make_language_head, check_language_passes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classification_matches_the_reference),
        cmocka_unit_test(test_language_modelling_matches_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
