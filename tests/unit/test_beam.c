/* The beam search, token for token against transformers' generate (tests/fixtures/beam), on models
 * whose logits are a hash of the last two tokens; and its rules where nothing else is defined. */
#include "train/beam.h"

#include "fixture.h"

/* ---- against transformers ---- */

/* The same as logits_of in tests/oracle/beam_case.py. */
static float logit_of(uint32_t seed, uint32_t divisor, uint32_t before, uint32_t last,
                      uint32_t token) {
    uint32_t h =
        seed * 0x9E3779B1u + before * 0x85EBCA77u + last * 0xC2B2AE3Du + token * 0x27D4EB2Fu;
    h = (h ^ (h >> 15)) * 0x2C1B3C6Du;
    h = (h ^ (h >> 12)) * 0x297A2D39u;
    h = (h ^ (h >> 15)) % 4096;
    return (float)(h * 64 + token) / (float)(64 * divisor);
}

static void exact_log_softmax(float *row, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += exp((double)row[i]);
    for (size_t i = 0; i < count; ++i)
        row[i] = (float)((double)row[i] - log(sum));
}

static size_t read_tokens(const struct json *list, int32_t *tokens, size_t most) {
    size_t count = 0;
    for (const struct json *node = json_first(list); node != NULL; node = json_next(node)) {
        assert_true(count < most);
        tokens[count++] = (int32_t)json_number(node);
    }
    return count;
}

/* What a key/value cache is to a model: each beam's last two tokens, reordered by the parents. */
enum { MOST_BEAMS = 16, MOST_TOKENS = 64 };
struct cache {
    int32_t before[MOST_BEAMS], last[MOST_BEAMS];
};

static void cache_advance(struct cache *cache, const struct beam_search *search) {
    const size_t *parents = beam_search_parents(search);
    const struct cache old = *cache;
    for (size_t b = 0; b < beam_search_num_alive(search); ++b) {
        cache->before[b] = old.last[parents[b]];
        cache->last[b] = beam_search_tokens(search)[b];
    }
}

static void fill_rows(const struct json *c, const struct cache *cache, size_t alive,
                      size_t vocabulary, float *rows) {
    const uint32_t seed = (uint32_t)fixture_size(c, "seed");
    const uint32_t divisor = (uint32_t)fixture_size(c, "divisor");
    for (size_t b = 0; b < alive; ++b) {
        float *row = rows + b * vocabulary;
        for (size_t t = 0; t < vocabulary; ++t)
            row[t] = logit_of(seed, divisor, (uint32_t)cache->before[b], (uint32_t)cache->last[b],
                              (uint32_t)t);
        exact_log_softmax(row, vocabulary);
    }
}

static void check_case(const struct json *c, size_t vocabulary, size_t number) {
    int32_t prompt[MOST_TOKENS], expected[MOST_TOKENS];
    struct cache cache = {{0}, {0}};
    const size_t num_prompt = read_tokens(json_get(c, "prompt"), prompt, MOST_TOKENS);
    const size_t num_expected = read_tokens(json_get(c, "text"), expected, MOST_TOKENS);
    struct beam_options options = {
        .num_beams = fixture_size(c, "num_beams"),
        .vocabulary_size = vocabulary,
        .max_new_tokens = fixture_size(c, "max_new_tokens"),
        .length_penalty = json_number(json_get(c, "length_penalty")),
        .no_repeat_ngram = fixture_size(c, "no_repeat_ngram"),
    };
    options.num_end_tokens =
        read_tokens(json_get(c, "end_tokens"), options.end_tokens, BEAM_MAX_END_TOKENS);
    struct beam_search *search = beam_search_create(&options, prompt, num_prompt);
    assert_true(options.num_beams <= MOST_BEAMS);
    cache.last[0] = prompt[num_prompt - 1];
    cache.before[0] = num_prompt > 1 ? prompt[num_prompt - 2] : 0;
    float *rows = memory_allocate(options.num_beams * vocabulary, sizeof *rows, "a test");
    do
        fill_rows(c, &cache, beam_search_num_alive(search), vocabulary, rows);
    while (beam_search_step(search, rows) && (cache_advance(&cache, search), true));
    size_t count;
    const int32_t *found = beam_search_best(search, &count);
    if (count != num_expected || memcmp(found, expected, count * sizeof *found) != 0)
        fail_msg("case %zu (%zu beams, penalty %g, n-gram %zu, %zu end tokens): %zu tokens for "
                 "%zu, or others",
                 number, options.num_beams, options.length_penalty, options.no_repeat_ngram,
                 options.num_end_tokens, count, num_expected);
    memory_free(rows);
    beam_search_destroy(&search);
}

static void test_equal_to_transformers(void **state) {
    (void)state;
    struct json *root = fixture_json("beam", "reference.json");
    const size_t vocabulary = fixture_size(root, "vocabulary");
    size_t number = 0;
    for (const struct json *c = json_first(json_get(root, "cases")); c != NULL; c = json_next(c))
        check_case(c, vocabulary, number++);
    assert_true(number > 500);
    json_destroy(&root);
}

/* ---- by hand ---- */

enum { WORDS = 4, END = 3 };

static struct beam_search *begin(size_t num_beams, size_t longest, size_t ngram,
                                 const int32_t *context, size_t num_context) {
    const struct beam_options options = {
        .num_beams = num_beams,
        .vocabulary_size = WORDS,
        .max_new_tokens = longest,
        .length_penalty = 1,
        .no_repeat_ngram = ngram,
        .end_tokens = {END},
        .num_end_tokens = 1,
    };
    return beam_search_create(&options, context, num_context);
}

#define CHECK_BEST(search, ...)                                                                    \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        size_t count_;                                                                             \
        const int32_t *best_ = beam_search_best(search, &count_);                                  \
        assert_int_equal(count_, sizeof expected_ / sizeof *expected_);                            \
        assert_memory_equal(best_, expected_, sizeof expected_);                                   \
    } while (0)

static void test_of_equal_scores_the_lower_comes_first(void **state) {
    (void)state;
    struct beam_search *search = begin(2, 3, 0, NULL, 0);
    const float even[2 * WORDS] = {-1, -1, -1, -9, -1, -1, -1, -9};
    assert_true(beam_search_step(search, even));
    assert_int_equal(beam_search_tokens(search)[0], 0);
    assert_int_equal(beam_search_tokens(search)[1], 1);
    assert_true(beam_search_step(search, even));
    assert_int_equal(beam_search_parents(search)[0], 0);
    assert_int_equal(beam_search_parents(search)[1], 0);
    assert_int_equal(beam_search_tokens(search)[1], 1);
    assert_false(beam_search_step(search, even));
    CHECK_BEST(search, 0, 0, 0);
    beam_search_destroy(&search);
}

static void test_context_counts_only_where_it_is_given(void **state) {
    (void)state;
    const float row[WORDS] = {-1, -2, -3, -9};
    const int32_t context[] = {0, 1};
    struct beam_search *search = begin(1, 3, 2, NULL, 0);
    for (int i = 0; i < 3; ++i)
        beam_search_step(search, row);
    CHECK_BEST(search, 0, 0, 1);
    beam_search_destroy(&search);
    search = begin(1, 3, 2, context, 2);
    for (int i = 0; i < 3; ++i)
        beam_search_step(search, row);
    CHECK_BEST(search, 0, 0, 2); /* not 0 0 1: 0 1 is in the context */
    beam_search_destroy(&search);
}

static void test_impossible_tokens_are_never_taken(void **state) {
    (void)state;
    struct beam_search *search = begin(3, 4, 0, NULL, 0);
    const float one[3 * WORDS] = {-INFINITY, -1, NAN, -INFINITY};
    assert_true(beam_search_step(search, one));
    assert_int_equal(beam_search_num_alive(search), 1);
    for (int b = 0; b < 3; ++b) {
        assert_int_equal(beam_search_tokens(search)[b], 1);
        assert_int_equal(beam_search_parents(search)[b], 0);
    }
    const float none[3 * WORDS] = {NAN, NAN, -INFINITY, -INFINITY};
    assert_false(beam_search_step(search, none));
    size_t count;
    beam_search_best(search, &count);
    assert_int_equal(count, 0);
    beam_search_destroy(&search);
}

static void test_ends_when_no_beam_can_win(void **state) {
    (void)state;
    struct beam_search *search = begin(2, 9, 0, NULL, 0);
    const float first[WORDS] = {-3, -4, -9, -0.1f};
    assert_true(beam_search_step(search, first)); /* one hypothesis of two */
    CHECK_BEST(search, END);
    /* The second hypothesis has -3.1 / 2, the best beam goes on with -5 / 2. */
    const float second[2 * WORDS] = {-2, -5, -9, -0.1f, -9, -9, -9, -9};
    assert_false(beam_search_step(search, second));
    CHECK_BEST(search, END);
    beam_search_destroy(&search);
}

static void test_beams_go_on_beside_those_that_end(void **state) {
    (void)state;
    const struct beam_options options = {.num_beams = 2,
                                         .vocabulary_size = WORDS,
                                         .max_new_tokens = 9,
                                         .length_penalty = 2,
                                         .end_tokens = {2, END},
                                         .num_end_tokens = 2};
    struct beam_search *search = beam_search_create(&options, NULL, 0);
    const float first[WORDS] = {-1, -1.1f, -7, -7};
    assert_true(beam_search_step(search, first));
    const float second[2 * WORDS] = {-1.5f, -9, -2, -2, -4, -5, -2, -2};
    assert_true(beam_search_step(search, second)); /* four of the best six end */
    assert_int_equal(beam_search_num_alive(search), 2);
    assert_int_equal(beam_search_parents(search)[1], 1);
    beam_search_destroy(&search);
}

static int check_no_leak(void **state) {
    (void)state;
    return memory_blocks_now() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_to_transformers),
        cmocka_unit_test(test_of_equal_scores_the_lower_comes_first),
        cmocka_unit_test(test_context_counts_only_where_it_is_given),
        cmocka_unit_test(test_impossible_tokens_are_never_taken),
        cmocka_unit_test(test_ends_when_no_beam_can_win),
        cmocka_unit_test(test_beams_go_on_beside_those_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, check_no_leak);
}
