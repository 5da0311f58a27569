/* Safetensors files that lie, are cut off or misaligned; half precision; tolerant names. */
#include "io/weights.h"

#include "base/memory.h"
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64], path[96];

static int open_directory(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/test_weights.XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/w", directory);
    return 0;
}

static int close_directory(void **state) {
    (void)state;
    unlink(path);
    return rmdir(directory) == 0 && memory_blocks_now() == 0 ? 0 : -1;
}

/* ---- files ---- */

static void write_bytes(const void *bytes, size_t size) {
    unlink(path); /* a fresh file: some file systems flush one that is overwritten */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* The length as the file states it, the header, the data. */
static void write_stating(uint64_t length, const char *header, const void *data, size_t size) {
    const size_t text = strlen(header);
    unsigned char *bytes = memory_allocate(8 + text + size, 1, "a file");
    for (int i = 0; i < 8; ++i)
        bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, text);
    memcpy(bytes + 8 + text, data, size);
    write_bytes(bytes, 8 + text + size);
    memory_free(bytes);
}

static void write_file(const char *header, const void *data, size_t size) {
    write_stating(strlen(header), header, data, size);
}

static struct weights *open_good(void) {
    struct problem problem = {0};
    struct weights *weights = weights_open(path, &problem);
    if (weights == NULL)
        fail_msg("%s", problem.text);
    return weights;
}

/* The file is refused, with a message that names it and says `text`. */
static void check_refused(const char *text) {
    struct problem problem = {0};
    struct weights *weights = weights_open(path, &problem);
    if (weights != NULL)
        fail_msg("the file was accepted; expected \"%s\"", text);
    assert_int_equal(problem.exit_code, EXIT_DATA);
    if (strstr(problem.text, path) == NULL || strstr(problem.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", problem.text, text);
}

static const unsigned char ZEROS[64];

static void check_header_refused(const char *header, const char *text) {
    write_file(header, ZEROS, 16);
    check_refused(text);
}

/* ---- the length ---- */

static void test_header_lengths(void **state) {
    (void)state;
    static const uint64_t BAD[] = {
        3,          1000,           (uint64_t)100 << 20, ((uint64_t)100 << 20) + 1,
        UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; ++i) {
        write_stating(BAD[i], "{}", "", 0);
        check_refused("not a safetensors file, or truncated");
    }
    write_stating(0, "{}", "", 0);
    check_refused("not valid JSON");
    write_stating(1, "{}", "", 0);
    check_refused("not valid JSON");
}

/* A header that is there, but larger than any that makes sense: a sparse file. */
static void test_header_beyond_the_limit(void **state) {
    (void)state;
    write_stating(((uint64_t)100 << 20) + 1, "{}", "", 0);
    assert_int_equal(truncate(path, (off_t)101 << 20), 0);
    check_refused("not a safetensors file");
}

static void test_files_that_are_none(void **state) {
    (void)state;
    write_bytes("", 0);
    check_refused("is empty");
    write_bytes("1234567", 7);
    check_refused("not a safetensors file");
    unlink(path);
    check_refused("cannot be opened");
    assert_int_equal(mkdir(path, 0700), 0);
    check_refused("not a regular file");
    rmdir(path);
}

/* ---- the header ---- */

static void test_header_that_is_not_an_object(void **state) {
    (void)state;
    check_header_refused("not JSON", "not valid JSON");
    check_header_refused("{\"a\": ", "not valid JSON");
    check_header_refused("{} {}", "not valid JSON");
    check_header_refused("[]", "not a JSON object");
    check_header_refused("7", "not a JSON object");
    check_header_refused("null", "not a JSON object");
    check_header_refused("{\"a\": 1}", "has no dtype");
    check_header_refused("{\"a\": [\"F32\", [4], [0, 16]]}", "has no dtype");
}

/* Deeper than any header: a parser by recursive descent must stop. */
static void test_header_of_nested_arrays(void **state) {
    (void)state;
    const size_t depth = 100000;
    char *header = memory_allocate(depth + 1, 1, "a header");
    memset(header, '[', depth);
    check_header_refused(header, "not valid JSON");
    memory_free(header);
}

#define F32_4 "{\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}"

static void test_duplicate_names(void **state) {
    (void)state;
    check_header_refused("{\"a\": " F32_4 ", \"a\": " F32_4 "}", "\"a\" is given twice");
    check_header_refused("{\"a\": {\"dtype\": \"F32\", \"dtype\": \"F16\", \"shape\": [4], "
                         "\"data_offsets\": [0, 16]}}",
                         "\"dtype\" is given twice");
}

static void test_missing_members(void **state) {
    (void)state;
    check_header_refused("{\"a\": {\"shape\": [4], \"data_offsets\": [0, 16]}}", "no dtype");
    check_header_refused("{\"a\": {\"dtype\": 32, \"shape\": [4], \"data_offsets\": [0, 16]}}",
                         "no dtype");
    check_header_refused("{\"a\": {\"DTYPE\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}}",
                         "no dtype");
    check_header_refused("{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 16]}}", "bad shape");
    check_header_refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [4]}}", "bad data_offsets");
}

static void test_unknown_dtypes(void **state) {
    (void)state;
    static const char *const BAD[] = {"F31", "f32", "", "F32 ", "C64"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; ++i) {
        char header[128];
        snprintf(header, sizeof header,
                 "{\"a\": {\"dtype\": \"%s\", \"shape\": [4], \"data_offsets\": [0, 16]}}", BAD[i]);
        check_header_refused(header, "unknown dtype");
    }
}

static void check_shape_refused(const char *shape, const char *text) {
    char *header = memory_format(
        "{\"a\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [0, 16]}}", shape);
    check_header_refused(header, text);
    memory_free(header);
}

static void test_shapes(void **state) {
    (void)state;
    static const char *const BAD[] = {
        "[-4]",
        "[-1, -4]",
        "[0.5, 8]",
        "[4.25]",
        "[1e300]",
        "[1e999]",
        "[9007199254740993]",
        "[4294967296, 4294967296]",
        "[9223372036854775808]",
        "[18446744073709551617, 4]",
        "[65536, 65536, 65536, 65536]",
        "[2, 2, 2147483648, 2147483648, 4]",
        "[\"4\"]",
        "[null]",
        "[[4]]",
        "4",
        "\"4\"",
        "null",
        "{\"x\": 4}",
        "[1, 1, 1, 1, 1, 1, 1, 1, 4]",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; ++i)
        check_shape_refused(BAD[i], "bad shape");
    check_shape_refused("[3]", "16 bytes, its shape and dtype ask for 12");
    check_shape_refused("[5]", "16 bytes, its shape and dtype ask for 20");
    check_shape_refused("[]", "16 bytes, its shape and dtype ask for 4");
    check_shape_refused("[4, 0]", "16 bytes, its shape and dtype ask for 0");
}

static void check_offsets_refused(const char *offsets, const char *text) {
    char *header = memory_format(
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": %s}}", offsets);
    check_header_refused(header, text);
    memory_free(header);
}

static void test_offsets(void **state) {
    (void)state;
    static const char *const BAD[] = {
        "[16, 0]",
        "[-16, 0]",
        "[0.5, 16.5]",
        "[0]",
        "[]",
        "[0, 16, 32]",
        "16",
        "\"0, 16\"",
        "[\"0\", \"16\"]",
        "[0, 1e300]",
        "[18446744073709551600, 18446744073709551616]",
        "[0, null]",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; ++i)
        check_offsets_refused(BAD[i], "bad data_offsets");
    check_offsets_refused("[4, 20]", "which has only 16");
    check_offsets_refused("[0, 9007199254740992]", "which has only 16");
    check_offsets_refused("[9007199254740976, 9007199254740992]", "which has only 16");
    check_offsets_refused("[0, 15]", "15 bytes");
    check_offsets_refused("[8, 8]", "0 bytes");
}

static void test_overlapping_tensors(void **state) {
    (void)state;
    static const char *const SECOND[] = {"[0, 8]", "[4, 12]", "[7, 15]"};
    for (size_t i = 0; i < sizeof SECOND / sizeof *SECOND; ++i) {
        char *header =
            memory_format("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, "
                          "\"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": %s}}",
                          SECOND[i]);
        check_header_refused(header, "overlap");
        memory_free(header);
    }
    check_header_refused("{\"c\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [9, 10]}, "
                         "\"a\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}}",
                         "overlap");
}

/* ---- good files ---- */

static const char GOOD[] =
    "{\"__metadata__\": {\"format\": \"pt\"}, "
    "\"w\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 24]}, "
    "\"nothing\": {\"dtype\": \"F32\", \"shape\": [0, 7], \"data_offsets\": [24, 24]}, "
    "\"scalar\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [24, 28]}, "
    "\"i\": {\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [28, 36]}}";
static const float GOOD_DATA[9] = {1, 2, 3, 4, 5, 6, 7, 0, 0};

static const float *floats_of(struct weights *weights, const char *name) {
    struct problem problem = {0};
    const struct tensor *tensor = weights_find(weights, name);
    if (tensor == NULL)
        fail_msg("there is no tensor %s", name);
    const float *values = weights_floats(weights, tensor, &problem);
    if (values == NULL)
        fail_msg("%s", problem.text);
    return values;
}

static void test_good_file(void **state) {
    (void)state;
    write_file(GOOD, GOOD_DATA, sizeof GOOD_DATA);
    struct weights *weights = open_good();
    const struct tensor *w = weights_find(weights, "w");
    assert_non_null(w);
    assert_true(w->type == TENSOR_F32 && w->num_dimensions == 2 && w->count == 6 && w->bytes == 24);
    assert_true(w->shape[0] == 2 && w->shape[1] == 3);
    assert_memory_equal(floats_of(weights, "w"), GOOD_DATA, 24);
    assert_true(floats_of(weights, "scalar")[0] == 7);
    assert_null(weights_find(weights, "W"));
    assert_null(weights_find(weights, "__metadata__"));
    struct problem problem = {0};
    assert_null(weights_floats(weights, weights_find(weights, "i"), &problem));
    assert_int_equal(problem.exit_code, EXIT_DATA);
    weights_close(&weights);
    assert_null(weights);
    weights_close(&weights);
}

static void test_tensor_without_elements(void **state) {
    (void)state;
    write_file(GOOD, GOOD_DATA, sizeof GOOD_DATA);
    struct weights *weights = open_good();
    const struct tensor *nothing = weights_find(weights, "nothing");
    assert_true(nothing != NULL && nothing->count == 0 && nothing->bytes == 0);
    struct problem problem = {0};
    assert_non_null(weights_floats(weights, nothing, &problem));
    weights_close(&weights);
    write_file("{\"a\": {\"dtype\": \"F32\", \"shape\": [1000, 0], \"data_offsets\": [0, 0]}}", "",
               0);
    weights = open_good();
    assert_int_equal(weights_find(weights, "a")->count, 0);
    weights_close(&weights);
}

static void test_file_without_tensors(void **state) {
    (void)state;
    write_file("{}", "", 0);
    struct weights *weights = open_good();
    assert_null(weights_find(weights, "a"));
    weights_close(&weights);
}

/* Neither a crash nor anything but a problem with EXIT_DATA, wherever the file ends. */
static void test_truncated_at_every_byte(void **state) {
    (void)state;
    write_file(GOOD, GOOD_DATA, sizeof GOOD_DATA);
    const size_t whole = 8 + strlen(GOOD) + sizeof GOOD_DATA;
    for (size_t size = whole; size-- > 0;) {
        assert_int_equal(truncate(path, (off_t)size), 0);
        check_refused("");
    }
}

/* Each byte of the header changed in turn, to several values. */
static void test_damaged_at_every_byte(void **state) {
    (void)state;
    static const unsigned char VALUES[] = {0, ' ', '"', '9', '-', '.', ']', '}', '[', '{', 0xff};
    const size_t size = 8 + strlen(GOOD) + sizeof GOOD_DATA;
    unsigned char bytes[600] = {(unsigned char)strlen(GOOD), (unsigned char)(strlen(GOOD) >> 8)};
    assert_true(size < sizeof bytes);
    memcpy(bytes + 8, GOOD, strlen(GOOD));
    memcpy(bytes + 8 + strlen(GOOD), GOOD_DATA, sizeof GOOD_DATA);
    for (size_t i = 0; i < 8 + strlen(GOOD); ++i)
        for (size_t v = 0; v < sizeof VALUES; ++v) {
            const unsigned char before = bytes[i];
            bytes[i] = VALUES[v];
            write_bytes(bytes, size);
            bytes[i] = before;
            struct problem problem = {0};
            struct weights *weights = weights_open(path, &problem);
            assert_int_equal(problem.exit_code, weights == NULL ? EXIT_DATA : 0);
            weights_close(&weights);
        }
}

/* ---- conversion ---- */

/* 32-bit floats behind a header of any length: read in place or copied, and always aligned. */
static void test_misaligned_data(void **state) {
    (void)state;
    const float data[4] = {1, -2, 0.5f, 1e-40f};
    for (int padding = 0; padding < 8; ++padding) {
        char *header = memory_format("{\"a\": " F32_4 "}%*s", padding, "");
        write_file(header, data, sizeof data);
        struct weights *weights = open_good();
        const float *values = floats_of(weights, "a");
        assert_int_equal((size_t)values % sizeof *values, 0);
        assert_memory_equal(values, data, sizeof data);
        const bool is_aligned = (8 + strlen(header)) % sizeof *values == 0;
        assert_true(((const unsigned char *)values == weights_find(weights, "a")->data) ==
                    is_aligned);
        weights_close(&weights);
        memory_free(header);
    }
}

/* Bit patterns of a half and of the float with the same value. */
struct pattern {
    uint16_t half;
    uint32_t single;
};

static const struct pattern F16_PATTERNS[] = {
    {0x0000, 0x00000000}, {0x8000, 0x80000000}, {0x3c00, 0x3f800000}, {0xbc00, 0xbf800000},
    {0x4000, 0x40000000}, {0x3555, 0x3eaaa000}, {0x7bff, 0x477fe000}, {0xfbff, 0xc77fe000},
    {0x0400, 0x38800000}, {0x03ff, 0x387fc000}, {0x0001, 0x33800000}, {0x8001, 0xb3800000},
    {0x0200, 0x38000000}, {0x83ff, 0xb87fc000}, {0x7c00, 0x7f800000}, {0xfc00, 0xff800000},
    {0x7e00, 0x7fc00000}, {0xfe01, 0xffc02000},
};

static const struct pattern BF16_PATTERNS[] = {
    {0x0000, 0x00000000}, {0x8000, 0x80000000}, {0x3f80, 0x3f800000}, {0xc049, 0xc0490000},
    {0x0001, 0x00010000}, {0x807f, 0x807f0000}, {0x7f7f, 0x7f7f0000}, {0x7f80, 0x7f800000},
    {0xff80, 0xff800000}, {0x7fc0, 0x7fc00000},
};

static void check_patterns(const char *type, const struct pattern *patterns, size_t count) {
    uint16_t halves[32];
    for (size_t i = 0; i < count; ++i)
        halves[i] = patterns[i].half;
    for (int padding = 0; padding < 2; ++padding) {
        char *header = memory_format(
            "{\"a\": {\"dtype\": \"%s\", \"shape\": [%zu], \"data_offsets\": [0, %zu]}}%*s", type,
            count, 2 * count, padding, "");
        write_file(header, halves, 2 * count);
        struct weights *weights = open_good();
        const float *values = floats_of(weights, "a");
        for (size_t i = 0; i < count; ++i) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            if (bits != patterns[i].single)
                fail_msg("%s %04x: %08x, not %08x", type, patterns[i].half, bits,
                         patterns[i].single);
        }
        weights_close(&weights);
        memory_free(header);
    }
}

static void test_half_precision(void **state) {
    (void)state;
    check_patterns("F16", F16_PATTERNS, sizeof F16_PATTERNS / sizeof *F16_PATTERNS);
    check_patterns("BF16", BF16_PATTERNS, sizeof BF16_PATTERNS / sizeof *BF16_PATTERNS);
}

/* The value of a finite half by the definition of the format. */
static double value_of_half(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double size =
        exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000 ? -size : size;
}

static void test_all_finite_halves(void **state) {
    (void)state;
    enum { COUNT = 65536 };
    uint16_t *halves = memory_allocate(COUNT, sizeof *halves, "halves");
    for (size_t i = 0; i < COUNT; ++i)
        halves[i] = (uint16_t)i;
    write_file("{\"a\": {\"dtype\": \"F16\", \"shape\": [65536], \"data_offsets\": [0, 131072]}}",
               halves, 2 * COUNT);
    struct weights *weights = open_good();
    const float *values = floats_of(weights, "a");
    for (size_t i = 0; i < COUNT; ++i)
        if ((i >> 10 & 31) < 31)
            assert_true((double)values[i] == value_of_half((uint16_t)i));
        else
            assert_true(isinf(values[i]) || isnan(values[i]));
    weights_close(&weights);
    memory_free(halves);
}

/* ---- names and shapes of checkpoints ---- */

/* A checkpoint of one tensor of four floats. */
static struct weights *one_tensor(const char *name, const char *shape) {
    static const float DATA[4] = {1, 2, 3, 4};
    char *header = memory_format(
        "{\"%s\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [0, 16]}}", name, shape);
    write_file(header, DATA, sizeof DATA);
    memory_free(header);
    return open_good();
}

static void check_found(const char *stored, const char *wanted, bool is_found) {
    struct weights *weights = one_tensor(stored, "[4]");
    struct problem problem = {0};
    const float *values = weights_pretrained(weights, wanted, 4, 1, &problem);
    if ((values != NULL) != is_found)
        fail_msg("%s asked for as %s: %s", stored, wanted, values != NULL ? "found" : problem.text);
    assert_int_equal(problem.exit_code, is_found ? 0 : EXIT_DATA);
    if (is_found)
        assert_true(values[3] == 4);
    else
        assert_non_null(strstr(problem.text, wanted));
    weights_close(&weights);
}

static void test_tolerant_names(void **state) {
    (void)state;
    check_found("bert.a.bias", "bert.a.bias", true);
    check_found("a.bias", "bert.a.bias", true);
    check_found("bert.a.LayerNorm.weight", "bert.a.LayerNorm.weight", true);
    check_found("bert.a.LayerNorm.gamma", "bert.a.LayerNorm.weight", true);
    check_found("bert.a.LayerNorm.beta", "bert.a.LayerNorm.bias", true);
    check_found("a.LayerNorm.gamma", "bert.a.LayerNorm.weight", true);
    check_found("a.LayerNorm.beta", "bert.a.LayerNorm.bias", true);
    check_found("bert.a.LayerNorm.beta", "bert.a.LayerNorm.weight", false);
    check_found("bert.a.LayerNorm.gamma", "bert.a.LayerNorm.bias", false);
    check_found("bert.a.gamma", "bert.a.weight", false);
    check_found("roberta.a.bias", "bert.a.bias", false);
    check_found("bias", "bert.a.bias", false);
    check_found("bert.bert.a.bias", "bert.a.bias", false);
}

static void check_pretrained_shape(const char *shape, size_t rows, size_t columns,
                                   const char *text) {
    struct weights *weights = one_tensor("bert.a", shape);
    struct problem problem = {0};
    const float *values = weights_pretrained(weights, "bert.a", rows, columns, &problem);
    if (text == NULL) {
        assert_non_null(values);
    } else {
        assert_null(values);
        assert_int_equal(problem.exit_code, EXIT_DATA);
        if (strstr(problem.text, text) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", problem.text, text);
    }
    weights_close(&weights);
}

static void test_shapes_of_pretrained_tensors(void **state) {
    (void)state;
    check_pretrained_shape("[4]", 4, 1, NULL);
    check_pretrained_shape("[2, 2]", 2, 2, NULL);
    check_pretrained_shape("[1, 4]", 1, 4, NULL);
    check_pretrained_shape("[4, 1]", 1, 4, "has shape [4, 1], config.json asks for [1, 4]");
    check_pretrained_shape("[4]", 2, 2, "has shape [4], config.json asks for [2, 2]");
    check_pretrained_shape("[2, 2]", 4, 1, "has shape [2, 2], config.json asks for [4]");
    check_pretrained_shape("[2, 2, 1]", 2, 2, "has shape [2, 2, 1], config.json asks for [2, 2]");
    check_pretrained_shape("[4]", 5, 1, "has shape [4], config.json asks for [5]");
}

/* Names of a hostile file do not overrun the message. */
static void test_long_names(void **state) {
    (void)state;
    char *name = memory_allocate(20001, 1, "a name");
    memset(name, 'x', 20000);
    char *header = memory_format("{\"%s\": {\"dtype\": \"%s\"}}", name, name);
    check_header_refused(header, "unknown dtype");
    memory_free(header);
    header = memory_format("{\"%s\": " F32_4 ", \"%s\": " F32_4 "}", name, name);
    check_header_refused(header, "xxxx");
    memory_free(header);
    memory_free(name);
}

#define WEIGHTS_TEST(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        WEIGHTS_TEST(test_header_lengths),
        WEIGHTS_TEST(test_header_beyond_the_limit),
        WEIGHTS_TEST(test_files_that_are_none),
        WEIGHTS_TEST(test_header_that_is_not_an_object),
        WEIGHTS_TEST(test_header_of_nested_arrays),
        WEIGHTS_TEST(test_duplicate_names),
        WEIGHTS_TEST(test_missing_members),
        WEIGHTS_TEST(test_unknown_dtypes),
        WEIGHTS_TEST(test_shapes),
        WEIGHTS_TEST(test_offsets),
        WEIGHTS_TEST(test_overlapping_tensors),
        WEIGHTS_TEST(test_good_file),
        WEIGHTS_TEST(test_tensor_without_elements),
        WEIGHTS_TEST(test_file_without_tensors),
        WEIGHTS_TEST(test_truncated_at_every_byte),
        WEIGHTS_TEST(test_damaged_at_every_byte),
        WEIGHTS_TEST(test_misaligned_data),
        WEIGHTS_TEST(test_half_precision),
        WEIGHTS_TEST(test_all_finite_halves),
        WEIGHTS_TEST(test_tolerant_names),
        WEIGHTS_TEST(test_shapes_of_pretrained_tensors),
        WEIGHTS_TEST(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
