/* Generation against transformers' generate, token for token, on a tiny GPT-2 with adapters.
 * mpi_ranks: 1 2 3 4 */
#include "fixture.h"
#include "train/generate.h"

#include <mpi.h>

static struct comms comms;

/* This rank's stage: block s, the last stage the rest. */
static struct stage *stage_of(const struct fixture *fixture, size_t *ranks, float *scales) {
    const size_t blocks = fixture->architecture.num_blocks, first = (size_t)comms.stages.mpi_rank;
    const bool is_last = comms.stages.mpi_rank == comms.stages.size - 1;
    const int64_t *plain = fixture_integers(fixture, NULL, "plain", "ranks");
    for (size_t m = 0; m < json_count(json_get(fixture->description, "modules")); ++m) {
        ranks[m] = (size_t)plain[m];
        scales[m] = (float)fixture->lora_alpha / (float)(ranks[m] + !ranks[m]);
    }
    struct stage_options options = {
        .architecture = fixture->architecture,
        .adapters = {.is_target = {true, true, true, true, true, true},
                     .ranks = ranks,
                     .scales = scales},
        .head_kind = HEAD_LANGUAGE_MODELING,
        .first_block = first,
        .num_blocks = is_last ? blocks - first : 1,
        .has_embedding = comms.stages.mpi_rank == 0,
        .has_task_head = is_last,
    };
    struct stage *stage = stage_create(&options);
    fixture_load_stage(fixture, stage);
    return stage;
}

static struct lm_references contexts_of(const struct json *prompts) {
    struct lm_references contexts = {
        .count = json_count(prompts),
        .context_offsets = memory_allocate(json_count(prompts) + 1, sizeof(size_t), "contexts"),
        .context_ids = memory_allocate(1024, sizeof(int32_t), "contexts"),
    };
    size_t context = 0, at = 0;
    for (const struct json *p = json_first(prompts); p != NULL; p = json_next(p)) {
        for (const struct json *id = json_first(p); id != NULL; id = json_next(id))
            contexts.context_ids[at++] = (int32_t)json_number(id);
        contexts.context_offsets[++context] = at;
    }
    return contexts;
}

static void compare(const struct generated *generated, const struct json *texts) {
    size_t i = 0;
    assert_int_equal(generated->count, json_count(texts));
    for (const struct json *text = json_first(texts); text != NULL; text = json_next(text), ++i) {
        size_t at = generated->offsets[i];
        assert_int_equal(generated->offsets[i + 1] - at, json_count(text));
        for (const struct json *id = json_first(text); id != NULL; id = json_next(id))
            assert_int_equal(generated->tokens[at++], (int32_t)json_number(id));
    }
}

static void check_case(const struct fixture *fixture, const struct json *root,
                       const struct json *one, size_t prompts_at_once) {
    const size_t modules = json_count(json_get(fixture->description, "modules"));
    size_t *ranks = memory_allocate(modules, sizeof *ranks, "ranks");
    float *scales = memory_allocate(modules, sizeof *scales, "scales");
    struct stage *stage = stage_of(fixture, ranks, scales);
    float *factors = fixture_factors(fixture, &stage->factors, "plain.");
    struct lm_references contexts = contexts_of(json_get(root, "prompts"));
    struct generation_options options = {
        .beam = {.num_beams = fixture_size(one, "num_beams"),
                 .max_new_tokens = fixture_size(one, "max_new_tokens"),
                 .length_penalty = json_number(json_get(one, "length_penalty"))},
        .prompts_at_once = prompts_at_once,
        .num_threads = 8,
    };
    const struct json *ends = json_get(root, "end_tokens");
    for (const struct json *end = json_first(ends); end != NULL; end = json_next(end))
        options.beam.end_tokens[options.beam.num_end_tokens++] = (int32_t)json_number(end);
    const struct point point = {factors, NULL};
    struct generated generated;
    struct problem problem = {0};
    assert_true(generate_texts(&comms, stage, &point, &options, &contexts, &generated, &problem));
    if (comms.world.mpi_rank == 0) {
        compare(&generated, json_get(one, "texts"));
        assert_int_equal(generated.num_tokens, generated.offsets[generated.count]);
    }
    generated_free(&generated);
    options.beam.max_new_tokens = 1000;
    assert_false(generate_texts(&comms, stage, &point, &options, &contexts, &generated, &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    lm_references_free(&contexts);
    memory_free(factors);
    stage_destroy(&stage);
    memory_free(ranks);
    memory_free(scales);
}

static void test_texts_equal_those_of_transformers(void **state) {
    (void)state;
    struct fixture fixture = fixture_open("gpt2-language");
    struct json *root = fixture_json("generate", "cases.json");
    const struct json *cases = json_get(root, "cases");
    struct layout layout = {1, 0, 1, 1};
    for (; layout.replicas <= (size_t)comms.world.size; ++layout.replicas) {
        layout.stages = (size_t)comms.world.size / layout.replicas;
        if (layout_num_ranks(&layout) != (size_t)comms.world.size ||
            layout.stages > fixture.architecture.num_blocks)
            continue;
        comms_split(&comms, &layout);
        for (const struct json *one = json_first(cases); one != NULL; one = json_next(one))
            for (size_t prompts = 1; prompts <= 4; ++prompts)
                check_case(&fixture, root, one, prompts);
        comms_free(&comms);
    }
    json_destroy(&root);
    fixture_close(&fixture);
    assert_int_equal(memory_blocks_now(), 0);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    comms = comms_of(MPI_COMM_WORLD);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts_equal_those_of_transformers)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
