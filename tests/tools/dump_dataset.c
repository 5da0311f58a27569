/* Prints what dataset_read makes of files, as JSON lines, for tests/peers/compare_dataset.py and
 * compare_lm.py:
 *
 *   dump_dataset TOKENIZER_DIRECTORY TASK MAX_LENGTH FILE...
 *
 * TASK is a value of task.name; "TASK:test" reads unlabelled files. In the token task the first
 * file defines the labels. Each file gives one line about itself and one for every example;
 * language modelling (e2e, webnlg) also one for every context. */
#include "base/memory.h"
#include "io/dataset.h"
#include "io/dataset_lm.h"
#include "io/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_list(const char *name, const int32_t *values, size_t count) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < count; ++i)
        printf("%s%d", i == 0 ? "" : ", ", (int)values[i]);
    printf("]");
}

static void print_file(const char *path, const struct dataset *data,
                       const struct label_set *labels) {
    struct json *root = json_create_object();
    json_add_string(root, "file", path);
    struct json *names = json_add_array(root, "label_names");
    for (size_t i = 0; i < labels->count; ++i)
        json_add_string(names, NULL, labels->names[i]);
    json_add_number(root, "num_examples", (double)data->num_examples);
    json_add_number(root, "longest", (double)data->longest);
    json_add_number(root, "num_truncated", (double)data->num_truncated);
    json_add_number(root, "num_skipped", (double)data->num_skipped);
    json_add_number(root, "entities_total", (double)data->entities_total);
    json_add_number(root, "entities_lost", (double)data->entities_lost);
    char *text = json_print(root, false);
    puts(text);
    memory_free(text);
    json_destroy(&root);
}

static void print_examples(const struct dataset *data) {
    const bool is_token_task = task_labels_tokens(data->kind);
    for (size_t i = 0; i < data->num_examples; ++i) {
        const size_t first = data->offsets[i], count = data->offsets[i + 1] - first;
        printf("{");
        print_list("token_ids", data->token_ids + first, count);
        printf(", ");
        print_list("type_ids", data->type_ids + first, count);
        printf(", ");
        print_list("labels", data->labels + (is_token_task ? first : i), is_token_task ? count : 1);
        if (data->targets != NULL)
            printf(", \"target\": %.9g", (double)data->targets[i]);
        if (data->indices != NULL)
            printf(", \"index\": %u", (unsigned)data->indices[i]);
        printf("}\n");
    }
}

static void print_references(const struct lm_references *references) {
    for (size_t c = 0; c < references->count; ++c) {
        const size_t first = references->context_offsets[c];
        printf("{");
        print_list("context", references->context_ids + first,
                   references->context_offsets[c + 1] - first);
        struct json *root = json_create_object();
        struct json *texts = json_add_array(root, "references");
        for (size_t i = references->text_offsets[c]; i < references->text_offsets[c + 1]; ++i)
            json_add_string(texts, NULL, references->texts[i]);
        char *text = json_print(root, false);
        printf(", %s\n", text + 1); /* one object with the ids */
        memory_free(text);
        json_destroy(&root);
    }
}

static bool dump(char *const *files, struct dataset_options options,
                 const struct tokenizer *tokenizer, struct problem *problem) {
    struct label_set labels = {0};
    options.defines_labels = options.kind == TASK_TOKEN_CLASSIFICATION;
    if (options.glue != NULL)
        label_set_add_glue(&labels, options.glue);
    bool is_good = true;
    for (; is_good && *files != NULL; ++files) {
        struct dataset data;
        struct lm_references references = {0};
        options.path = *files;
        options.references = &references;
        is_good = dataset_read(&data, &options, tokenizer, &labels, problem);
        if (is_good) {
            print_file(*files, &data, &labels);
            print_examples(&data);
            print_references(&references);
        }
        dataset_free(&data);
        lm_references_free(&references);
        options.defines_labels = false;
    }
    label_set_free(&labels);
    return is_good;
}

/* "mrpc", "mrpc:test", "ner"; false for anything else. */
static bool read_task(char *name, struct dataset_options *options) {
    char *mode = strchr(name, ':');
    if (mode != NULL)
        *mode++ = '\0';
    options->is_unlabelled = mode != NULL;
    options->glue = glue_find(name);
    const bool is_webnlg = strcmp(name, "webnlg") == 0;
    const bool is_language = is_webnlg || strcmp(name, "e2e") == 0;
    const bool is_known = options->glue != NULL || is_language || strcmp(name, "ner") == 0;
    options->completion_format = is_webnlg ? COMPLETION_WEBNLG : COMPLETION_LINES;
    options->kind = options->glue != NULL ? TASK_SEQUENCE_CLASSIFICATION
                    : is_language         ? TASK_LANGUAGE_MODELING
                                          : TASK_TOKEN_CLASSIFICATION;
    return is_known && (mode == NULL || strcmp(mode, "test") == 0);
}

int main(int argc, char **argv) {
    struct dataset_options options = {0};
    if (argc < 5 || !read_task(argv[2], &options)) {
        report_error("usage: dump_dataset TOKENIZER_DIRECTORY TASK[:test] MAX_LENGTH FILE...");
        return EXIT_USAGE;
    }
    options.max_length = strtoul(argv[3], NULL, 10);
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(argv[1], &problem);
    if (tokenizer != NULL) {
        dump(argv + 4, options, tokenizer, &problem);
        tokenizer_destroy(&tokenizer);
    }
    if (problem.exit_code != 0)
        report_error("%s", problem.text);
    return problem.exit_code;
}
