/* Checkpoints: what is written is read back; what is wrong or unfinished is not. */
#include "base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PATH[] = "checkpoint.h5", TEMPORARY[] = "checkpoint.h5.tmp";
static const float VALUES[6] = {1, -2, 0.1f, 1e-38f, 3e38f, -0.0f};

/* The tests write into a folder of their own. */
static int enter_folder(void **state) {
    (void)state;
    char *folder = memory_copy_string("/tmp/autolora_test_checkpoint_XXXXXX");
    const bool is_there = mkdtemp(folder) != NULL && chdir(folder) == 0;
    memory_free(folder);
    return is_there ? 0 : -1;
}

static int leave_folder(void **state) {
    (void)state;
    char folder[256];
    unlink(PATH);
    return getcwd(folder, sizeof folder) != NULL && rmdir(folder) == 0 ? 0 : -1;
}

static void write_good(struct problem *problem) {
    struct checkpoint_writer *writer = checkpoint_writer_create(PATH, problem);
    assert_non_null(writer);
    assert_true(checkpoint_write_text(writer, "words", "\xC3\xA9 \"a\"\n", problem));
    assert_true(checkpoint_write_tensor(writer, "factors", "x.lora_A", VALUES, 2, 3, problem));
    assert_true(checkpoint_write_tensor(writer, "adam/first", "x.lora_A", VALUES, 3, 2, problem));
    assert_false(file_exists(PATH));
    assert_true(checkpoint_writer_finish(&writer, problem));
    assert_null(writer);
    assert_false(file_exists(TEMPORARY));
}

static void test_round_trip(void **state) {
    (void)state;
    struct problem problem = {0};
    unlink(PATH);
    write_good(&problem);
    struct checkpoint *checkpoint = checkpoint_open(PATH, &problem);
    assert_non_null(checkpoint);
    float values[6];
    assert_true(checkpoint_read_tensor(checkpoint, "factors", "x.lora_A", 2, 3, values, &problem));
    assert_memory_equal(values, VALUES, sizeof values);
    assert_true(
        checkpoint_read_tensor(checkpoint, "adam/first", "x.lora_A", 3, 2, values, &problem));
    assert_true(checkpoint_has_tensor(checkpoint, "factors", "x.lora_A"));
    assert_false(checkpoint_has_tensor(checkpoint, "factors", "x.lora_B"));
    assert_false(checkpoint_has_tensor(checkpoint, "adam/third", "x"));
    char *words = checkpoint_text(checkpoint, "words", &problem);
    assert_string_equal(words, "\xC3\xA9 \"a\"\n");
    memory_free(words);
    checkpoint_close(&checkpoint);
    assert_int_equal(problem.exit_code, 0);
}

static void assert_data_problem(struct problem *problem, const char *word) {
    assert_int_equal(problem->exit_code, EXIT_DATA);
    assert_non_null(strstr(problem->text, word));
    assert_non_null(strstr(problem->text, PATH));
    *problem = (struct problem){0};
}

static void test_what_is_not_there(void **state) {
    (void)state;
    struct problem problem = {0};
    unlink(PATH);
    write_good(&problem);
    struct checkpoint *checkpoint = checkpoint_open(PATH, &problem);
    float values[8];
    assert_false(checkpoint_read_tensor(checkpoint, "factors", "x.lora_A", 3, 2, values, &problem));
    assert_data_problem(&problem, "float32 [3, 2]");
    assert_false(checkpoint_read_tensor(checkpoint, "factors", "x.lora_B", 2, 3, values, &problem));
    assert_data_problem(&problem, "no tensor");
    assert_null(checkpoint_text(checkpoint, "labels", &problem));
    assert_data_problem(&problem, "labels");
    checkpoint_close(&checkpoint);
}

/* Every byte counts, those that HDF5 would not look at too. */
static void test_every_byte_is_guarded(void **state) {
    (void)state;
    struct problem problem = {0};
    unlink(PATH);
    write_good(&problem);
    size_t size = 0;
    char *bytes = file_read(PATH, &size, &problem);
    for (size_t i = 0; i < size; i += i < size - 64 ? 97 : 1) {
        bytes[i] = (char)(bytes[i] ^ 1);
        assert_true(file_write_atomically(PATH, bytes, size, &problem));
        assert_null(checkpoint_open(PATH, &problem));
        assert_data_problem(&problem, "checksum");
        bytes[i] = (char)(bytes[i] ^ 1);
    }
    memory_free(bytes);
}

/* An unfinished write leaves the older file and nothing else. */
static void test_failure_keeps_the_older_file(void **state) {
    (void)state;
    struct problem problem = {0};
    unlink(PATH);
    write_good(&problem);
    struct checkpoint_writer *writer = checkpoint_writer_create(PATH, &problem);
    problem_set(&problem, EXIT_IO, "something else failed");
    assert_false(checkpoint_writer_finish(&writer, &problem));
    assert_false(file_exists(TEMPORARY));
    problem = (struct problem){0};
    struct checkpoint *checkpoint = checkpoint_open(PATH, &problem);
    assert_non_null(checkpoint);
    checkpoint_close(&checkpoint);
    assert_null(checkpoint_writer_create("nowhere/checkpoint.h5", &problem));
    assert_int_equal(problem.exit_code, EXIT_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_every_byte_is_guarded),
        cmocka_unit_test(test_failure_keeps_the_older_file),
    };
    const int failed = cmocka_run_group_tests(tests, enter_folder, leave_folder);
    return failed != 0 || memory_blocks_now() != 0;
}
