/* Checkpoints in several files: what the index says, and what it must not say. */
#include "io/file.h"
#include "io/weights.h"
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[64];
static const char *const FILES[] = {"one.safetensors", "two.safetensors",
                                    "model.safetensors.index.json", "model.safetensors"};
enum { NUM_FILES = sizeof FILES / sizeof *FILES };

static int open_directory(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/test_shards.XXXXXX");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int close_directory(void **state) {
    (void)state;
    for (size_t i = 0; i < NUM_FILES; ++i) {
        char *path = file_join(directory, FILES[i]);
        unlink(path);
        memory_free(path);
    }
    return rmdir(directory) == 0 && memory_blocks_now() == 0 ? 0 : -1;
}

static void write_file(const char *name, const void *bytes, size_t size) {
    char *path = file_join(directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    memory_free(path);
}

/* A file with one tensor of one element. */
static void write_shard(const char *name, const char *tensor, float value) {
    char *header = memory_format(
        "{\"%s\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", tensor);
    const size_t length = strlen(header);
    unsigned char bytes[256] = {(unsigned char)length};
    assert_true(length + 12 < sizeof bytes && length < 256);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, &value, sizeof value);
    write_file(name, bytes, 8 + length + sizeof value);
    memory_free(header);
}

static void write_index(const char *text) {
    write_file("model.safetensors.index.json", text, strlen(text));
}

static void check_value(const struct weights *weights, const char *name, float value) {
    const struct tensor *tensor = weights_find(weights, name);
    assert_non_null(tensor);
    float found;
    memcpy(&found, tensor->data, sizeof found);
    assert_true(found == value);
}

static void check_refused(const char *index, const char *text) {
    struct problem problem = {0};
    write_index(index);
    if (weights_open_model(directory, &problem) != NULL)
        fail_msg("the index %s was accepted", index);
    assert_int_equal(problem.exit_code, EXIT_DATA);
    if (strstr(problem.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem.text, text);
}

static void test_two_files(void **state) {
    (void)state;
    write_shard("one.safetensors", "z", 1);
    write_shard("two.safetensors", "a", 2);
    write_index("{\"metadata\": {}, \"weight_map\": {\"z\": \"one.safetensors\", "
                "\"a\": \"two.safetensors\"}}");
    struct problem problem = {0};
    struct weights *weights = weights_open_model(directory, &problem);
    if (weights == NULL)
        fail_msg("%s", problem.text);
    check_value(weights, "z", 1);
    check_value(weights, "a", 2);
    assert_null(weights_find(weights, "b"));
    weights_close(&weights);
}

/* A plain model.safetensors goes before an index. */
static void test_plain_file_first(void **state) {
    (void)state;
    write_shard("model.safetensors", "plain", 3);
    write_index("no JSON");
    struct problem problem = {0};
    struct weights *weights = weights_open_model(directory, &problem);
    assert_non_null(weights);
    check_value(weights, "plain", 3);
    weights_close(&weights);
}

static void test_bad_indexes(void **state) {
    (void)state;
    write_shard("one.safetensors", "z", 1);
    write_shard("two.safetensors", "z", 2);
    check_refused("no JSON", "not valid JSON");
    check_refused("[]", "weight_map");
    check_refused("{\"weight_map\": {}}", "weight_map");
    check_refused("{\"weight_map\": {\"z\": 1}}", "expected the name of a file");
    check_refused("{\"weight_map\": {\"z\": \"../one.safetensors\"}}",
                  "expected the name of a file");
    check_refused("{\"weight_map\": {\"z\": \"three.safetensors\"}}", "three.safetensors");
    check_refused("{\"weight_map\": {\"y\": \"one.safetensors\"}}", "\"y\" is not in");
    check_refused("{\"weight_map\": {\"z\": \"one.safetensors\", \"y\": \"two.safetensors\"}}",
                  "two files have a tensor");
}

#define SHARDS_TEST(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        SHARDS_TEST(test_two_files),
        SHARDS_TEST(test_plain_file_first),
        SHARDS_TEST(test_bad_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
