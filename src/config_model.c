/* Reading config.json of a pretrained model. Strict about what changes the mathematics, deaf to the
 * rest, of which these files hold a lot. */
#include "config.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"

#include <string.h>

/* Sizes below 2^24 make every product of two sizes fit, whatever the file says. */
enum { LARGEST_SIZE = 1 << 24, MOST_BLOCKS = 1024 };

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

/* Of blocks, which all get names before any weight is looked for. */
static size_t read_num_blocks(const struct reader *reader, const char *key) {
    const size_t value = read_size(reader, key);
    if (value > MOST_BLOCKS && value <= LARGEST_SIZE)
        report(reader, key, "1024 blocks at most");
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

static bool read_flag(const struct reader *reader, const char *key, bool fallback) {
    const struct json *value = json_get(reader->root, key);
    if (value == NULL || json_type(value) == JSON_NULL)
        return fallback;
    if (json_type(value) != JSON_BOOL)
        report(reader, key, "true or false");
    return json_is_true(value);
}

static void require_flag(const struct reader *reader, const char *key, bool wanted,
                         const char *expected) {
    if (read_flag(reader, key, wanted) != wanted)
        report(reader, key, expected);
}

static enum activation read_activation(const struct reader *reader, const char *key,
                                       const char *fallback) {
    static const struct {
        const char *name;
        enum activation activation;
    } NAMES[] = {{"gelu", ACTIVATION_GELU},
                 {"gelu_new", ACTIVATION_GELU_TANH},
                 {"gelu_fast", ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}};
    const struct json *value = json_get(reader->root, key);
    const char *name = value == NULL                     ? fallback
                       : json_type(value) == JSON_STRING ? json_string(value)
                                                         : NULL;
    for (size_t i = 0; name != NULL && i < sizeof NAMES / sizeof *NAMES; ++i)
        if (strcmp(name, NAMES[i].name) == 0)
            return NAMES[i].activation;
    report(reader, key, "\"gelu\", \"gelu_new\", \"gelu_fast\" or \"gelu_pytorch_tanh\"");
    return ACTIVATION_GELU;
}

static const double USUAL_DROPOUT = 0.1;

/* null: as the hidden layers. */
static float read_classifier_dropout(const struct reader *reader, float hidden_dropout) {
    const struct json *value = json_get(reader->root, "classifier_dropout");
    return value == NULL || json_type(value) == JSON_NULL
               ? hidden_dropout
               : read_fraction(reader, "classifier_dropout", &USUAL_DROPOUT);
}

/* RoBERTa's positions start behind the padding token's. */
static size_t read_first_position(const struct reader *reader) {
    size_t pad = 1;
    const struct json *value = json_get(reader->root, "pad_token_id");
    if (value != NULL && (!json_size(value, &pad) || pad > LARGEST_SIZE))
        report(reader, "pad_token_id", "an integer from 0");
    return pad + 1;
}

static void read_encoder(const struct reader *reader, struct architecture *architecture) {
    require_text(reader, "position_embedding_type", "absolute", true);
    require_flag(reader, "is_decoder", false, "false (only encoders are supported)");
    *architecture = (struct architecture){
        .family = architecture->family,
        .vocabulary_size = read_size(reader, "vocab_size"),
        .hidden_size = read_size(reader, "hidden_size"),
        .num_blocks = read_num_blocks(reader, "num_hidden_layers"),
        .num_attention_heads = read_size(reader, "num_attention_heads"),
        .intermediate_size = read_size(reader, "intermediate_size"),
        .max_positions = read_size(reader, "max_position_embeddings"),
        .first_position = architecture->family == FAMILY_ROBERTA ? read_first_position(reader) : 0,
        .num_token_types = read_size(reader, "type_vocab_size"),
        .activation = read_activation(reader, "hidden_act", ""),
        .layer_norm_epsilon = read_fraction(reader, "layer_norm_eps", NULL),
        .hidden_dropout = read_fraction(reader, "hidden_dropout_prob", &USUAL_DROPOUT),
        .attention_dropout = read_fraction(reader, "attention_probs_dropout_prob", &USUAL_DROPOUT),
    };
    architecture->embedding_dropout = architecture->hidden_dropout;
    architecture->classifier_dropout =
        read_classifier_dropout(reader, architecture->hidden_dropout);
}

static size_t read_inner_size(const struct reader *reader, size_t hidden_size) {
    const struct json *value = json_get(reader->root, "n_inner");
    return value == NULL || json_type(value) == JSON_NULL ? 4 * hidden_size
                                                          : read_size(reader, "n_inner");
}

static void read_gpt2(const struct reader *reader, struct architecture *architecture) {
    require_flag(reader, "scale_attn_weights", true, "true (nothing else is supported)");
    require_flag(reader, "add_cross_attention", false, "false (nothing else is supported)");
    const size_t hidden_size = read_size(reader, "n_embd");
    *architecture = (struct architecture){
        .family = architecture->family,
        .vocabulary_size = read_size(reader, "vocab_size"),
        .hidden_size = hidden_size,
        .num_blocks = read_num_blocks(reader, "n_layer"),
        .num_attention_heads = read_size(reader, "n_head"),
        .intermediate_size = read_inner_size(reader, hidden_size),
        .max_positions = read_size(reader, "n_positions"),
        .activation = read_activation(reader, "activation_function", "gelu_new"),
        .is_head_tied = read_flag(reader, "tie_word_embeddings", true),
        .scales_attention_by_block = read_flag(reader, "scale_attn_by_inverse_layer_idx", false),
        .layer_norm_epsilon = read_fraction(reader, "layer_norm_epsilon", NULL),
        .embedding_dropout = read_fraction(reader, "embd_pdrop", &USUAL_DROPOUT),
        .hidden_dropout = read_fraction(reader, "resid_pdrop", &USUAL_DROPOUT),
        .attention_dropout = read_fraction(reader, "attn_pdrop", &USUAL_DROPOUT),
    };
}

/* What one number says about another. */
static void check_sizes(const struct reader *reader, const struct architecture *architecture) {
    if (architecture->hidden_size % architecture->num_attention_heads != 0) {
        char *expected =
            memory_format("a divisor of the hidden size, which is %zu", architecture->hidden_size);
        report(reader, architecture->family == FAMILY_GPT2 ? "n_head" : "num_attention_heads",
               expected);
        memory_free(expected);
    }
    if (architecture->first_position >= architecture->max_positions)
        report(reader, "max_position_embeddings", "more than pad_token_id + 1");
}

static void read_model(const struct reader *reader, struct architecture *architecture) {
    const struct json *value = json_get(reader->root, "model_type");
    const char *name = value != NULL && json_type(value) == JSON_STRING ? json_string(value) : "";
    int family = 0;
    while (family < NUM_FAMILIES && strcmp(name, model_family_name((enum model_family)family)) != 0)
        ++family;
    if (family == NUM_FAMILIES) {
        report(reader, "model_type", "\"bert\", \"roberta\" or \"gpt2\"");
        return;
    }
    architecture->family = (enum model_family)family;
    if (family == FAMILY_GPT2)
        read_gpt2(reader, architecture);
    else
        read_encoder(reader, architecture);
    if (reader->problem->exit_code == 0)
        check_sizes(reader, architecture);
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
    else if (root != NULL)
        read_model(&reader, architecture);
    if (root != NULL)
        json_destroy(&root);
    memory_free(text);
    memory_free(path);
    return problem->exit_code == 0;
}
