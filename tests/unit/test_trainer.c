/* Numbers that are not finite are found where they are and named; clipping is PyTorch's. */
#include "train/trainer.h"

#include "base/memory.h"
#include "train/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { NUM_MODULES = 2, COMPONENTS = 3, WIDTH = 4 };

struct setup {
    struct stage stage;
    struct training_state state;
    float *gradient;
};

static struct setup setup_create(void) {
    struct setup setup = {0};
    struct parameter_table *table = &setup.stage.factors;
    for (size_t m = 0; m < NUM_MODULES; ++m) {
        parameter_table_add(table, memory_format("module.%zu.lora_A", m), COMPONENTS, WIDTH,
                            INITIALIZE_ONE, true, m);
        parameter_table_add(table, memory_format("module.%zu.lora_B", m), COMPONENTS, WIDTH,
                            INITIALIZE_ZERO, true, m);
    }
    parameter_table_add(table, memory_copy_string("classifier.weight"), 2, WIDTH, INITIALIZE_ONE,
                        true, 9);
    setup.stage.options.adapters.num_components = COMPONENTS;
    setup.stage.selection_size = NUM_MODULES * COMPONENTS;
    setup.state = training_state_create(&setup.stage, 0);
    setup.state.step = 12;
    setup.gradient = memory_allocate(table->size, sizeof(float), "a gradient");
    return setup;
}

static void setup_free(struct setup *setup) {
    training_state_free(&setup->state);
    parameter_table_free(&setup->stage.factors);
    memory_free(setup->gradient);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_finite_state(void **state) {
    (void)state;
    struct setup setup = setup_create();
    setup.gradient[3] = 3e38f;
    setup.state.factors[0] = -3e38f;
    struct problem problem = {0};
    assert_true(
        trainer_check_state(&setup.stage, &setup.state, setup.gradient, "retrain", &problem));
    assert_int_equal(problem.exit_code, 0);
    setup_free(&setup);
}

static void expect_named(const struct setup *setup, const char *what, const char *where) {
    struct problem problem = {0};
    assert_false(
        trainer_check_state(&setup->stage, &setup->state, setup->gradient, "search", &problem));
    assert_int_equal(problem.exit_code, EXIT_NUMERICS);
    const char *const words[] = {"search, step 12", what, where, "not finite"};
    for (size_t i = 0; i < sizeof words / sizeof *words; ++i)
        if (strstr(problem.text, words[i]) == NULL)
            fail_msg("no \"%s\" in: %s", words[i], problem.text);
}

/* Each place of each vector, alone. */
static void test_each_place(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct setup setup = setup_create();
    const struct parameter_table *table = &setup.stage.factors;
    const struct {
        float *values;
        const char *what;
    } vectors[] = {{setup.gradient, "the gradient"}, {setup.state.factors, "the new value"}};
    for (size_t v = 0; v < 2; ++v)
        for (size_t e = 0; e < table->count; ++e)
            for (size_t i = 0; i < table->entries[e].rows * table->entries[e].columns; ++i) {
                float *place = vectors[v].values + table->entries[e].offset + i;
                *place = bad[i % 3];
                expect_named(&setup, vectors[v].what, table->entries[e].name);
                *place = 0;
            }
    for (size_t i = 0; i < setup.stage.selection_size; ++i) {
        const char *name = i < COMPONENTS ? "module.0.lora_A" : "module.1.lora_A";
        setup.state.d_logits[i] = bad[i % 3];
        expect_named(&setup, "the hypergradient", name);
        setup.state.d_logits[i] = 0;
        setup.state.logits[i] = bad[i % 3];
        expect_named(&setup, "the selection logit", name);
        setup.state.logits[i] = 0;
    }
    setup_free(&setup);
}

/* torch.nn.utils.clip_grad_norm_: times min(1, limit / (norm + 1e-6)). */
static void test_clipping(void **state) {
    (void)state;
    static const double norms[] = {0, 1e-9, 0.5, 1 - 1e-7, 1, 1 + 1e-7, 3, 1e30};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; ++i) {
        struct trainer trainer = {.optimizer.max_grad_norm = 1};
        const double ratio = 1 / (norms[i] + 1e-6);
        assert_true(trainer_gradient_scale(&trainer, norms[i]) == (ratio < 1 ? ratio : 1));
        trainer.optimizer.max_grad_norm = 0;
        assert_true(trainer_gradient_scale(&trainer, norms[i]) == 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_state),
        cmocka_unit_test(test_each_place),
        cmocka_unit_test(test_clipping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
