/* Reading config.json of a pretrained model. Strict about what changes the mathematics, deaf to the
 * rest, of which these files hold a lot. */
#include "config.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"

#include <string.h>

/* Sizes below 2^24 make every product of two sizes fit, whatever the file says. */
enum { LARGEST_SIZE = 1 << 24 };

/* The file while it is read: every mistake is listed, with the file and the key. */
struct reader {
    const char *path;
    const struct json *root;
    struct problem *problem;
};

/* Free with memory_free. */
static char *describe(const struct json *value) {
    return value != NULL ? json_print(value, false) : memory_copy_string("nothing");
}

static void report(const struct reader *reader, const char *key, const char *expected) {
    char *found = describe(json_get(reader->root, key));
    problem_append(reader->problem, EXIT_DATA, "%s: %s: expected %s, found %.80s", reader->path,
                   key, expected, found);
    memory_free(found);
}

static size_t read_size(const struct reader *reader, const char *key) {
    size_t value = 0;
    if (!json_size(json_get(reader->root, key), &value) || value < 1 || value > LARGEST_SIZE)
        report(reader, key, "an integer 1 .. 16777216");
    return value;
}

/* A number in (0, 1) or, where a default makes the key optional, in [0, 1). */
static float read_fraction(const struct reader *reader, const char *key, const double *fallback) {
    const struct json *value = json_get(reader->root, key);
    if (value == NULL && fallback != NULL)
        return (float)*fallback;
    const float number =
        value != NULL && json_type(value) == JSON_NUMBER ? (float)json_number(value) : -1.0f;
    if (number < 0 || number >= 1 || (fallback == NULL && number == 0))
        report(reader, key,
               fallback != NULL ? "a number in [0, 1)"
                                : "a number in (0, 1), 1e-12 for the published BERT models");
    return number;
}

/* The one value of a choice that this program computes. */
static void require_text(const struct reader *reader, const char *key, const char *text,
                         bool is_optional) {
    const struct json *value = json_get(reader->root, key);
    if (value == NULL && is_optional)
        return;
    if (value == NULL || json_type(value) != JSON_STRING || strcmp(json_string(value), text) != 0) {
        char *expected = memory_format("\"%s\" (nothing else is supported)", text);
        report(reader, key, expected);
        memory_free(expected);
    }
}

static void read_bert(const struct reader *reader, struct architecture *architecture) {
    const double usual_dropout = 0.1;
    require_text(reader, "hidden_act", "gelu", false);
    require_text(reader, "position_embedding_type", "absolute", true);
    const struct json *is_decoder = json_get(reader->root, "is_decoder");
    if (is_decoder != NULL && (json_type(is_decoder) != JSON_BOOL || json_is_true(is_decoder)))
        report(reader, "is_decoder", "false (only encoders are supported)");
    *architecture = (struct architecture){
        .vocabulary_size = read_size(reader, "vocab_size"),
        .hidden_size = read_size(reader, "hidden_size"),
        .num_blocks = read_size(reader, "num_hidden_layers"),
        .num_attention_heads = read_size(reader, "num_attention_heads"),
        .intermediate_size = read_size(reader, "intermediate_size"),
        .max_positions = read_size(reader, "max_position_embeddings"),
        .num_token_types = read_size(reader, "type_vocab_size"),
        .layer_norm_epsilon = read_fraction(reader, "layer_norm_eps", NULL),
        .hidden_dropout = read_fraction(reader, "hidden_dropout_prob", &usual_dropout),
        .attention_dropout = read_fraction(reader, "attention_probs_dropout_prob", &usual_dropout),
    };
    if (reader->problem->exit_code != 0)
        return;
    if (architecture->hidden_size % architecture->num_attention_heads != 0) {
        char *expected =
            memory_format("a divisor of hidden_size, which is %zu", architecture->hidden_size);
        report(reader, "num_attention_heads", expected);
        memory_free(expected);
    }
}

bool config_read_architecture(const char *model_directory, struct architecture *architecture,
                              struct problem *problem) {
    *architecture = (struct architecture){0};
    char *path = file_join(model_directory, "config.json");
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    struct json *root = text != NULL ? json_parse(text, size, path, EXIT_DATA, problem) : NULL;
    const struct reader reader = {path, root, problem};
    if (root != NULL && json_type(root) != JSON_OBJECT)
        problem_set(problem, EXIT_DATA, "%s: expected an object {...}, found %s", path,
                    json_type_name(root));
    else if (root != NULL) {
        require_text(&reader, "model_type", "bert", false);
        if (problem->exit_code == 0)
            read_bert(&reader, architecture);
    }
    if (root != NULL)
        json_destroy(&root);
    memory_free(text);
    memory_free(path);
    return problem->exit_code == 0;
}
