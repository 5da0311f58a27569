/* Dropout: its rate, and what its mask depends on. */
#include "math/kernels.h"

#include "kernel.h"

static void check_dropout_rate(float rate) {
    const size_t length = 500000;
    const struct packing packing = packing_make(&length, NULL, 1);
    const struct dropout dropout = dropout_of(&packing, rate);
    float *mask = dropout_mask(&dropout, 1);
    double sum = 0, dropped = 0;
    for (size_t i = 0; i < length; ++i) {
        assert_true(mask[i] == 0 || fabs((double)mask[i] * (1 - (double)rate) - 1) < 1e-4);
        sum += (double)mask[i];
        dropped += mask[i] == 0;
    }
    const double n = (double)length, p = (double)rate, deviation = sqrt(p * (1 - p) / n);
    assert_true(fabs(dropped / n - p) < 5 * deviation + 0x1p-16);
    assert_true(fabs(sum / n - 1) < 5 * deviation / (1 - p) + 1e-6);
    memory_free(mask);
}

static void test_dropout_rate_and_mean(void **state) {
    (void)state;
    check_dropout_rate(0.1f);
    check_dropout_rate(0.5f);
    check_dropout_rate(0.9f);
    check_dropout_rate(0.001f);
}

static void test_dropout_of_rate_0_is_the_identity(void **state) {
    (void)state;
    const size_t length = 100;
    const struct packing packing = packing_make(&length, NULL, 1);
    const struct dropout dropout = dropout_of(&packing, 0);
    float *mask = dropout_mask(&dropout, 3);
    for (size_t i = 0; i < 3 * length; ++i)
        assert_true(mask[i] == 1);
    memory_free(mask);
}

static void test_dropout_is_independent_of_packing_and_threads(void **state) {
    (void)state;
    static const size_t LENGTHS[] = {1, 9, 2, 40, 7};
    const struct packing packing = packing_make(LENGTHS, NULL, 5);
    const struct dropout dropout = dropout_of(&packing, 0.3f);
    static const size_t WIDTHS[] = {1, 7, 64};
    for (size_t w = 0; w < 3; ++w) {
        set_threads(MAX_THREADS);
        float *packed = dropout_mask(&dropout, WIDTHS[w]);
        set_threads(1);
        for (size_t s = 0; s < 5; ++s) {
            const struct packing alone = packing_make(&LENGTHS[s], &packing.samples[s], 1);
            const struct dropout single = dropout_of(&alone, 0.3f);
            float *mask = dropout_mask(&single, WIDTHS[w]);
            assert_same_bits(packed + packing.offsets[s] * WIDTHS[w], mask, LENGTHS[s] * WIDTHS[w],
                             "dropout", "alone");
            memory_free(mask);
        }
        memory_free(packed);
    }
}

/* Share of equal elements. */
static double agreement(const float *a, const float *b, size_t count) {
    size_t equal = 0;
    for (size_t i = 0; i < count; ++i)
        equal += a[i] == b[i];
    return (double)equal / (double)count;
}

static void test_dropout_depends_on_its_whole_identity(void **state) {
    (void)state;
    const size_t length = 4000;
    const struct packing packing = packing_make(&length, NULL, 1);
    const uint32_t other_sample = 11;
    const struct packing other = packing_make(&length, &other_sample, 1);
    struct dropout variants[6];
    for (int i = 0; i < 6; ++i)
        variants[i] = dropout_of(i == 5 ? &other : &packing, 0.5f);
    variants[1].seed++;
    variants[2].step++;
    variants[3].purpose = RANDOM_DROPOUT_ADAPTER;
    variants[4].identity++;
    float *mask = dropout_mask(&variants[0], 1);
    for (int i = 1; i < 6; ++i) {
        float *variant = dropout_mask(&variants[i], 1);
        assert_true(fabs(agreement(mask, variant, length) - 0.5) < 0.05);
        memory_free(variant);
    }
    memory_free(mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_dropout_rate_and_mean),
        KERNEL_TEST(test_dropout_of_rate_0_is_the_identity),
        KERNEL_TEST(test_dropout_is_independent_of_packing_and_threads),
        KERNEL_TEST(test_dropout_depends_on_its_whole_identity),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
