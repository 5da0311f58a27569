/* Random numbers: Philox4x32-10 against its published vectors, and what the streams promise. */
#include "base/random.h"

#include "reference.h"

#include <stdlib.h>

enum { COUNT = 100000 };

static struct random_stream stream_of(uint64_t sample) {
    return random_stream_make(1, RANDOM_SHUFFLE, 2, 3, sample);
}

/* ---- the generator ---- */

struct vector {
    uint32_t counter[4], key[2], words[4];
};

/* Random123's kat_vectors, "philox4x32 10". */
static const struct vector VECTORS[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_known_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof VECTORS / sizeof *VECTORS; ++i) {
        const struct vector *v = &VECTORS[i];
        const struct random_stream stream = {
            .key = {v->key[0], v->key[1]},
            .high = {v->counter[2], v->counter[3]},
        };
        uint32_t words[4];
        random_words(&stream, (uint64_t)v->counter[1] << 32 | v->counter[0], words);
        assert_memory_equal(words, v->words, sizeof words);
    }
}

/* Dropout has a vectorised generator of its own: its multipliers come from the same words, block by
 * block of 16 counters, half a word each. */
static void test_dropout_uses_the_same_generator(void **state) {
    (void)state;
    for (size_t v = 0; v < sizeof VECTORS / sizeof *VECTORS; ++v) {
        struct random_stream stream = {.key = {VECTORS[v].key[0], VECTORS[v].key[1]},
                                       .high = {VECTORS[v].counter[2], VECTORS[v].counter[3]}};
        float *x = reference_filled(1024, 1);
        random_dropout_multiply(&stream, 0.5f, 1024, x);
        size_t dropped = 0, expected = 0;
        for (size_t i = 0; i < 128; ++i) {
            uint32_t words[4];
            random_words(&stream, i, words);
            for (int w = 0; w < 4; ++w)
                expected += (size_t)((words[w] & 0xffff) < 32768) + ((words[w] >> 16) < 32768);
        }
        for (size_t i = 0; i < 1024; ++i)
            dropped += x[i] == 0;
        assert_int_equal(dropped, expected);
        memory_free(x);
    }
}

/* ---- distributions ---- */

/* |observed - expected| of a count out of COUNT within 5 standard deviations. */
static void check_share(size_t observed, double share) {
    const double expected = COUNT * share, deviation = sqrt(COUNT * share * (1 - share));
    if (!(fabs((double)observed - expected) < 5 * deviation))
        fail_msg("%zu of %d, expected %g", observed, COUNT, expected);
}

static void test_uniform(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(0);
    size_t bins[16] = {0}, rising = 0;
    double sum = 0;
    for (uint64_t i = 0; i < COUNT; ++i) {
        const float u = random_uniform(&stream, i);
        assert_true(u >= 0 && u < 1);
        assert_true(u * 0x1p24f == floorf(u * 0x1p24f));
        ++bins[(int)(u * 16)];
        rising += random_uniform(&stream, i + 1) > u;
        sum += (double)u;
    }
    for (int b = 0; b < 16; ++b)
        check_share(bins[b], 1.0 / 16);
    check_share(rising, 0.5);
    assert_true(fabs(sum / COUNT - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
}

static void test_normal(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(1);
    double moments[5] = {0};
    size_t below_minus_1 = 0, beyond_2 = 0;
    for (uint64_t i = 0; i < COUNT; ++i) {
        const double x = (double)random_normal(&stream, i);
        assert_true(isfinite(x));
        for (int m = 1; m < 5; ++m)
            moments[m] += pow(x, m) / COUNT;
        below_minus_1 += x < -1;
        beyond_2 += fabs(x) > 2;
    }
    const double error = 5 / sqrt((double)COUNT);
    assert_true(fabs(moments[1]) < error);
    assert_true(fabs(moments[2] - 1) < error * sqrt(2));
    assert_true(fabs(moments[3]) < error * sqrt(15));
    assert_true(fabs(moments[4] - 3) < error * sqrt(96));
    check_share(below_minus_1, 0.158655254);
    check_share(beyond_2, 0.045500264);
}

static void test_below(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(2);
    size_t counts[7] = {0};
    for (uint64_t i = 0; i < COUNT; ++i) {
        const uint64_t value = random_below(&stream, i, 7);
        assert_true(value < 7);
        ++counts[value];
        assert_int_equal(random_below(&stream, i, 1), 0);
        assert_true(random_below(&stream, i, (uint64_t)1 << 63) < (uint64_t)1 << 63);
    }
    for (int v = 0; v < 7; ++v)
        check_share(counts[v], 1.0 / 7);
}

/* ---- permutations ---- */

static void test_permutation_holds_every_number_once(void **state) {
    (void)state;
    for (size_t count = 0; count < 200; ++count) {
        uint32_t permutation[200];
        bool is_there[200] = {false};
        const struct random_stream stream = stream_of(count);
        random_permutation(&stream, count, permutation);
        for (size_t i = 0; i < count; ++i) {
            assert_true(permutation[i] < count && !is_there[permutation[i]]);
            is_there[permutation[i]] = true;
        }
    }
}

/* All 24 orders of four elements are equally frequent. */
static void test_permutation_is_unbiased(void **state) {
    (void)state;
    size_t counts[256] = {0};
    int orders = 0;
    for (uint64_t i = 0; i < COUNT; ++i) {
        uint32_t p[4];
        const struct random_stream stream = stream_of(i);
        random_permutation(&stream, 4, p);
        ++counts[p[0] | p[1] << 2 | p[2] << 4 | p[3] << 6];
    }
    for (int i = 0; i < 256; ++i)
        if (counts[i] > 0) {
            check_share(counts[i], 1.0 / 24);
            ++orders;
        }
    assert_int_equal(orders, 24);
}

/* ---- streams ---- */

static bool streams_are_equal(struct random_stream a, struct random_stream b) {
    return memcmp(a.key, b.key, sizeof a.key) == 0 && memcmp(a.high, b.high, sizeof a.high) == 0;
}

/* Streams of all small identities differ pairwise: components do not stand in for one another. */
static void test_streams_differ_by_every_component(void **state) {
    (void)state;
    enum { EACH = 3, STREAMS = EACH * EACH * EACH * EACH * EACH };
    struct random_stream streams[STREAMS];
    for (int i = 0; i < STREAMS; ++i) {
        const uint64_t part[5] = {(uint64_t)i % 3, (uint64_t)i / 3 % 3, (uint64_t)i / 9 % 3,
                                  (uint64_t)i / 27 % 3, (uint64_t)i / 81};
        streams[i] = random_stream_make(part[0], (enum random_purpose)(part[1] + 1), part[2],
                                        part[3], part[4]);
    }
    for (int i = 0; i < STREAMS; ++i)
        for (int j = 0; j < i; ++j)
            assert_false(streams_are_equal(streams[i], streams[j]));
}

static void test_components_count_with_all_their_bits(void **state) {
    (void)state;
    const struct random_stream stream = random_stream_make(1, RANDOM_SPLIT, 1, 1, 1);
    for (int bit = 1; bit < 64; ++bit) {
        const uint64_t value = 1 | (uint64_t)1 << bit;
        const struct random_stream others[4] = {
            random_stream_make(value, RANDOM_SPLIT, 1, 1, 1),
            random_stream_make(1, RANDOM_SPLIT, value, 1, 1),
            random_stream_make(1, RANDOM_SPLIT, 1, value, 1),
            random_stream_make(1, RANDOM_SPLIT, 1, 1, value),
        };
        for (int i = 0; i < 4; ++i)
            assert_false(streams_are_equal(stream, others[i]));
    }
}

static void test_streams_and_positions_are_uncorrelated(void **state) {
    (void)state;
    const struct random_stream a = stream_of(0), b = stream_of(1);
    double between = 0, along = 0;
    for (uint64_t i = 0; i < COUNT; ++i) {
        const double x = (double)random_uniform(&a, i) - 0.5;
        between += x * ((double)random_uniform(&b, i) - 0.5);
        along += x * ((double)random_uniform(&a, i + 1) - 0.5);
    }
    const double limit = 5 * sqrt((double)COUNT) / 12;
    assert_true(fabs(between) < limit && fabs(along) < limit);
}

/* ---- dropout ---- */

static void test_dropout_does_not_depend_on_the_count(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(3);
    float *whole = reference_filled(1000, 1);
    random_dropout_multiply(&stream, 0.3f, 1000, whole);
    for (size_t count = 0; count < 1000; count += count < 300 ? 1 : 37) {
        float *part = reference_filled(count + 1, 1);
        random_dropout_multiply(&stream, 0.3f, count, part);
        assert_same_bits(part, whole, count, "dropout", "part");
        assert_true(part[count] == 1);
        memory_free(part);
    }
    memory_free(whole);
}

static void test_dropout_multiplies(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(4);
    float *ones = reference_filled(500, 1), *x = reference_values(500, 1, 1);
    float *values = reference_values(500, 1, 1);
    random_dropout_multiply(&stream, 0.25f, 500, ones);
    random_dropout_multiply(&stream, 0.25f, 500, x);
    for (size_t i = 0; i < 500; ++i) {
        assert_true(ones[i] == 0 || ones[i] == 4.0f / 3);
        assert_true(x[i] == ones[i] * values[i]);
    }
    memory_free(ones);
    memory_free(x);
    memory_free(values);
}

static void test_dropout_of_rates_0_and_1(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(5);
    float *x = reference_filled(1000, 1);
    random_dropout_multiply(&stream, 0, 1000, x);
    for (size_t i = 0; i < 1000; ++i)
        assert_true(x[i] == 1);
    random_dropout_multiply(&stream, 1, 1000, x);
    for (size_t i = 0; i < 1000; ++i)
        assert_true(x[i] == 0);
    memory_free(x);
}

/* Neighbours are independent: also the two halves of a word and the lanes of a block. */
static void test_dropout_neighbours_are_independent(void **state) {
    (void)state;
    const struct random_stream stream = stream_of(6);
    static const size_t DISTANCES[] = {1, 15, 16, 17, 64, 112, 128};
    float *x = reference_filled(COUNT + 128, 1);
    random_dropout_multiply(&stream, 0.5f, COUNT + 128, x);
    for (size_t d = 0; d < sizeof DISTANCES / sizeof *DISTANCES; ++d) {
        size_t equal = 0;
        for (size_t i = 0; i < COUNT; ++i)
            equal += (x[i] == 0) == (x[i + DISTANCES[d]] == 0);
        check_share(equal, 0.5);
    }
    memory_free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_dropout_uses_the_same_generator),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_permutation_holds_every_number_once),
        cmocka_unit_test(test_permutation_is_unbiased),
        cmocka_unit_test(test_streams_differ_by_every_component),
        cmocka_unit_test(test_components_count_with_all_their_bits),
        cmocka_unit_test(test_streams_and_positions_are_uncorrelated),
        cmocka_unit_test(test_dropout_does_not_depend_on_the_count),
        cmocka_unit_test(test_dropout_multiplies),
        cmocka_unit_test(test_dropout_of_rates_0_and_1),
        cmocka_unit_test(test_dropout_neighbours_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
