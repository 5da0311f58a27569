/* PEFT adapter directories: https://huggingface.co/docs/peft, checkpoint format. Keys of
 * rank_pattern and alpha_pattern are full module paths without an anchor: they fit their module
 * alone, in every version of PEFT. */
#include "export.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors_write.h"

#include <math.h>
#include <string.h>

/* A module of the checkpoint and the adapters on it: one, or the parts of a fused projection. */
struct module {
    const struct block *block;
    int first, last; /* projections [first, last) */
    char *path;
    size_t rank, inputs, outputs; /* rank: the sum of the parts' */
    float scale;                  /* of the first part; the others' B is written relative to it */
    char *a_name, *b_name;
};

static struct projection_storage storage_of(const struct stage *stage, const struct block *block,
                                            int projection) {
    return architecture_storage(&stage->options.architecture, block->index,
                                (enum projection)projection);
}

/* The module that holds projection `first`. */
static struct module module_at(const struct stage *stage, const struct block *block, int first) {
    const struct projection_storage storage = storage_of(stage, block, first);
    struct module module = {
        .block = block,
        .first = first,
        .last = first,
        .path = storage.module,
        .inputs = block->projections[first].input_size,
        .outputs = storage.outputs,
        .a_name = memory_format("base_model.model.%s.lora_A.weight", storage.module),
        .b_name = memory_format("base_model.model.%s.lora_B.weight", storage.module),
    };
    for (bool is_part = true; is_part && module.last < NUM_PROJECTIONS;) {
        const struct projection_storage next = storage_of(stage, block, module.last);
        const struct adapter *adapter = &block->projections[module.last].adapter;
        is_part = strcmp(next.module, module.path) == 0;
        memory_free(next.module);
        if (!is_part)
            break;
        if (module.rank == 0)
            module.scale = adapter->scale;
        module.rank += adapter->rank;
        ++module.last;
    }
    return module;
}

static void module_free(struct module *module) {
    memory_free(module->path);
    memory_free(module->a_name);
    memory_free(module->b_name);
}

/* The modules with adapters; returns how many. */
static size_t list_modules(const struct stage *stage, struct module **modules) {
    size_t count = 0;
    *modules = memory_allocate(stage->options.num_blocks * NUM_PROJECTIONS, sizeof **modules,
                               "modules to export");
    for (size_t b = 0; b < stage->options.num_blocks; ++b)
        for (int p = 0; p < NUM_PROJECTIONS;) {
            struct module module = module_at(stage, &stage->blocks[b], p);
            p = module.last;
            if (module.rank > 0)
                (*modules)[count++] = module;
            else
                module_free(&module);
        }
    return count;
}

/* ---- adapter_model.safetensors ---- */

/* A [rank, in]: the parts' A below each other. */
static void fill_a(const struct saved_run *run, const struct module *module, float *values) {
    for (int p = module->first; p < module->last; ++p) {
        const struct adapter *adapter = &module->block->projections[p].adapter;
        const size_t size = adapter->rank * module->inputs;
        if (size > 0)
            memcpy(values, run->factors + adapter->a_offset, size * sizeof *values);
        values += size;
    }
}

/* B [outputs, rank]: the parts' B, transposed, in blocks along the diagonal. */
static void fill_b(const struct saved_run *run, const struct module *module, float *values) {
    size_t column = 0;
    memset(values, 0, module->outputs * module->rank * sizeof *values);
    for (int p = module->first; p < module->last; ++p) {
        const struct linear *linear = &module->block->projections[p];
        const struct projection_storage storage = storage_of(run->stage, module->block, p);
        const float *b = run->factors + linear->adapter.b_offset;
        const float ratio = linear->adapter.scale / module->scale;
        for (size_t r = 0; r < linear->adapter.rank; ++r, ++column)
            for (size_t o = 0; o < linear->output_size; ++o)
                values[(storage.first_output + o) * module->rank + column] =
                    ratio * b[r * linear->output_size + o];
        memory_free(storage.module);
    }
}

static char *head_name(const struct parameter *parameter) {
    return memory_format("base_model.model.%s", parameter->name);
}

static void write_values(const struct saved_run *run, const struct module *modules, size_t count,
                         struct safetensors_writer *writer, struct problem *problem) {
    for (size_t m = 0; m < count; ++m) {
        const struct module *module = &modules[m];
        const size_t longest = module->inputs > module->outputs ? module->inputs : module->outputs;
        float *values = memory_allocate(module->rank * longest, sizeof *values, module->path);
        fill_a(run, module, values);
        safetensors_write(writer, values, problem);
        fill_b(run, module, values);
        safetensors_write(writer, values, problem);
        memory_free(values);
    }
    const struct parameter_table *table = &run->stage->factors;
    for (size_t i = 0; i < table->count; ++i)
        if (!export_is_adapter(&table->entries[i]))
            safetensors_write(writer, run->factors + table->entries[i].offset, problem);
}

static bool write_tensors(const struct saved_run *run, const struct module *modules, size_t count,
                          const char *path, struct problem *problem) {
    const struct parameter_table *table = &run->stage->factors;
    struct safetensors_entry *entries =
        memory_allocate(2 * count + table->count, sizeof *entries, "tensors to export");
    size_t num_entries = 0;
    for (size_t m = 0; m < count; ++m) {
        entries[num_entries++] =
            export_entry(modules[m].a_name, modules[m].rank, modules[m].inputs);
        entries[num_entries++] =
            export_entry(modules[m].b_name, modules[m].outputs, modules[m].rank);
    }
    for (size_t i = 0; i < table->count; ++i)
        if (!export_is_adapter(&table->entries[i]))
            entries[num_entries++] = export_entry(
                head_name(&table->entries[i]), table->entries[i].rows, table->entries[i].columns);
    struct safetensors_writer *writer =
        safetensors_writer_create(path, entries, num_entries, problem);
    if (writer != NULL)
        write_values(run, modules, count, writer, problem);
    const bool is_good = safetensors_writer_finish(&writer, problem);
    for (size_t i = 2 * count; i < num_entries; ++i)
        memory_free((char *)(size_t)entries[i].name);
    memory_free(entries);
    return is_good;
}

/* ---- adapter_config.json ---- */

/* PEFT's scale is alpha / rank. Alphas that are lora_alpha but for rounding are that. */
static double alpha_of(const struct saved_run *run, const struct module *module) {
    const double alpha = (double)module->scale * (double)module->rank;
    const double usual = run->job.config.adapter.alpha;
    return fabs(alpha - usual) <= 1e-6 * usual ? usual : alpha;
}

static void add_patterns(const struct saved_run *run, const struct module *modules, size_t count,
                         struct json *alphas, struct json *ranks) {
    for (size_t m = 0; m < count; ++m) {
        const double alpha = alpha_of(run, &modules[m]);
        if (alpha != run->job.config.adapter.alpha)
            json_add_number(alphas, modules[m].path, alpha);
        json_add_number(ranks, modules[m].path, (double)modules[m].rank);
    }
}

static const char *task_type(const struct stage *stage) {
    switch (stage->options.head_kind) {
    case HEAD_SEQUENCE_CLASSIFICATION:
        return "SEQ_CLS";
    case HEAD_TOKEN_CLASSIFICATION:
        return "TOKEN_CLS";
    case HEAD_LANGUAGE_MODELING:
        return "CAUSAL_LM";
    }
    FAULT("no head %d", (int)stage->options.head_kind);
}

/* Keys in alphabetical order, as PEFT writes them. Free with memory_free. */
static char *config_text(const struct saved_run *run, const struct module *modules, size_t count) {
    const struct config *config = &run->job.config;
    const bool is_lm = run->stage->options.head_kind == HEAD_LANGUAGE_MODELING;
    struct json *root = json_create_object();
    struct json *alphas = json_add_object(root, "alpha_pattern");
    json_add_null(root, "auto_mapping");
    json_add_string(root, "base_model_name_or_path", config->model.path);
    json_add_string(root, "bias", "none");
    json_add_bool(root, "fan_in_fan_out", run->stage->options.architecture.family == FAMILY_GPT2);
    json_add_bool(root, "inference_mode", true);
    json_add_bool(root, "init_lora_weights", true);
    json_add_null(root, "layers_pattern");
    json_add_null(root, "layers_to_transform");
    json_add_number(root, "lora_alpha", config->adapter.alpha);
    json_add_number(root, "lora_dropout", config->adapter.dropout);
    if (is_lm)
        json_add_null(root, "modules_to_save");
    else
        json_add_string(json_add_array(root, "modules_to_save"), NULL, "classifier");
    json_add_string(root, "peft_type", "LORA");
    json_add_number(root, "r", (double)config->adapter.rank);
    struct json *ranks = json_add_object(root, "rank_pattern");
    json_add_null(root, "revision");
    struct json *targets = json_add_array(root, "target_modules");
    json_add_string(root, "task_type", task_type(run->stage));
    json_add_bool(root, "use_dora", false);
    json_add_bool(root, "use_rslora", false);
    add_patterns(run, modules, count, alphas, ranks);
    for (size_t m = 0; m < count; ++m)
        json_add_string(targets, NULL, modules[m].path);
    char *text = json_print(root, true);
    json_destroy(&root);
    return text;
}

bool export_peft(const struct saved_run *run, const char *directory, struct problem *problem) {
    if (!export_prepare_directory(run, directory, problem))
        return false;
    struct module *modules;
    const size_t count = list_modules(run->stage, &modules);
    char *tensors = file_join(directory, "adapter_model.safetensors");
    char *config = file_join(directory, "adapter_config.json");
    char *text = config_text(run, modules, count);
    const bool is_good =
        count == 0 ? problem_set(problem, EXIT_DATA,
                                 "%s: every module has rank 0: there is no adapter to export "
                                 "(--format merged writes the model)",
                                 run->job.output_dir)
                   : write_tensors(run, modules, count, tensors, problem) &&
                         file_write_atomically(config, text, strlen(text), problem);
    for (size_t m = 0; m < count; ++m)
        module_free(&modules[m]);
    memory_free(modules);
    memory_free(tensors);
    memory_free(config);
    memory_free(text);
    return is_good;
}
