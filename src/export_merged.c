/* Merged checkpoints, and what both forms of export need. */
#include "export.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors_write.h"

#include <stdlib.h>
#include <string.h>

bool export_is_adapter(const struct parameter *parameter) {
    return strstr(parameter->name, ".lora_") != NULL;
}

struct safetensors_entry export_entry(const char *name, size_t rows, size_t columns) {
    static const char bias[] = ".bias";
    const size_t length = strlen(name), end = sizeof bias - 1;
    if (rows == 1 && length > end && strcmp(name + length - end, bias) == 0)
        return (struct safetensors_entry){name, 1, {columns, 1}};
    return (struct safetensors_entry){name, 2, {rows, columns}};
}

static bool is_same_directory(const char *left, const char *right) {
    char *a = realpath(left, NULL), *b = realpath(right, NULL);
    const bool is_same = a != NULL && b != NULL && strcmp(a, b) == 0;
    free(a);
    free(b);
    return is_same;
}

bool export_prepare_directory(const struct saved_run *run, const char *directory,
                              struct problem *problem) {
    if (is_same_directory(directory, run->job.config.model.path))
        return problem_set(problem, EXIT_USAGE,
                           "export: --out %s is the base model's own directory", directory);
    return file_make_directory(directory, problem);
}

/* ---- model.safetensors ---- */

/* A tensor of the merged model: a frozen one or one that was trained instead. */
struct merged {
    struct safetensors_entry entry;
    const struct stage_weight *frozen; /* NULL: trained */
    const float *trained;
};

static bool has_name(const struct merged *list, size_t count, const char *name) {
    for (size_t i = 0; i < count; ++i)
        if (strcmp(list[i].entry.name, name) == 0)
            return true;
    return false;
}

/* A tensor that the pretrained model has too. */
static struct safetensors_entry base_entry(const char *name, size_t rows, size_t columns) {
    return (struct safetensors_entry){name, columns == 1 ? 1 : 2, {rows, columns}};
}

/* Trained tensors first: they take the place of frozen ones of their name. The parts of a fused
 * projection are listed once. */
static size_t list_tensors(const struct saved_run *run, const struct stage_weight *weights,
                           size_t num_weights, struct merged **list) {
    const struct parameter_table *table = &run->stage->factors;
    size_t count = 0;
    *list = memory_allocate(table->count + num_weights, sizeof **list, "tensors to export");
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        if (!export_is_adapter(entry) && !entry->is_copy)
            (*list)[count++] = (struct merged){
                .entry = entry->is_pretrained
                             ? base_entry(entry->name, entry->rows, entry->columns)
                             : export_entry(entry->name, entry->rows, entry->columns),
                .trained = run->factors + entry->offset};
    }
    for (size_t i = 0; i < num_weights; ++i)
        if (!has_name(*list, count, weights[i].name))
            (*list)[count++] = (struct merged){
                .entry = base_entry(weights[i].name, weights[i].rows, weights[i].columns),
                .frozen = &weights[i]};
    return count;
}

/* W += s B A in the place of the projection in the stored tensor. */
static void add_adapter(const struct saved_run *run, const struct linear *linear, size_t first,
                        float *weight) {
    const struct adapter *adapter = &linear->adapter;
    const float *a = run->factors + adapter->a_offset, *b = run->factors + adapter->b_offset;
    for (size_t o = 0; o < linear->output_size; ++o)
        for (size_t i = 0; i < linear->input_size; ++i) {
            double sum = 0;
            for (size_t r = 0; r < adapter->rank; ++r)
                sum += (double)b[r * linear->output_size + o] * a[r * linear->input_size + i];
            weight[(first + o) * linear->output_stride + i * linear->input_stride] +=
                (float)(adapter->scale * sum);
        }
}

static void add_adapters(const struct saved_run *run, const char *name, float *weight) {
    for (size_t b = 0; b < run->stage->options.num_blocks; ++b) {
        const struct block *block = &run->stage->blocks[b];
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (block->projections[p].adapter.rank == 0)
                continue;
            const struct projection_storage storage = architecture_storage(
                &run->stage->options.architecture, block->index, (enum projection)p);
            char *stored = memory_format("%s.weight", storage.module);
            if (strcmp(stored, name) == 0)
                add_adapter(run, &block->projections[p], storage.first_output, weight);
            memory_free(stored);
            memory_free(storage.module);
        }
    }
}

static bool write_frozen(const struct saved_run *run, const struct stage_weight *frozen,
                         struct safetensors_writer *writer, struct problem *problem) {
    const float *values =
        weights_pretrained(run->job.weights, frozen->name, frozen->rows, frozen->columns, problem);
    if (values == NULL)
        return false;
    const size_t count = frozen->rows * frozen->columns;
    float *copy = memory_allocate(count, sizeof *copy, frozen->name);
    memcpy(copy, values, count * sizeof *copy);
    add_adapters(run, frozen->name, copy);
    const bool is_good = safetensors_write(writer, copy, problem);
    memory_free(copy);
    return is_good;
}

static bool write_model(const struct saved_run *run, const char *path, struct problem *problem) {
    size_t num_weights;
    struct stage_weight *weights = stage_weights(run->stage, &num_weights);
    struct merged *list;
    const size_t count = list_tensors(run, weights, num_weights, &list);
    struct safetensors_entry *entries = memory_allocate(count, sizeof *entries, "entries");
    for (size_t i = 0; i < count; ++i)
        entries[i] = list[i].entry;
    struct safetensors_writer *writer = safetensors_writer_create(path, entries, count, problem);
    bool is_good = writer != NULL;
    for (size_t i = 0; i < count && is_good; ++i)
        is_good = list[i].frozen != NULL ? write_frozen(run, list[i].frozen, writer, problem)
                                         : safetensors_write(writer, list[i].trained, problem);
    is_good = safetensors_writer_finish(&writer, problem) && is_good;
    memory_free(entries);
    memory_free(list);
    stage_weights_free(weights, num_weights);
    return is_good;
}

/* ---- config.json and the tokenizer's files ---- */

/* The classes of transformers that load the exported models. */
static const char *class_of(const struct stage *stage) {
    static const char *const classes[NUM_FAMILIES][HEAD_LANGUAGE_MODELING + 1] = {
        [FAMILY_BERT] = {"BertForSequenceClassification", "BertForTokenClassification"},
        [FAMILY_ROBERTA] = {"RobertaForSequenceClassification", "RobertaForTokenClassification"},
        [FAMILY_GPT2] = {[HEAD_LANGUAGE_MODELING] = "GPT2LMHeadModel"},
    };
    const char *name = classes[stage->options.architecture.family][stage->options.head_kind];
    FAULT_UNLESS(name != NULL, "no class for head %d", (int)stage->options.head_kind);
    return name;
}

static void add_labels(struct json *root, const struct label_set *labels) {
    struct json *names = json_add_object(root, "id2label");
    struct json *ids = json_add_object(root, "label2id");
    for (size_t l = 0; l < labels->count; ++l) {
        char *id = memory_format("%zu", l);
        json_add_string(names, id, labels->names[l]);
        json_add_number(ids, labels->names[l], (double)l);
        memory_free(id);
    }
}

static bool is_replaced(const char *name) {
    static const char *const names[] = {"architectures", "id2label",     "label2id", "num_labels",
                                        "torch_dtype",   "problem_type", "dtype"};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The base model's config.json with the task's labels. Free with memory_free. */
static char *config_text(const struct saved_run *run, const struct json *base) {
    const struct label_set *labels = &run->job.labels;
    struct json *root = json_create_object();
    json_add_string(json_add_array(root, "architectures"), NULL, class_of(run->stage));
    for (const struct json *member = json_first(base); member != NULL; member = json_next(member))
        if (!is_replaced(json_name(member)))
            json_add_copy(root, json_name(member), member);
    if (labels->count > 0)
        add_labels(root, labels);
    if (run->stage->options.head_kind == HEAD_SEQUENCE_CLASSIFICATION)
        json_add_string(root, "problem_type",
                        labels->count == 1 ? "regression" : "single_label_classification");
    json_add_string(root, "torch_dtype", "float32");
    char *text = json_print(root, true);
    json_destroy(&root);
    return text;
}

static bool write_config(const struct saved_run *run, const char *directory,
                         struct problem *problem) {
    char *from = file_join(run->job.config.model.path, "config.json");
    char *to = file_join(directory, "config.json");
    size_t size = 0;
    char *base_text = file_read(from, &size, problem);
    struct json *base =
        base_text == NULL ? NULL : json_parse(base_text, size, from, EXIT_DATA, problem);
    bool is_good = base != NULL;
    if (is_good) {
        char *text = config_text(run, base);
        is_good = file_write_atomically(to, text, strlen(text), problem);
        memory_free(text);
        json_destroy(&base);
    }
    memory_free(base_text);
    memory_free(from);
    memory_free(to);
    return is_good;
}

static bool copy_file(const char *from, const char *to, struct problem *problem) {
    size_t size = 0;
    char *bytes = file_read(from, &size, problem);
    const bool is_good = bytes != NULL && file_write_atomically(to, bytes, size, problem);
    memory_free(bytes);
    return is_good;
}

static bool copy_tokenizer(const struct saved_run *run, const char *directory,
                           struct problem *problem) {
    static const char *const names[] = {"vocab.txt",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.json",
                                        "added_tokens.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "generation_config.json"};
    bool is_good = true;
    for (size_t i = 0; i < sizeof names / sizeof *names && is_good; ++i) {
        char *from = file_join(run->job.config.model.path, names[i]);
        char *to = file_join(directory, names[i]);
        is_good = !file_exists(from) || copy_file(from, to, problem);
        memory_free(from);
        memory_free(to);
    }
    return is_good;
}

bool export_merged(const struct saved_run *run, const char *directory, struct problem *problem) {
    if (run->stage->options.adapters.bottleneck > 0)
        return problem_set(problem, EXIT_USAGE,
                           "export: bottleneck adapters (adapter.method adapter) are layers of "
                           "their own, which a plain checkpoint has no place for");
    if (!export_prepare_directory(run, directory, problem))
        return false;
    char *path = file_join(directory, "model.safetensors");
    const bool is_good = write_model(run, path, problem) &&
                         copy_tokenizer(run, directory, problem) &&
                         write_config(run, directory, problem);
    memory_free(path);
    return is_good;
}
