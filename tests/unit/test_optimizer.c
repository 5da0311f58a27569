/* Adam and AdamW step by step against PyTorch's (tests/fixtures/optimizer), and the schedules. */
#include "train/optimizer.h"
#include "train/trainer.h"

#include "fixture.h"

/* ---- trajectories ---- */

struct trajectory {
    struct weights *weights;
    struct json *description;
    size_t steps, size;
    const float *initial, *gradients, *norms;
};

static const float *stored(struct weights *weights, const char *name) {
    struct problem problem = {0};
    const struct tensor *tensor = weights_find(weights, name);
    const float *values = tensor == NULL ? NULL : weights_floats(weights, tensor, &problem);
    if (values == NULL)
        fail_msg("no tensor %s", name);
    return values;
}

static struct trajectory trajectory_open(void) {
    struct trajectory t = {
        .weights = fixture_weights("optimizer", "reference.safetensors"),
        .description = fixture_json("optimizer", "reference.json"),
    };
    t.steps = fixture_size(t.description, "steps");
    t.size = fixture_size(t.description, "size");
    t.initial = stored(t.weights, "initial");
    t.gradients = stored(t.weights, "gradients");
    t.norms = stored(t.weights, "gradient_norm");
    return t;
}

static void trajectory_close(struct trajectory *t) {
    weights_close(&t->weights);
    json_destroy(&t->description);
}

static double number(const struct json *object, const char *name) {
    return json_number(json_get(object, name));
}

static struct adam_step step_of(const struct json *options, int is_decoupled) {
    const struct json *beta1 = json_first(json_get(options, "betas"));
    return (struct adam_step){
        .rate = number(options, "lr"),
        .beta1 = json_number(beta1),
        .beta2 = json_number(json_next(beta1)),
        .epsilon = number(options, "eps"),
        .decay = number(options, "weight_decay"),
        .is_decoupled = is_decoupled,
        .gradient_scale = 1,
    };
}

static void check_row(const struct trajectory *t, const float *values, const char *name,
                      size_t step) {
    char what[64];
    snprintf(what, sizeof what, "%s, step %zu", name, step);
    assert_close(values, stored(t->weights, name) + step * t->size, t->size, 1e-6, what);
}

static double norm_of(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

static void test_adamw_with_schedule_and_clipping(void **state) {
    (void)state;
    struct trajectory t = trajectory_open();
    const struct json *options = json_get(t.description, "adamw");
    struct adam_step step = step_of(options, true);
    const double peak = step.rate, limit = number(options, "clip_norm");
    const double warmup = number(options, "warmup_steps") / number(options, "total_steps");
    struct adam adam = adam_create(t.size);
    float *values = memory_allocate(t.size, sizeof *values, "values");
    memcpy(values, t.initial, t.size * sizeof *values);
    for (size_t i = 0; i < t.steps; ++i) {
        const float *gradient = t.gradients + i * t.size;
        const double norm = norm_of(gradient, t.size);
        const float single_norm = (float)norm;
        assert_close(&single_norm, &t.norms[i], 1, 1e-6, "norm");
        step.rate = schedule_rate(SCHEDULE_LINEAR, peak, warmup, i, t.steps);
        const float rate = (float)step.rate;
        assert_close(&rate, stored(t.weights, "adamw_learning_rate") + i, 1, 1e-6, "rate");
        const struct trainer trainer = {.optimizer.max_grad_norm = limit};
        step.gradient_scale = trainer_gradient_scale(&trainer, norm);
        adam_update(&adam, &step, NULL, gradient, values);
        check_row(&t, values, "adamw", i);
    }
    assert_int_equal(adam.num_updates, t.steps);
    adam_free(&adam);
    memory_free(values);
    trajectory_close(&t);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_adam_with_l2(void **state) {
    (void)state;
    struct trajectory t = trajectory_open();
    const struct adam_step step = step_of(json_get(t.description, "adam"), false);
    struct adam adam = adam_create(t.size);
    float *values = memory_allocate(t.size, sizeof *values, "values");
    memcpy(values, t.initial, t.size * sizeof *values);
    for (size_t i = 0; i < t.steps; ++i) {
        adam_update(&adam, &step, NULL, t.gradients + i * t.size, values);
        check_row(&t, values, "adam", i);
    }
    adam_free(&adam);
    memory_free(values);
    trajectory_close(&t);
    assert_int_equal(memory_blocks_now(), 0);
}

/* ---- parameter tables ---- */

static const struct adam_step DECAYING = {
    .rate = 0.01,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .epsilon = 1e-8,
    .decay = 0.1,
    .is_decoupled = true,
    .gradient_scale = 1,
};

static struct parameter_table two_entries(void) {
    struct parameter_table table = {0};
    parameter_table_add(&table, memory_copy_string("weight"), 2, 3, INITIALIZE_ZERO, true, 0);
    parameter_table_add(&table, memory_copy_string("bias"), 1, 4, INITIALIZE_ZERO, false, 1);
    return table;
}

/* Without a gradient, weight decay is all that happens. */
static void test_biases_do_not_decay(void **state) {
    (void)state;
    struct parameter_table table = two_entries();
    struct adam adam = adam_create(table.size);
    float values[10], gradient[10] = {0};
    for (int i = 0; i < 10; ++i)
        values[i] = 2;
    adam_update(&adam, &DECAYING, &table, gradient, values);
    for (int i = 0; i < 10; ++i)
        assert_true(values[i] == (i < 6 ? 2 * (float)(1 - 0.01 * 0.1) : 2));
    adam_update(&adam, &DECAYING, NULL, gradient, values);
    assert_true(values[9] < 2);
    adam_free(&adam);
    parameter_table_free(&table);
}

static void test_a_table_counts_one_update(void **state) {
    (void)state;
    struct parameter_table table = two_entries();
    struct adam by_table = adam_create(10), whole = adam_create(10);
    struct adam_step step = DECAYING;
    step.decay = 0;
    float values[2][10] = {{0}}, gradient[10];
    for (int i = 0; i < 10; ++i)
        gradient[i] = (float)(i - 4);
    for (int update = 0; update < 3; ++update) {
        adam_update(&by_table, &step, &table, gradient, values[0]);
        adam_update(&whole, &step, NULL, gradient, values[1]);
    }
    assert_int_equal(by_table.num_updates, 3);
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    adam_free(&by_table);
    adam_free(&whole);
    parameter_table_free(&table);
}

/* The first step of Adam has the size of the rate, whatever the gradient's size. */
static void test_gradient_scale_multiplies_the_gradient(void **state) {
    (void)state;
    struct adam adam = adam_create(1);
    struct adam_step step = DECAYING;
    step.decay = 0;
    step.gradient_scale = 0.25;
    float value = 1;
    const float gradient = 8;
    adam_update(&adam, &step, NULL, &gradient, &value);
    assert_true(fabsf(value - 0.99f) < 1e-6f);
    assert_true(fabsf(adam.first[0] - 0.2f) < 1e-6f);
    assert_true(fabsf(adam.second[0] - 0.004f) < 1e-7f);
    adam_free(&adam);
}

/* 1 - beta2 is taken in double precision: 1 - 0.999f is 1.3e-5 off. */
static void test_share_of_the_gradient_is_exact(void **state) {
    (void)state;
    struct adam adam = adam_create(1);
    struct adam_step step = DECAYING;
    step.decay = 0;
    float value = 0;
    const float gradient = 1;
    adam_update(&adam, &step, NULL, &gradient, &value);
    assert_true(adam.first[0] == (float)(1 - 0.9) && adam.second[0] == (float)(1 - 0.999));
    adam_free(&adam);
}

/* ---- schedules ---- */

static void check_rate(enum schedule_kind kind, double warmup, size_t step, size_t steps,
                       double expected) {
    const double rate = schedule_rate(kind, 2, warmup, step, steps);
    if (!(fabs(rate - expected) <= 1e-12))
        fail_msg("schedule %d, step %zu of %zu: %g, not %g", kind, step, steps, rate, expected);
}

static void test_warm_up(void **state) {
    (void)state;
    static const enum schedule_kind KINDS[] = {SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE};
    for (int i = 0; i < 3; ++i) {
        check_rate(KINDS[i], 0.2, 0, 20, 0);
        check_rate(KINDS[i], 0.2, 1, 20, 0.5);
        check_rate(KINDS[i], 0.2, 3, 20, 1.5);
        check_rate(KINDS[i], 0.2, 4, 20, 2);
        check_rate(KINDS[i], 0, 0, 20, 2);
        check_rate(KINDS[i], 0.11, 1, 20, 2.0 / 3); /* 2.2 steps count as 3 */
    }
}

static void test_decay(void **state) {
    (void)state;
    check_rate(SCHEDULE_CONSTANT, 0, 19, 20, 2);
    check_rate(SCHEDULE_CONSTANT, 0.5, 500, 20, 2);
    check_rate(SCHEDULE_LINEAR, 0, 5, 20, 1.5);
    check_rate(SCHEDULE_LINEAR, 0.2, 12, 20, 1);
    check_rate(SCHEDULE_LINEAR, 0.2, 20, 20, 0);
    check_rate(SCHEDULE_LINEAR, 0.2, 25, 20, 0);
    check_rate(SCHEDULE_COSINE, 0, 5, 20, 1 + sqrt(0.5));
    check_rate(SCHEDULE_COSINE, 0.2, 12, 20, 1);
    check_rate(SCHEDULE_COSINE, 0.2, 20, 20, 0);
    check_rate(SCHEDULE_COSINE, 0.2, 25, 20, 0);
}

static void test_warm_up_may_take_all_steps(void **state) {
    (void)state;
    check_rate(SCHEDULE_LINEAR, 1, 5, 10, 1);
    check_rate(SCHEDULE_LINEAR, 1, 10, 10, 0);
    assert_true(isfinite(schedule_rate(SCHEDULE_COSINE, 2, 1, 10, 10)));
    assert_true(isfinite(schedule_rate(SCHEDULE_LINEAR, 2, 0, 0, 0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_with_schedule_and_clipping),
        cmocka_unit_test(test_adam_with_l2),
        cmocka_unit_test(test_biases_do_not_decay),
        cmocka_unit_test(test_a_table_counts_one_update),
        cmocka_unit_test(test_gradient_scale_multiplies_the_gradient),
        cmocka_unit_test(test_share_of_the_gradient_is_exact),
        cmocka_unit_test(test_warm_up),
        cmocka_unit_test(test_decay),
        cmocka_unit_test(test_warm_up_may_take_all_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
