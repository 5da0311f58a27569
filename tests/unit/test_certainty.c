/* How sure ranks are: traces of which the answer is known. */
#include "train/certainty.h"

#include "io/json.h"
#include "io/trace.h"
#include "reference.h"

#include <stdlib.h>
#include <unistd.h>

enum { MODULES = 2, K = 4, SIZE = MODULES * K };
static const char *const names[MODULES] = {"a", "b"};
static const struct budget UNLIMITED = {.num_modules = MODULES, .num_components = K};
static const struct certainty_rule PAPER = {.first_logit = 1, .budget = &UNLIMITED, .seed = 7};

/* Components by themselves: one counts if its logit reaches 1/4. */
static const struct certainty_rule SINGLE = {
    .constraint = CONSTRAINT_NONE, .budget = &UNLIMITED, .seed = 7};

/* What a made trace holds in a row, from 0; all [MODULES, K] or [MODULES]. */
struct content {
    size_t num_rows;
    void (*fill)(size_t row, float *logits, float *selection, size_t *ranks);
};

static const struct trace_options OPTIONS = {.path = "trace.h5",
                                             .module_names = names,
                                             .num_modules = MODULES,
                                             .num_components = K,
                                             .input_text = "{}",
                                             .provenance = "{}",
                                             .flush_seconds = 1e9};

static int enter_folder(void **state) {
    char *folder = memory_copy_string("/tmp/autolora_test_certainty_XXXXXX");
    *state = folder;
    return mkdtemp(folder) != NULL && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state) {
    unlink("trace.h5");
    unlink("trace.h5.meta");
    const bool is_gone = chdir("/") == 0 && rmdir(*state) == 0;
    memory_free(*state);
    return is_gone && memory_blocks_now() == 0 ? 0 : -1;
}

static void add_rows(struct trace *trace, const struct content *content, size_t first,
                     size_t last) {
    struct problem problem = {0};
    for (size_t row = first; row < last; ++row) {
        float logits[SIZE] = {0}, selection[SIZE] = {0}, hypergradient[SIZE] = {0};
        size_t ranks[MODULES] = {0};
        content->fill(row, logits, selection, ranks);
        const struct trace_search_row values = {.step = row + 1,
                                                .selection = selection,
                                                .logits = logits,
                                                .hypergradient = hypergradient,
                                                .ranks = ranks};
        assert_true(trace_add_search(trace, &values, &problem));
    }
}

static struct trace *open_trace(const struct content *content) {
    struct problem problem = {0};
    struct trace *trace = trace_create(&OPTIONS, &problem);
    assert_non_null(trace);
    add_rows(trace, content, 0, content->num_rows);
    return trace;
}

static void close_trace(struct trace *trace) {
    struct problem problem = {0};
    assert_true(trace_close(&trace, &problem));
}

static struct certainty read_back(struct trace *trace, const struct certainty_rule *rule,
                                  size_t first, size_t second) {
    const size_t chosen[MODULES] = {first, second};
    struct certainty certainty;
    struct problem problem = {0};
    if (!certainty_read(rule, trace, chosen, &certainty, &problem))
        fail_msg("%s", problem.text);
    return certainty;
}

static struct certainty find(const struct content *content, const struct certainty_rule *rule,
                             size_t first, size_t second) {
    struct trace *trace = open_trace(content);
    const struct certainty certainty = read_back(trace, rule, first, second);
    close_trace(trace);
    return certainty;
}

static void assert_interval(const struct certainty *certainty, size_t module, size_t low,
                            size_t high) {
    assert_int_equal(certainty->intervals[module].low, low);
    assert_int_equal(certainty->intervals[module].high, high);
}

static void assert_share(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("%.17g, not %.17g", found, expected);
}

/* ---- logits ---- */

/* Ranks 1 and 2. */
static void fill_constant(size_t row, float *logits, float *selection, size_t *ranks) {
    (void)row;
    const float values[SIZE] = {3, 0, 0, 0, 3, 3, 0, 0};
    memcpy(logits, values, sizeof values);
    for (size_t i = 0; i < SIZE; ++i)
        selection[i] = 0.25f;
    ranks[0] = 1;
    ranks[1] = 2;
}

static void test_constant(void **state) {
    (void)state;
    struct certainty found = find(&(struct content){100, fill_constant}, &PAPER, 1, 2);
    assert_int_equal(found.num_rows, 25);
    assert_int_equal(found.stride, 1);
    assert_int_equal(found.block_length, 3); /* of 24 increments */
    assert_interval(&found, 0, 1, 1);
    assert_interval(&found, 1, 2, 2);
    assert_true(found.intervals[0].changed == 0 && found.intervals[1].changed == 0);
    assert_int_equal(certainty_num_certain(&found), 2);
    assert_int_equal(certainty_num_undecided(&found), 0);
    assert_true(found.movement == 0 && isnan(certainty_late_share(&found)));
    certainty_free(&found);
}

/* The second module's third component goes up and down with every row: rank 2 or 3. Blocks of 3
 * increments, and of 1, go up or down by one step each, with the same chance; six of them are
 * needed. From above or below they end on the other side if one way wins: 22 times of 64. */
static void fill_alternating(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_constant(row, logits, selection, ranks);
    logits[K + 2] = row % 2 == 0 ? 2.5f : 0;
}

static void test_alternating(void **state) {
    (void)state;
    for (size_t rows = 67; rows <= 68; ++rows) { /* ends at either */
        const size_t chosen = rows == 67 ? 3 : 2;
        struct certainty found =
            find(&(struct content){rows, fill_alternating}, &SINGLE, 1, chosen);
        assert_int_equal(found.num_rows, 17);
        assert_interval(&found, 0, 1, 1);
        assert_interval(&found, 1, 2, 3);
        assert_share(found.intervals[1].changed, 22.0 / 64, 0.06);
        assert_true(found.intervals[0].changed == 0);
        assert_int_equal(certainty_num_certain(&found), 1);
        certainty_free(&found);
    }
}

/* Of 16 increments one, in the middle, lifts the first module from rank 1 to 2. The second went up
 * before the last part, which must not count. */
static void fill_one_step(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_constant(row, logits, selection, ranks);
    logits[1] = row > 59 ? 3 : 0;
    logits[K + 1] = row > 50 ? 3 : 0;
}

/* Five blocks of 3 increments, which begin at 14 places, and one increment of such a block miss it.
 */
static void test_known_share(void **state) {
    (void)state;
    const double expected = pow(11.0 / 14, 5) * 13 / 14;
    const double tolerance = 4.5 * sqrt(expected * (1 - expected) / CERTAINTY_RESAMPLES);
    struct certainty_rule rule = SINGLE;
    double sum = 0, first = 0;
    bool differs = false;
    for (rule.seed = 0; rule.seed < 50; ++rule.seed) {
        struct certainty found = find(&(struct content){68, fill_one_step}, &rule, 2, 2);
        assert_interval(&found, 0, 1, 2);
        assert_interval(&found, 1, 2, 2);
        assert_share(found.intervals[0].changed, expected, tolerance);
        if (rule.seed == 0)
            first = found.intervals[0].changed;
        differs = differs || found.intervals[0].changed != first;
        sum += found.intervals[0].changed;
        certainty_free(&found);
    }
    assert_share(sum / 50, expected, tolerance / 7);
    assert_true(differs); /* by the seed */
}

/* Also where it is none of the resamples'. */
static void test_chosen_rank_is_inside(void **state) {
    (void)state;
    struct certainty found = find(&(struct content){100, fill_constant}, &PAPER, 4, 0);
    assert_interval(&found, 0, 1, 4);
    assert_interval(&found, 1, 0, 2);
    assert_true(found.intervals[0].changed == 1);
    assert_int_equal(certainty_num_undecided(&found), 2);
    certainty_free(&found);
}

/* ---- rules ---- */

static void test_rules(void **state) {
    (void)state;
    const struct content content = {100, fill_constant};
    struct certainty_rule rule = {.threshold = THRESHOLD_RAW_SUM, .constraint = CONSTRAINT_NONE};
    rule.budget = &UNLIMITED;
    struct certainty found = find(&content, &rule, 1, 2);
    assert_interval(&found, 0, 1, 1);
    assert_interval(&found, 1, 2, 2);
    certainty_free(&found);
    rule = (struct certainty_rule){.threshold = THRESHOLD_SOFTMAX, .budget = &UNLIMITED};
    rule.constraint = CONSTRAINT_SIGMOID; /* of 0: 1/2 */
    found = find(&content, &rule, 4, 4);
    assert_interval(&found, 0, 4, 4);
    certainty_free(&found);
    rule = (struct certainty_rule){.threshold = THRESHOLD_EFFECTIVE, .budget = &UNLIMITED};
    found = find(&content, &rule, 2, 2); /* exp(entropy): 1.77 and 2.38 */
    assert_interval(&found, 0, 2, 2);
    assert_interval(&found, 1, 2, 2);
    certainty_free(&found);
}

static void test_budget(void **state) {
    (void)state;
    const size_t sizes[MODULES] = {10, 10};
    struct budget budget = {
        .num_modules = MODULES, .num_components = K, .component_sizes = sizes, .total_rank = 2};
    struct certainty_rule rule = {.budget = &budget};
    const struct content content = {100, fill_constant};
    struct certainty found = find(&content, &rule, 1, 1); /* shares .87, and twice .48 */
    assert_interval(&found, 0, 1, 1);
    assert_interval(&found, 1, 1, 1);
    certainty_free(&found);
    budget.total_rank = 0;
    budget.min_rank = 3;
    found = find(&content, &rule, 3, 3);
    assert_interval(&found, 0, 3, 3);
    certainty_free(&found);
}

/* In the last 25 rows the first module has ranks 4, 3, 3 and 22 times 2; the second has one rank,
 * another than in the logits. */
static void fill_ranks(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_constant(row, logits, selection, ranks);
    ranks[0] = row == 80 ? 4 : row == 90 || row == 95 ? 3 : row < 75 ? 1 : 2;
    ranks[1] = 4;
}

static void test_ranks_of_rows(void **state) {
    (void)state;
    for (int threshold = THRESHOLD_IMPORTANCE; threshold <= THRESHOLD_SPECTRUM; ++threshold) {
        const struct certainty_rule rule = {.threshold = (enum threshold_rule)threshold,
                                            .budget = &UNLIMITED};
        struct certainty found = find(&(struct content){100, fill_ranks}, &rule, 2, 4);
        assert_int_equal(found.block_length, 0);
        assert_int_equal(found.num_rows, 25);
        assert_interval(&found, 0, 2, 3); /* places 1 and 23 of 0 to 24 */
        assert_interval(&found, 1, 4, 4);
        assert_share(found.intervals[0].changed, 3.0 / 25, 1e-15);
        assert_true(found.intervals[1].changed == 0);
        certainty_free(&found);
    }
}

/* ---- rows ---- */

static void test_few_rows(void **state) {
    (void)state;
    for (size_t rows = 0; rows <= 100; rows += rows < 20 ? 1 : 13) {
        struct certainty found = find(&(struct content){rows, fill_constant}, &PAPER, 1, 2);
        assert_int_equal(found.intervals != NULL, rows >= 3);
        const size_t quarter = (rows + 3) / 4, least = rows < 16 ? rows : 16;
        if (rows >= 3)
            assert_int_equal(found.num_rows, quarter > least ? quarter : least);
        assert_int_equal(found.num_modules, MODULES);
        const size_t increments = found.num_rows - 1; /* cubes: 2.5^3 = 15.6, 1.5^3 = 3.4 */
        if (rows >= 3 && increments < 16)
            assert_int_equal(found.block_length, increments > 3 ? 2 : 1);
        certainty_free(&found);
    }
}

/* The last part in strides, the last row among them: the jump in the very last row is seen as in
 * test_known_share, had it 625 rows. */
static void fill_late_step(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_constant(row, logits, selection, ranks);
    logits[1] = row >= 4999 ? 3 : 0;
}

static void test_many_rows(void **state) {
    (void)state;
    struct certainty found = find(&(struct content){5000, fill_late_step}, &SINGLE, 2, 2);
    assert_int_equal(found.stride, 2);
    assert_int_equal(found.num_rows, 625);
    assert_int_equal(found.block_length, 9);
    /* 624 increments: 69 blocks that begin at one of 616 places, of which one has the last
     * increment; a block of 3, which never has it. */
    const double expected = pow(615.0 / 616, 69);
    assert_share(found.intervals[0].changed, expected,
                 4 * sqrt(expected * (1 - expected) / CERTAINTY_RESAMPLES));
    certainty_free(&found);
}

static void assert_same(const struct certainty *found, const struct certainty *expected) {
    assert_int_equal(found->num_modules, expected->num_modules);
    assert_int_equal(found->num_rows, expected->num_rows);
    assert_int_equal(found->stride, expected->stride);
    assert_int_equal(found->block_length, expected->block_length);
    assert_true(found->movement == expected->movement);
    assert_true(found->late_movement == expected->late_movement);
    assert_memory_equal(found->intervals, expected->intervals, MODULES * sizeof *found->intervals);
}

/* A trace that was closed, and one cut back to a checkpoint, say the same. */
static void test_resumed(void **state) {
    (void)state;
    const struct content content = {68, fill_one_step};
    struct certainty expected = find(&content, &PAPER, 2, 2);
    for (size_t kept = 0; kept <= 68; kept += 17) {
        close_trace(open_trace(&content));
        const size_t rows[TRACE_NUM_TABLES] = {kept};
        char *warning = NULL;
        struct problem problem = {0};
        struct trace *trace = trace_continue(&OPTIONS, rows, &warning, &problem);
        assert_non_null(trace);
        assert_null(warning);
        add_rows(trace, &content, kept, content.num_rows);
        struct certainty found = read_back(trace, &PAPER, 2, 2);
        assert_same(&found, &expected);
        certainty_free(&found);
        close_trace(trace);
    }
    certainty_free(&expected);
}

/* ---- movement ---- */

/* A steady drift from the start, 1/4, in opposite directions. */
static void fill_drift(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_constant(row, logits, selection, ranks);
    for (size_t i = 0; i < SIZE; ++i)
        selection[i] = 0.25f + (i % 2 == 0 ? 1 : -1) * (float)(row + 1) * 0x1p-10f;
}

/* All of it in the first half. */
static void fill_early(size_t row, float *logits, float *selection, size_t *ranks) {
    fill_drift(row < 50 ? row : 49, logits, selection, ranks);
}

static void test_movement(void **state) {
    (void)state;
    struct certainty found = find(&(struct content){100, fill_drift}, &PAPER, 1, 2);
    assert_true(found.movement == 100 * 0x1p-10 && certainty_late_share(&found) == 0.25);
    certainty_free(&found);
    found = find(&(struct content){3, fill_drift}, &PAPER, 1, 2);
    assert_true(found.movement == 3 * 0x1p-10);
    assert_share(certainty_late_share(&found), 1.0 / 3, 1e-15);
    certainty_free(&found);
    found = find(&(struct content){100, fill_early}, &PAPER, 1, 2);
    assert_true(found.movement == 50 * 0x1p-10 && certainty_late_share(&found) == 0);
    certainty_free(&found);
}

/* ---- text ---- */

static bool parse(const char *text, struct certainty *certainty) {
    struct problem problem = {0};
    struct json *root = json_parse(text, strlen(text), "text", EXIT_DATA, &problem);
    assert_non_null(root);
    const bool is_good = certainty_parse(root, MODULES, certainty);
    json_destroy(&root);
    return is_good;
}

static void test_text(void **state) {
    (void)state;
    struct certainty expected = find(&(struct content){68, fill_one_step}, &PAPER, 2, 2), found;
    struct json *root = json_create_object();
    certainty_write(&expected, root);
    char *text = json_print(root, false);
    json_destroy(&root);
    assert_true(parse(text, &found));
    assert_same(&found, &expected);
    memory_free(text);
    certainty_free(&found);
    certainty_free(&expected);
}

#define HEAD                                                                                       \
    "{\"rows\": 17, \"stride\": 1, \"block_length\": 3, \"movement\": 0.5, "                       \
    "\"movement_last_quarter\": 0.1"

static void test_bad_text(void **state) {
    (void)state;
    struct certainty certainty;
    assert_true(parse(HEAD ", \"intervals\": [[1, 2, 0.5], [0, 65536, 1]]}", &certainty));
    certainty_free(&certainty);
    const char *const bad[] = {
        "[]",
        "{}",
        HEAD "}",
        HEAD ", \"intervals\": {}}",
        HEAD ", \"intervals\": 3}",
        HEAD ", \"intervals\": [[1, 2, 0.5]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [1, 2, 0.5], [1, 2, 0.5]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [2, 1, 0.5]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [1, 2]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], 1]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [1, 2, \"x\"]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [1, 2, 1.5]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [1, 65537, 0.5]]}",
        HEAD ", \"intervals\": [[1, 2, 0.5], [-1, 2, 0.5]]}",
        "{\"rows\": 17, \"stride\": 1, \"block_length\": 3, \"movement\": null, "
        "\"movement_last_quarter\": 0.1, \"intervals\": [[1, 2, 0.5], [1, 2, 0.5]]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i)
        if (parse(bad[i], &certainty))
            fail_msg("accepted: %s", bad[i]);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_constant),      IN_FOLDER(test_alternating),
        IN_FOLDER(test_known_share),   IN_FOLDER(test_chosen_rank_is_inside),
        IN_FOLDER(test_rules),         IN_FOLDER(test_budget),
        IN_FOLDER(test_ranks_of_rows), IN_FOLDER(test_few_rows),
        IN_FOLDER(test_many_rows),     IN_FOLDER(test_resumed),
        IN_FOLDER(test_movement),      IN_FOLDER(test_text),
        IN_FOLDER(test_bad_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
