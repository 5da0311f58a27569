/* Input files: defaults, overrides, every kind of mistake and its words, the effective input; and
 * the reading of a model's config.json with every refusal. */
#include "config.h"

#include "base/memory.h"
#include "config_keys.h"
#include "io/dataset.h"
#include "io/file.h"
#include "model/selection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The required keys, and room for more sections. */
#define INPUT(more)                                                                                \
    "{\"model\": {\"path\": \"m\"}, \"task\": {\"name\": \"cola\", \"data_dir\": \"d\"}" more "}"

static struct config config;
static struct problem problem;
static size_t blocks_before;

static int begin(void **state) {
    (void)state;
    problem = (struct problem){0};
    blocks_before = memory_blocks_now();
    return 0;
}

static int end(void **state) {
    (void)state;
    config_free(&config);
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

/* Parses with a list of overrides that ends with NULL. */
static bool parse(const char *text, const char *const *overrides) {
    size_t count = 0;
    while (overrides != NULL && overrides[count] != NULL)
        ++count;
    return config_parse(&config, text, strlen(text), "in.json", overrides, count, &problem);
}

static void assert_parses(const char *text, const char *const *overrides) {
    config_free(&config);
    problem = (struct problem){0};
    if (!parse(text, overrides))
        fail_msg("%s", problem.text);
    assert_int_equal(problem.exit_code, 0);
}

static void assert_refused(const char *text, const char *const *overrides, const char *message) {
    config_free(&config);
    problem = (struct problem){0};
    assert_false(parse(text, overrides));
    assert_int_equal(problem.exit_code, EXIT_USAGE);
    assert_string_equal(problem.text, message);
}

static void test_defaults(void **state) {
    (void)state;
    assert_parses(INPUT(""), NULL);
    assert_string_equal(config.run.name, "run");
    assert_string_equal(config.run.output_dir, "outputs/run");
    assert_int_equal(config.run.seed, 1);
    assert_true(config.model.hidden_dropout == -1 && config.model.attention_dropout == -1);
    assert_int_equal(config.task.kind, TASK_SEQUENCE_CLASSIFICATION);
    assert_string_equal(config.task.train_file, "");
    assert_int_equal(config.task.max_length, 128);
    assert_int_equal(config.adapter.method, METHOD_AUTOLORA);
    assert_int_equal(config.adapter.rank, 8);
    assert_true(config.adapter.mean_rank == 0 && config.adapter.rank_max == 0);
    assert_true(config.adapter.initial_rank == 0 && config.adapter.allocate_every == 10);
    assert_true(config.adapter.warmup_share == 0.1 && config.adapter.final_share == 0.3);
    assert_true(config.adapter.importance_beta1 == 0.85 && config.adapter.importance_beta2 == 0.85);
    assert_true(config.adapter.orthogonality == 0.1);
    assert_true(config.search.target_mean_rank == 0);
    assert_true(config.search.min_rank == 0 && config.search.max_parameters == 0);
    for (size_t i = 0; i < NUM_PROJECTIONS; ++i)
        assert_int_equal(config.adapter.is_target[i],
                         i == PROJECTION_QUERY || i == PROJECTION_VALUE);
    assert_true(config.search.is_meta && config.retrain.evaluates_each_epoch);
    assert_true(config.search.selection_learning_rate == 3e-4);
    assert_true(config.search.validation_fraction == 0.3);
    assert_int_equal(config.search.constraint, CONSTRAINT_SOFTMAX);
    assert_true(config.optimizer.learning_rate == 1e-3 && config.optimizer.epsilon == 1e-8);
    assert_int_equal(config.optimizer.schedule, SCHEDULE_LINEAR);
    assert_int_equal(config.parallel.replicas, 1);
    assert_int_equal(config.parallel.num_grid, 2);
    assert_int_equal(config.parallel.grid[0], 1);
    assert_int_equal(config.parallel.grid[1], 1);
    assert_null(config.parallel.layout);
    assert_int_equal(config.parallel.num_layout, 0);
    assert_int_equal(config.output.trace_every, 1);
}

static void test_values(void **state) {
    (void)state;
    assert_parses("{\"run\": {\"name\": \"\\u00e9 \\\"x\\\"\", \"output_dir\": \"/o\"},"
                  "\"model\": {\"path\": \"m\", \"hidden_dropout\": 0},"
                  "\"task\": {\"kind\": \"token_classification\", \"name\": \"ner\","
                  "           \"data_dir\": \"d\", \"max_length\": 1e2},"
                  "\"adapter\": {\"method\": \"lora\", \"targets\": [\"output\", \"key\"]},"
                  "\"search\": {\"recipe\": \"reference\", \"meta\": false},"
                  "\"parallel\": {\"layout\": [3, 0, 9]}}",
                  NULL);
    assert_string_equal(config.run.name, "\xc3\xa9 \"x\"");
    assert_string_equal(config.run.output_dir, "/o");
    assert_true(config.model.hidden_dropout == 0);
    assert_int_equal(config.task.kind, TASK_TOKEN_CLASSIFICATION);
    assert_int_equal(config.task.max_length, 100);
    assert_int_equal(config.adapter.method, METHOD_LORA);
    assert_true(config.adapter.is_target[PROJECTION_OUTPUT]);
    assert_true(config.adapter.is_target[PROJECTION_KEY]);
    assert_false(config.adapter.is_target[PROJECTION_QUERY]);
    assert_int_equal(config.search.recipe, RECIPE_REFERENCE);
    assert_false(config.search.is_meta);
    assert_int_equal(config.parallel.num_layout, 3);
    assert_int_equal(config.parallel.layout[2], 9);
}

/* A preset changes defaults: what is given wins, and the effective input can be fed back. */
static void test_preset(void **state) {
    (void)state;
    assert_parses(INPUT(""), (const char *const[]){"search.preset=robust", NULL});
    assert_int_equal(config.search.preset, PRESET_ROBUST);
    assert_int_equal(config.search.threshold_rule, THRESHOLD_SPECTRUM);
    assert_true(config.search.selection_learning_rate == 0.01);
    assert_true(config.search.importance_threshold == 0.3);
    assert_parses(INPUT(", \"search\": {\"selection_lr\": 0.5, \"preset\": \"robust\"}"),
                  (const char *const[]){"search.threshold_rule=effective", NULL});
    assert_int_equal(config.search.threshold_rule, THRESHOLD_EFFECTIVE);
    assert_true(config.search.selection_learning_rate == 0.5);
    assert_parses(INPUT(""), (const char *const[]){"search.preset=paper", NULL});
    assert_int_equal(config.search.threshold_rule, THRESHOLD_SOFTMAX);
    assert_refused(INPUT(""), (const char *const[]){"search.preset=best", NULL},
                   "--set: search.preset: expected one of paper, robust, found \"best\"");
}

static void test_kind_follows_name(void **state) {
    (void)state;
    assert_parses(INPUT(""), (const char *const[]){"task.name=webnlg", NULL});
    assert_int_equal(config.task.kind, TASK_LANGUAGE_MODELING);
    assert_parses(INPUT(""), (const char *const[]){"task.name=ner", NULL});
    assert_int_equal(config.task.kind, TASK_TOKEN_CLASSIFICATION);
    assert_parses(INPUT(""), (const char *const[]){"task.name=stsb", NULL});
    assert_int_equal(config.task.kind, TASK_SEQUENCE_CLASSIFICATION);
    assert_refused(INPUT(""), (const char *const[]){"task.kind=token_classification", NULL},
                   "--set: task.kind: expected sequence_classification, as task.name is cola, "
                   "found token_classification");
}

static void test_overrides(void **state) {
    (void)state;
    assert_parses(INPUT(", \"adapter\": {\"rank\": \"wrong, but replaced\"}"),
                  (const char *const[]){
                      "adapter.rank=2", "adapter.rank=4", "run.name=2024", "model.path=\"a b\"",
                      "task.dev_file=", "search.constraint=none", "parallel.layout=[1,2]",
                      "run.output_dir=a=b", "search.meta=false", NULL});
    assert_int_equal(config.adapter.rank, 4);
    assert_string_equal(config.run.name, "2024");
    assert_string_equal(config.model.path, "a b");
    assert_string_equal(config.task.dev_file, "");
    assert_int_equal(config.search.constraint, CONSTRAINT_NONE);
    assert_int_equal(config.parallel.num_layout, 2);
    assert_string_equal(config.run.output_dir, "a=b");
    assert_false(config.search.is_meta);
}

static void test_bad_overrides(void **state) {
    (void)state;
    assert_refused(INPUT(""),
                   (const char *const[]){"adapter.rank", "=3", "", "search=3", "search.step=3",
                                         "adapter.rank=many", "nothing.like_it=1", "run.name=\xff",
                                         NULL},
                   "--set: adapter.rank: expected key.path=value, found no \"=\"\n"
                   "--set: =3: expected key.path=value, found no key\n"
                   "--set: : expected key.path=value, found no \"=\"\n"
                   "--set: search: expected a key, found a section (set its keys singly)\n"
                   "--set: search.step: unknown key, did you mean search.steps?\n"
                   "--set: nothing.like_it: unknown key (`autolora keys` lists them all)\n"
                   "--set: run.name: expected UTF-8\n"
                   "--set: adapter.rank: expected an integer 1 .. 4096, found \"many\"");
}

static void test_malformed_text(void **state) {
    (void)state;
    assert_refused("", NULL, "in.json: not valid JSON at line 1, column 1");
    assert_refused("{\n  \"run\": }", NULL, "in.json: not valid JSON at line 2, column 10");
    assert_refused(INPUT("") " x", NULL,
                   "in.json: not valid JSON at line 1, column 69 (text after the end of the "
                   "value)");
    assert_refused("[1]", NULL, "in.json: expected an object {...} of sections, found array");
    assert_refused("{\"run\": {\"seed\": 1, \"seed\": 2}}", NULL,
                   "in.json: the name \"seed\" is given twice in one object");
}

static void test_unknown_names(void **state) {
    (void)state;
    assert_refused(INPUT(", \"serach\": {}, \"Run\": {}, \"rank\": 3, \"zzzzzz\": 1,"
                         "\"adapter\": {\"rnk\": 8, \"lr\": 1, \"zzzzzz\": 2, \"Rank\": 3}"),
                   NULL,
                   "in.json: serach: unknown section, did you mean search?\n"
                   "in.json: Run: unknown section, did you mean run?\n"
                   "in.json: rank: unknown section, did you mean adapter.rank?\n"
                   "in.json: zzzzzz: unknown section (`autolora keys` lists them all)\n"
                   "in.json: adapter.rnk: unknown key, did you mean adapter.rank?\n"
                   "in.json: adapter.lr: unknown key, did you mean optimizer.lr?\n"
                   "in.json: adapter.zzzzzz: unknown key (`autolora keys` lists them all)\n"
                   "in.json: adapter.Rank: unknown key, did you mean adapter.rank?");
}

static void test_all_mistakes_together(void **state) {
    (void)state;
    assert_refused("{\"task\": {\"name\": \"imdb\", \"data_dir\": \"\", \"max_length\": 2},"
                   " \"search\": 3, \"retrain\": {\"epochs\": 0, \"evaluate_every_epoch\": 1},"
                   " \"modle\": {}}",
                   (const char *const[]){"optimizer.beta1=1", NULL},
                   "in.json: search: expected an object {...}, found 3\n"
                   "in.json: modle: unknown section, did you mean model?\n"
                   "in.json: model.path: expected a string, not empty, found nothing\n"
                   "in.json: task.name: expected one of cola, sst2, mrpc, rte, stsb, qnli, "
                   "qqp, mnli, wnli, ner, e2e, webnlg, found \"imdb\"\n"
                   "in.json: task.data_dir: expected a string, not empty, found \"\"\n"
                   "in.json: task.max_length: expected an integer 3 .. 65536, found 2\n"
                   "in.json: retrain.epochs: expected a number (0, 1000000], found 0\n"
                   "in.json: retrain.evaluate_every_epoch: expected true or false, found 1\n"
                   "--set: optimizer.beta1: expected a number [0, 1), found 1");
    assert_null(config.task.name);
}

/* One value that its key refuses, given as an override. */
static void assert_value_refused(const char *key, const char *value, const char *message) {
    char *override = memory_format("%s=%s", key, value);
    char *expected = memory_format("--set: %s: %s", key, message);
    assert_refused(INPUT(""), (const char *const[]){override, NULL}, expected);
    memory_free(override);
    memory_free(expected);
}

static void test_numbers(void **state) {
    (void)state;
    const char *seed = "expected an integer >= 0, less than 2^53, found ";
    assert_value_refused("adapter.rank", "8.5", "expected an integer 1 .. 4096, found 8.5");
    assert_value_refused("adapter.rank", "0", "expected an integer 1 .. 4096, found 0");
    assert_value_refused("adapter.rank", "4097", "expected an integer 1 .. 4096, found 4097");
    assert_value_refused("adapter.rank", "\"8\"", "expected an integer 1 .. 4096, found \"8\"");
    assert_value_refused("adapter.rank", "true", "expected an integer 1 .. 4096, found true");
    assert_value_refused("adapter.rank", "null", "expected an integer 1 .. 4096, found null");
    assert_value_refused("adapter.rank", "NaN", "expected an integer 1 .. 4096, found \"NaN\"");
    char *huge = memory_format("%s9007199254740992", seed);
    assert_value_refused("run.seed", "9007199254740992", huge);
    assert_value_refused("run.seed", "9007199254740993", huge);
    memory_free(huge);
    char *negative = memory_format("%s-1", seed);
    assert_value_refused("run.seed", "-1", negative);
    memory_free(negative);
    assert_parses(INPUT(""), (const char *const[]){"run.seed=9007199254740991", NULL});
    assert_true(config.run.seed == 9007199254740991u);

    assert_value_refused("adapter.alpha", "0", "expected a number > 0, found 0");
    assert_value_refused("adapter.alpha", "1e400",
                         "expected a number > 0, found a number too large to represent");
    assert_value_refused("adapter.alpha", "[1]", "expected a number > 0, found [1]");
    assert_value_refused("model.hidden_dropout", "-0.5",
                         "expected a number [0, 1) or -1, found -0.5");
    assert_value_refused("model.hidden_dropout", "1", "expected a number [0, 1) or -1, found 1");
    assert_value_refused("adapter.dropout", "-1", "expected a number [0, 1), found -1");
    assert_value_refused("search.validation_fraction", "0.95",
                         "expected a number [0.01, 0.9], found 0.95");
    assert_value_refused("search.selection_initial", "-1e400",
                         "expected a number, found a number too large to represent");
}

static void test_lists_and_choices(void **state) {
    (void)state;
    const char *targets = "expected a list, not empty, of different names of query, key, value, "
                          "attention_output, intermediate, output, found ";
    static const char *const bad[] = {"[]", "[\"query\",\"query\"]", "[\"quary\"]", "[1]",
                                      "\"query\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        char *message = memory_format("%s%s", targets, bad[i]);
        assert_value_refused("adapter.targets", bad[i], message);
        memory_free(message);
    }
    assert_value_refused("parallel.grid", "[2]", "expected two numbers, [rows, columns], found 1");
    assert_value_refused("parallel.grid", "[0,1]",
                         "expected a list of integers 1 .. 4096, found [0,1]");
    assert_value_refused("parallel.layout", "[1,-2]",
                         "expected a list of integers 0 .. 65536, found [1,-2]");
    assert_value_refused("parallel.layout", "[1,\"2\"]",
                         "expected a list of integers 0 .. 65536, found [1,\"2\"]");
    assert_value_refused("parallel.layout", "3", "expected a list of integers 0 .. 65536, found 3");
    assert_value_refused(
        "adapter.method", "LoRA",
        "expected one of autolora, lora, random, adalora, full, adapter, found \"LoRA\"");
    assert_value_refused("task.kind", "translation",
                         "expected one of sequence_classification, token_classification, "
                         "language_modeling, found \"translation\"");
    assert_refused(
        INPUT(", \"adapter\": {\"method\": \"adalora\", \"ranks_from\": \"r.json\"}"), NULL,
        "in.json: adapter.ranks_from: expected none, as adapter.method adalora finds the "
        "ranks itself");
    assert_value_refused("adapter.method", "1",
                         "expected one of autolora, lora, random, adalora, full, adapter, found 1");
    assert_refused(INPUT(", \"run\": {\"name\": 5}"), NULL,
                   "in.json: run.name: expected a string, not empty, found 5");
    assert_value_refused("search.meta", "\"true\"", "expected true or false, found \"true\"");
    /* Cut to 60 bytes at most, between characters. */
    assert_value_refused(
        "search.meta", "0123456789012345678901234567890123456789012345678901234567\xc3\xb6\xc3\xb6",
        "expected true or false, found "
        "\"0123456789012345678901234567890123456789012345678901234567...");
}

/* More mistakes than a problem holds: whole lines, then how many are missing. */
static void test_too_many_mistakes(void **state) {
    (void)state;
    enum { COUNT = 200 };
    char text[COUNT * 24] = "{\"run\": {";
    for (int i = 0; i < COUNT; ++i)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\"unheard_of_%d\": 1",
                 i > 0 ? "," : "", i);
    strcat(text, "}}");
    assert_false(parse(text, NULL));
    size_t lines = 1;
    for (const char *at = problem.text; *at != '\0'; ++at)
        lines += *at == '\n';
    char last[64];
    snprintf(last, sizeof last, "\n... and %zu more", COUNT + 3 - (lines - 1));
    assert_non_null(strstr(problem.text, last));
    assert_true(strlen(problem.text) < PROBLEM_TEXT_BYTES - 1);
}

/* What is printed reads back as the same configuration. */
static void assert_round_trip(void) {
    char *first = config_print(&config);
    assert_parses(first, NULL);
    char *second = config_print(&config);
    assert_string_equal(first, second);
    memory_free(first);
    memory_free(second);
}

static void test_round_trip(void **state) {
    (void)state;
    assert_parses(INPUT(""), (const char *const[]){"search.preset=robust", NULL});
    assert_round_trip();
    assert_parses(INPUT(""), NULL);
    assert_round_trip();
    assert_int_equal(config.task.kind, TASK_SEQUENCE_CLASSIFICATION);

    assert_parses(INPUT(""),
                  (const char *const[]){
                      "task.name=ner", "run.seed=9007199254740991",
                      "optimizer.lr=0.1000000000000000055511151231257827",
                      "optimizer.epsilon=4.9406564584124654e-324",
                      "search.selection_initial=-1.7976931348623157e308",
                      "adapter.alpha=0.30000000000000004", "parallel.layout=[4,5,3]",
                      "adapter.targets=[\"output\",\"value\"]", "search.meta=false",
                      "search.hypergradient=first_order", "model.hidden_dropout=0.1",
                      "run.name=\"a\\\"b\\\\c\\n\\u0001\\u20ac/d\"", "retrain.epochs=2.5", NULL});
    assert_round_trip();
    assert_true(config.run.seed == 9007199254740991u);
    assert_true(config.optimizer.learning_rate == 0.1);
    assert_true(config.optimizer.epsilon == 4.9406564584124654e-324);
    assert_true(config.search.selection_initial == -1.7976931348623157e308);
    assert_true(config.adapter.alpha == 0.30000000000000004);
    assert_int_equal(config.parallel.layout[1], 5);
    assert_string_equal(config.run.name, "a\"b\\c\n\x01\xe2\x82\xac/d");
    assert_string_equal(config.run.output_dir, "outputs/a\"b\\c\n\x01\xe2\x82\xac/d");
}

/* Each key appears once on the page, with its meaning; sections do not come twice. */
static void test_keys_page(void **state) {
    (void)state;
    char *page = NULL;
    size_t size, count;
    FILE *stream = open_memstream(&page, &size);
    config_print_keys(stream);
    fclose(stream);
    const struct config_key *keys = config_keys(&count);
    size_t sections = 0;
    for (size_t i = 0; i < count; ++i) {
        char *cell = memory_format("| `%s` |", keys[i].path);
        const char *found = strstr(page, cell);
        assert_non_null(found);
        assert_null(strstr(found + 1, cell));
        assert_true(strlen(keys[i].help) > 10 && strchr(keys[i].help, '|') == NULL);
        memory_free(cell);
    }
    for (const char *at = page; (at = strstr(at, "\n## ")) != NULL; ++at)
        ++sections;
    assert_int_equal(sections, 9);
    free(page);
}

/* ---- config.json of a model ---- */

static char folder[] = "/tmp/autolora_test_config_XXXXXX";
static char *model_path;
static struct architecture architecture;

static int make_folder(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    model_path = file_join(folder, "config.json");
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(model_path);
    rmdir(folder);
    memory_free(model_path);
    return memory_blocks_now() == 0 ? 0 : -1;
}

static bool read_model(const char *text) {
    FILE *stream = fopen(model_path, "w");
    assert_non_null(stream);
    fputs(text, stream);
    assert_int_equal(fclose(stream), 0);
    problem = (struct problem){0};
    return config_read_architecture(folder, &architecture, &problem);
}

/* A good config.json with one key's text replaced (NULL: left out). */
static bool read_model_with(const char *key, const char *value) {
    static const char *const lines[][2] = {
        {"model_type", "\"bert\""},
        {"hidden_act", "\"gelu\""},
        {"vocab_size", "30522"},
        {"hidden_size", "768"},
        {"num_hidden_layers", "12"},
        {"num_attention_heads", "12"},
        {"intermediate_size", "3072"},
        {"max_position_embeddings", "512"},
        {"type_vocab_size", "2"},
        {"layer_norm_eps", "1e-12"},
        {"hidden_dropout_prob", "0.2"},
        {"attention_probs_dropout_prob", "0"},
        {"position_embedding_type", "\"absolute\""},
        {"is_decoder", "false"},
        {"architectures", "[\"BertForMaskedLM\"]"},
    };
    char text[2048] = "{\"unused\": null";
    for (size_t i = 0; i < sizeof lines / sizeof *lines; ++i) {
        const char *written = strcmp(lines[i][0], key) == 0 ? value : lines[i][1];
        if (written != NULL)
            snprintf(text + strlen(text), sizeof text - strlen(text), ",\n\"%s\": %s", lines[i][0],
                     written);
    }
    strcat(text, "}");
    return read_model(text);
}

static void assert_model_refused(const char *key, const char *value, const char *message) {
    assert_false(read_model_with(key, value));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    char *expected = memory_format("%s: %s: %s", model_path, key, message);
    assert_string_equal(problem.text, expected);
    memory_free(expected);
}

static void test_architecture(void **state) {
    (void)state;
    assert_true(read_model_with("", ""));
    assert_int_equal(architecture.vocabulary_size, 30522);
    assert_int_equal(architecture.hidden_size, 768);
    assert_int_equal(architecture.num_blocks, 12);
    assert_int_equal(architecture.num_attention_heads, 12);
    assert_int_equal(architecture.intermediate_size, 3072);
    assert_int_equal(architecture.max_positions, 512);
    assert_int_equal(architecture.num_token_types, 2);
    assert_true(architecture.layer_norm_epsilon == 1e-12f);
    assert_true(architecture.hidden_dropout == 0.2f && architecture.attention_dropout == 0);
    assert_true(read_model_with("position_embedding_type", NULL));
    assert_true(read_model_with("is_decoder", NULL));
    assert_true(read_model_with("hidden_dropout_prob", NULL));
    assert_true(architecture.hidden_dropout == 0.1f);
    assert_true(read_model_with("attention_probs_dropout_prob", NULL));
    assert_true(architecture.attention_dropout == 0.1f);
}

static void test_unsupported_models(void **state) {
    (void)state;
    static const char families[] = "expected \"bert\", \"roberta\" or \"gpt2\", found ";
    static const char activations[] =
        "expected \"gelu\", \"gelu_new\", \"gelu_fast\" or \"gelu_pytorch_tanh\", found ";
    static const char *const cases[][3] = {
        {"model_type", "\"t5\"", families}, {"model_type", NULL, families},
        {"model_type", "7", families},      {"hidden_act", "\"relu\"", activations},
        {"hidden_act", NULL, activations},  {"hidden_act", "1", activations},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        char *message =
            memory_format("%s%s", cases[i][2], cases[i][1] != NULL ? cases[i][1] : "nothing");
        assert_model_refused(cases[i][0], cases[i][1], message);
        memory_free(message);
    }
    assert_model_refused("position_embedding_type", "\"relative_key\"",
                         "expected \"absolute\" (nothing else is supported), found "
                         "\"relative_key\"");
    assert_model_refused("position_embedding_type", "null",
                         "expected \"absolute\" (nothing else is supported), found null");
    assert_model_refused("is_decoder", "true",
                         "expected false (only encoders are supported), found true");
}

static void test_bad_sizes(void **state) {
    (void)state;
    static const char *const sizes[] = {"vocab_size",        "hidden_size",
                                        "num_hidden_layers", "num_attention_heads",
                                        "intermediate_size", "max_position_embeddings",
                                        "type_vocab_size"};
    static const char *const bad[] = {NULL, "0", "-1", "1.5", "16777217", "\"2\"", "null"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i)
        for (size_t j = 0; j < sizeof bad / sizeof *bad; ++j) {
            char *message = memory_format("expected an integer 1 .. 16777216, found %s",
                                          bad[j] != NULL ? bad[j] : "nothing");
            assert_model_refused(sizes[i], bad[j], message);
            memory_free(message);
        }
    assert_model_refused("num_attention_heads", "7",
                         "expected a divisor of the hidden size, which is 768, found 7");
}

static void test_roberta_and_gpt2(void **state) {
    (void)state;
    assert_true(read_model_with("model_type", "\"roberta\""));
    assert_int_equal(architecture.family, FAMILY_ROBERTA);
    assert_int_equal(architecture.first_position, 2);
    assert_int_equal(architecture_longest(&architecture), 510);
    assert_false(read_model("{\"model_type\": \"roberta\", \"pad_token_id\": 7, \"vocab_size\": 9, "
                            "\"hidden_size\": 4, \"num_hidden_layers\": 1, "
                            "\"num_attention_heads\": 1, \"intermediate_size\": 4, "
                            "\"max_position_embeddings\": 8, \"type_vocab_size\": 1, "
                            "\"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-5}"));
    assert_non_null(strstr(problem.text, "expected more than pad_token_id + 1, found 8"));
    assert_true(read_model("{\"model_type\": \"gpt2\", \"vocab_size\": 50257, \"n_embd\": 768, "
                           "\"n_layer\": 12, \"n_head\": 12, \"n_positions\": 1024, "
                           "\"n_inner\": null, \"layer_norm_epsilon\": 1e-5, "
                           "\"attn_pdrop\": 0.3, \"resid_pdrop\": 0.2}"));
    assert_int_equal(architecture.family, FAMILY_GPT2);
    assert_int_equal(architecture.intermediate_size, 3072);
    assert_int_equal(architecture.num_token_types, 0);
    assert_int_equal(architecture.activation, ACTIVATION_GELU_TANH);
    assert_true(architecture.is_head_tied && !architecture.scales_attention_by_block);
    assert_true(architecture.hidden_dropout == 0.2f && architecture.attention_dropout == 0.3f &&
                architecture.embedding_dropout == 0.1f);
    assert_false(read_model("{\"model_type\": \"gpt2\", \"scale_attn_weights\": false}"));
    assert_non_null(strstr(problem.text, "scale_attn_weights"));
    assert_non_null(strstr(problem.text, "n_embd"));
}

static void test_bad_rates(void **state) {
    (void)state;
    const char *epsilon =
        "expected a number in (0, 1), 1e-12 for the published BERT models, found ";
    static const char *const bad_epsilon[] = {NULL, "0", "-1e-12", "1", "1e-60", "\"1e-12\""};
    for (size_t i = 0; i < sizeof bad_epsilon / sizeof *bad_epsilon; ++i) {
        char *message =
            memory_format("%s%s", epsilon, bad_epsilon[i] != NULL ? bad_epsilon[i] : "nothing");
        assert_model_refused("layer_norm_eps", bad_epsilon[i], message);
        memory_free(message);
    }
    static const char *const bad_dropout[] = {"1", "-0.1", "null", "\"0.1\""};
    for (size_t i = 0; i < sizeof bad_dropout / sizeof *bad_dropout; ++i) {
        char *message = memory_format("expected a number in [0, 1), found %s", bad_dropout[i]);
        assert_model_refused("hidden_dropout_prob", bad_dropout[i], message);
        assert_model_refused("attention_probs_dropout_prob", bad_dropout[i], message);
        memory_free(message);
    }
}

static void test_unreadable_model(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"model_type\": \"bert\",", "[]",
                                        "{\"model_type\": \"bert\", \"model_type\": \"bert\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        assert_false(read_model(texts[i]));
        assert_int_equal(problem.exit_code, EXIT_DATA);
        assert_non_null(strstr(problem.text, model_path));
    }
    /* All that is missing is listed at once. */
    assert_false(read_model("{\"model_type\": \"bert\"}"));
    assert_non_null(strstr(problem.text, "hidden_act"));
    assert_non_null(strstr(problem.text, "vocab_size"));
    assert_non_null(strstr(problem.text, "layer_norm_eps"));
    unlink(model_path);
    problem = (struct problem){0};
    assert_false(config_read_architecture(folder, &architecture, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    assert_non_null(strstr(problem.text, model_path));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_values),
        TEST(test_preset),
        TEST(test_kind_follows_name),
        TEST(test_overrides),
        TEST(test_bad_overrides),
        TEST(test_malformed_text),
        TEST(test_unknown_names),
        TEST(test_all_mistakes_together),
        TEST(test_numbers),
        TEST(test_lists_and_choices),
        TEST(test_too_many_mistakes),
        TEST(test_round_trip),
        TEST(test_keys_page),
        TEST(test_architecture),
        TEST(test_unsupported_models),
        TEST(test_roberta_and_gpt2),
        TEST(test_bad_sizes),
        TEST(test_bad_rates),
        TEST(test_unreadable_model),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
