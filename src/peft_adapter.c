/* Reading PEFT adapter directories. Ranks come from the tensors' shapes; only alpha is taken from
 * the configuration, whose patterns are understood where they are literal names. */
#include "peft_adapter.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/weights.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { LARGEST_RANK = 65536 };
static const char PREFIX[] = "base_model.model.";

/* What the file has for one module of the job. */
struct module {
    const float *a, *b; /* [file_rank, in], [outputs, file_rank]; NULL: nothing */
    size_t file_rank, inputs, outputs, first_output, size; /* size: outputs of this module */
    size_t *components, rank;                              /* [rank] numbers of those that count */
    float scale;
};

struct peft_adapter {
    const struct job *job;
    char *path; /* of the tensors */
    struct json *config;
    struct weights *weights;
    struct module *modules; /* [job->num_modules] */
    size_t num_used;        /* tensors that have a place */
};

/* ---- adapter_config.json ---- */

static bool is_text(const struct json *node, const char *text) {
    return node != NULL && json_type(node) == JSON_STRING && strcmp(json_string(node), text) == 0;
}

static bool is_on(const struct json *config, const char *key) {
    const struct json *node = json_get(config, key);
    return node != NULL && json_type(node) != JSON_NULL &&
           (json_type(node) != JSON_BOOL || json_is_true(node));
}

/* Starts that also change the frozen weights cannot be read without those. */
static bool has_usual_start(const struct json *config) {
    const struct json *start = json_get(config, "init_lora_weights");
    return start == NULL || json_type(start) == JSON_BOOL || is_text(start, "gaussian") ||
           is_text(start, "orthogonal") || is_text(start, "eva");
}

static bool is_literal(const char *key) {
    for (; *key != '\0'; ++key)
        if (!isalnum((unsigned char)*key) && strchr("._-", *key) == NULL)
            return false;
    return true;
}

static bool check_alphas(const struct json *config, const char *path, struct problem *problem) {
    const struct json *alpha = json_get(config, "lora_alpha");
    const struct json *pattern = json_get(config, "alpha_pattern");
    if (alpha == NULL || json_type(alpha) != JSON_NUMBER || !(json_number(alpha) > 0))
        return problem_set(problem, EXIT_DATA, "%s: lora_alpha is no number above 0", path);
    for (const struct json *key = pattern != NULL ? json_first(pattern) : NULL; key != NULL;
         key = json_next(key)) {
        if (json_name(key) == NULL || json_type(key) != JSON_NUMBER || !(json_number(key) > 0))
            return problem_set(problem, EXIT_DATA, "%s: alpha_pattern has to map names to numbers",
                               path);
        if (!is_literal(json_name(key)))
            return problem_set(problem, EXIT_DATA,
                               "%s: alpha_pattern: \"%.100s\" is a regular expression: only names "
                               "are understood",
                               path, json_name(key));
    }
    return true;
}

static bool check_config(const struct json *config, const char *path, struct problem *problem) {
    static const char *const unsupported[] = {"use_dora", "lora_bias", "alora_invocation_tokens"};
    if (!is_text(json_get(config, "peft_type"), "LORA"))
        return problem_set(problem, EXIT_DATA, "%s: peft_type is not \"LORA\"", path);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; ++i)
        if (is_on(config, unsupported[i]))
            return problem_set(problem, EXIT_DATA, "%s: %s is not supported", path, unsupported[i]);
    if (json_get(config, "bias") != NULL && !is_text(json_get(config, "bias"), "none"))
        return problem_set(problem, EXIT_DATA, "%s: bias has to be \"none\"", path);
    if (!has_usual_start(config))
        return problem_set(problem, EXIT_DATA,
                           "%s: init_lora_weights is of a kind that changes the base model", path);
    return check_alphas(config, path, problem);
}

static struct json *read_config(const char *directory, struct problem *problem) {
    char *path = file_join(directory, "adapter_config.json");
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    struct json *config = text == NULL ? NULL : json_parse(text, size, path, EXIT_DATA, problem);
    if (config != NULL && !check_config(config, path, problem))
        json_destroy(&config);
    memory_free(text);
    memory_free(path);
    return config;
}

/* PEFT's rule for a literal key: the whole path, or its end behind a dot. The first that fits. */
static double alpha_of(const struct json *config, const char *module) {
    const struct json *pattern = json_get(config, "alpha_pattern");
    for (const struct json *key = pattern != NULL ? json_first(pattern) : NULL; key != NULL;
         key = json_next(key)) {
        const size_t length = strlen(json_name(key)), whole = strlen(module);
        if (length <= whole && strcmp(module + whole - length, json_name(key)) == 0 &&
            (length == whole || module[whole - length - 1] == '.'))
            return json_number(key);
    }
    return json_number(json_get(config, "lora_alpha"));
}

static float scale_of(const struct json *config, const char *module, size_t rank) {
    const double divisor = is_on(config, "use_rslora") ? sqrt((double)rank) : (double)rank;
    return (float)(alpha_of(config, module) / divisor);
}

/* ---- adapter_model.safetensors ---- */

static const struct tensor *find(const struct peft_adapter *adapter, const char *module,
                                 const char *end) {
    char *name = memory_format("%s%s%s", PREFIX, module, end);
    const struct tensor *tensor = weights_find(adapter->weights, name);
    memory_free(name);
    return tensor;
}

static bool read_factors(struct peft_adapter *adapter, const char *name, struct module *module,
                         struct problem *problem) {
    const struct tensor *a = find(adapter, name, ".lora_A.weight");
    const struct tensor *b = find(adapter, name, ".lora_B.weight");
    if (a == NULL && b == NULL)
        return true;
    if (a == NULL || b == NULL || a->num_dimensions != 2 || b->num_dimensions != 2 ||
        a->shape[0] == 0 || a->shape[0] > LARGEST_RANK || a->shape[1] != module->inputs ||
        b->shape[0] != module->outputs || b->shape[1] != a->shape[0])
        return problem_set(problem, EXIT_DATA,
                           "%s: module %s needs lora_A [r, %zu] and lora_B [%zu, r]", adapter->path,
                           name, module->inputs, module->outputs);
    module->file_rank = a->shape[0];
    module->scale = scale_of(adapter->config, name, module->file_rank);
    module->a = weights_floats(adapter->weights, a, problem);
    module->b = weights_floats(adapter->weights, b, problem);
    return module->a != NULL && module->b != NULL;
}

static bool adds_nothing(const struct module *module, size_t component) {
    for (size_t o = 0; o < module->size; ++o)
        if (module->b[(module->first_output + o) * module->file_rank + component] != 0)
            return false;
    return true;
}

static void choose_components(struct module *module) {
    const bool is_part = module->size < module->outputs;
    module->components =
        memory_allocate(module->file_rank, sizeof *module->components, "components");
    for (size_t r = 0; r < module->file_rank; ++r)
        if (!is_part || !adds_nothing(module, r))
            module->components[module->rank++] = r;
}

/* A module of the job (module NULL: a part of a projection that is no target, which the file must
 * leave alone). */
static bool read_module(struct peft_adapter *adapter, size_t block, enum projection projection,
                        struct module *module, struct problem *problem) {
    const struct architecture *architecture = &adapter->job->architecture;
    const struct projection_storage storage = architecture_storage(architecture, block, projection);
    struct module found = {
        .inputs = projection_input_size(architecture, projection),
        .outputs = storage.outputs,
        .first_output = storage.first_output,
        .size = projection_output_size(architecture, projection),
    };
    bool is_good = read_factors(adapter, storage.module, &found, problem);
    if (is_good && found.a != NULL) {
        choose_components(&found);
        if (found.first_output == 0) /* the parts of a projection share two tensors */
            adapter->num_used += 2;
        if (module == NULL && found.rank > 0)
            is_good = problem_set(problem, EXIT_DATA,
                                  "%s: adapts the %s of %s, which adapter.targets does not name",
                                  adapter->path, projection_name(projection), storage.module);
    }
    if (module != NULL)
        *module = found;
    else
        memory_free(found.components);
    memory_free(storage.module);
    return is_good;
}

static bool read_modules(struct peft_adapter *adapter, struct problem *problem) {
    const struct job *job = adapter->job;
    size_t count = 0;
    adapter->modules = memory_allocate(job->num_modules, sizeof *adapter->modules, "modules");
    for (size_t block = 0; block < job->architecture.num_blocks; ++block)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            const bool is_target = job->config.adapter.is_target[p];
            if (!read_module(adapter, block, (enum projection)p,
                             is_target ? &adapter->modules[count] : NULL, problem))
                return false;
            count += is_target;
        }
    return true;
}

static bool is_of_head(const char *name) {
    const size_t length = sizeof PREFIX - 1;
    return strncmp(name, PREFIX, length) == 0 && (strncmp(name + length, "classifier.", 11) == 0 ||
                                                  strncmp(name + length, "score.", 6) == 0);
}

/* A tensor that was not read would be lost in silence. */
static bool check_all_used(const struct peft_adapter *adapter, struct problem *problem) {
    size_t num_adapters = 0;
    const char *other = NULL;
    for (size_t i = 0; i < weights_count(adapter->weights); ++i) {
        const char *name = weights_at(adapter->weights, i)->name;
        const bool is_factor =
            strstr(name, ".lora_A.weight") != NULL || strstr(name, ".lora_B.weight") != NULL;
        num_adapters += is_factor;
        if (!is_factor && !is_of_head(name))
            other = name;
    }
    if (other != NULL)
        return problem_set(problem, EXIT_DATA, "%s: tensor \"%.200s\" is of no kind known here",
                           adapter->path, other);
    if (num_adapters == 0 || num_adapters != adapter->num_used)
        return problem_set(problem, EXIT_DATA,
                           "%s: %zu of its %zu tensors of adapters have a place in this model: is "
                           "it an adapter of another one?",
                           adapter->path, adapter->num_used, num_adapters);
    return true;
}

struct peft_adapter *peft_adapter_open(const struct job *job, const char *directory,
                                       struct problem *problem) {
    struct peft_adapter *adapter = memory_allocate(1, sizeof *adapter, "an adapter");
    adapter->job = job;
    adapter->path = file_join(directory, "adapter_model.safetensors");
    adapter->config = read_config(directory, problem);
    if (adapter->config != NULL)
        adapter->weights = weights_open(adapter->path, problem);
    if (adapter->weights == NULL || !read_modules(adapter, problem) ||
        !check_all_used(adapter, problem))
        peft_adapter_close(&adapter);
    return adapter;
}

void peft_adapter_close(struct peft_adapter **pointer) {
    struct peft_adapter *adapter = *pointer;
    if (adapter == NULL)
        return;
    for (size_t m = 0; adapter->modules != NULL && m < adapter->job->num_modules; ++m)
        memory_free(adapter->modules[m].components);
    memory_free(adapter->modules);
    weights_close(&adapter->weights);
    if (adapter->config != NULL)
        json_destroy(&adapter->config);
    memory_free(adapter->path);
    memory_free(adapter);
    *pointer = NULL;
}

/* ---- what the training takes ---- */

void peft_adapter_ranks(const struct peft_adapter *adapter, size_t *ranks) {
    for (size_t m = 0; m < adapter->job->num_modules; ++m)
        ranks[m] = adapter->modules[m].rank;
}

void peft_adapter_scales(const struct peft_adapter *adapter, const size_t *ranks, float *scales) {
    for (size_t m = 0; m < adapter->job->num_modules; ++m) {
        scales[m] = adapter->modules[m].scale;
        if (adapter->modules[m].rank == 0 && ranks[m] > 0)
            scales[m] = (float)(adapter->job->config.adapter.alpha / (double)ranks[m]);
    }
}

/* B is kept as [rank, out] here. */
static void start_module(const struct module *module, const struct linear *linear, float *factors) {
    const size_t rank = linear->adapter.rank < module->rank ? linear->adapter.rank : module->rank;
    float *a = factors + linear->adapter.a_offset, *b = factors + linear->adapter.b_offset;
    for (size_t r = 0; r < rank; ++r) {
        const size_t component = module->components[r];
        memcpy(a + r * module->inputs, module->a + component * module->inputs,
               module->inputs * sizeof *a);
        for (size_t o = 0; o < module->size; ++o)
            b[r * module->size + o] =
                module->b[(module->first_output + o) * module->file_rank + component];
    }
}

/* Puts a trained tensor of the model's own in its place, if the file has it. */
static bool start_tensor(const struct peft_adapter *adapter, const struct parameter *entry,
                         float *factors, size_t *num_found, struct problem *problem) {
    const struct tensor *tensor = find(adapter, entry->name, "");
    if (tensor == NULL)
        return true;
    const bool is_vector =
        tensor->num_dimensions == 1 && entry->rows == 1 && tensor->shape[0] == entry->columns;
    const bool is_matrix = tensor->num_dimensions == 2 && tensor->shape[0] == entry->rows &&
                           tensor->shape[1] == entry->columns;
    if (!is_vector && !is_matrix)
        return problem_set(problem, EXIT_DATA,
                           "%s: tensor \"%s\" is not [%zu, %zu]: has its task as many labels?",
                           adapter->path, tensor->name, entry->rows, entry->columns);
    const float *values = weights_floats(adapter->weights, tensor, problem);
    if (values == NULL)
        return false;
    memcpy(factors + entry->offset, values, tensor->count * sizeof *values);
    ++*num_found;
    return true;
}

static bool start_head(const struct peft_adapter *adapter, const struct parameter_table *table,
                       float *factors, struct problem *problem) {
    size_t num_found = 0, num_there = 0;
    for (size_t i = 0; i < weights_count(adapter->weights); ++i)
        num_there += is_of_head(weights_at(adapter->weights, i)->name);
    for (size_t i = 0; i < table->count; ++i)
        if (strstr(table->entries[i].name, ".lora_") == NULL &&
            !start_tensor(adapter, &table->entries[i], factors, &num_found, problem))
            return false;
    return num_found == num_there ||
           problem_set(problem, EXIT_DATA, "%s: its task head is not that of this task",
                       adapter->path);
}

bool peft_adapter_start(const struct peft_adapter *adapter, const struct stage *stage,
                        float *factors, struct problem *problem) {
    size_t module = stage->first_module;
    for (size_t b = 0; b < stage->options.num_blocks; ++b)
        for (int p = 0; p < NUM_PROJECTIONS; ++p)
            if (stage->options.adapters.is_target[p])
                start_module(&adapter->modules[module++], &stage->blocks[b].projections[p],
                             factors);
    return !stage->options.has_task_head || start_head(adapter, &stage->factors, factors, problem);
}
