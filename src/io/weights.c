/* A safetensors file: 8 bytes of header length, a JSON header, the data. The files of a sharded
 * checkpoint make one table of tensors. */
#include "io/weights.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_LENGTH_BYTES = 8, HEADER_LIMIT = 100 << 20 };

/* float32 elements of a tensor that the map does not hold as such. */
struct converted {
    const struct tensor *tensor;
    float *values;
};

struct weights {
    char *path; /* of the file being read, later of what was opened */
    struct file_map *maps;
    size_t num_maps;
    struct tensor *tensors; /* sorted by name */
    size_t count;
    struct converted *copies;
    size_t num_copies;
};

static size_t type_bytes(const char *name, enum tensor_type *type) {
    static const struct {
        const char *name;
        enum tensor_type type;
        size_t bytes;
    } types[] = {
        {"F32", TENSOR_F32, 4},    {"F16", TENSOR_F16, 2},       {"BF16", TENSOR_BF16, 2},
        {"I64", TENSOR_I64, 8},    {"F64", TENSOR_OTHER, 8},     {"I32", TENSOR_OTHER, 4},
        {"I16", TENSOR_OTHER, 2},  {"I8", TENSOR_OTHER, 1},      {"U8", TENSOR_OTHER, 1},
        {"U16", TENSOR_OTHER, 2},  {"U32", TENSOR_OTHER, 4},     {"U64", TENSOR_OTHER, 8},
        {"BOOL", TENSOR_OTHER, 1}, {"F8_E4M3", TENSOR_OTHER, 1}, {"F8_E5M2", TENSOR_OTHER, 1},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (strcmp(name, types[i].name) == 0) {
            *type = types[i].type;
            return types[i].bytes;
        }
    return 0;
}

/* Refuses more elements than `limit`, unless one size is 0: such a tensor has none. */
static bool read_shape(const struct json *shape, struct tensor *tensor, size_t limit) {
    if (shape == NULL || json_type(shape) != JSON_ARRAY ||
        json_count(shape) > TENSOR_MAX_DIMENSIONS)
        return false;
    bool is_empty = false, is_too_large = false;
    tensor->count = 1;
    for (const struct json *size = json_first(shape); size != NULL; size = json_next(size)) {
        size_t value;
        if (!json_size(size, &value))
            return false;
        tensor->shape[tensor->num_dimensions++] = value;
        is_empty = is_empty || value == 0;
        is_too_large = is_too_large || (value != 0 && tensor->count > limit / value);
        if (!is_too_large)
            tensor->count *= value;
    }
    if (is_empty)
        tensor->count = 0;
    return is_empty || !is_too_large;
}

/* Fills one tensor from its entry in the header; `data` are the `size` bytes after the header. */
static bool read_tensor(struct weights *weights, const struct json *entry,
                        const unsigned char *data, size_t size, struct tensor *tensor,
                        struct problem *problem) {
    const char *name = json_name(entry);
    const struct json *type = json_get(entry, "dtype"), *offsets = json_get(entry, "data_offsets");
    if (type == NULL || json_type(type) != JSON_STRING)
        return problem_set(problem, EXIT_DATA, "%s: tensor \"%.200s\" has no dtype", weights->path,
                           name);
    const size_t width = type_bytes(json_string(type), &tensor->type);
    if (width == 0)
        return problem_set(problem, EXIT_DATA,
                           "%s: tensor \"%.200s\" has the unknown dtype \"%.40s\"", weights->path,
                           name, json_string(type));
    if (!read_shape(json_get(entry, "shape"), tensor, size))
        return problem_set(problem, EXIT_DATA,
                           "%s: tensor \"%.200s\" has a bad shape, or one larger than the file",
                           weights->path, name);
    size_t begin, end;
    if (offsets == NULL || json_type(offsets) != JSON_ARRAY || json_count(offsets) != 2 ||
        !json_size(json_first(offsets), &begin) ||
        !json_size(json_next(json_first(offsets)), &end) || begin > end)
        return problem_set(problem, EXIT_DATA, "%s: tensor \"%.200s\" has bad data_offsets",
                           weights->path, name);
    if (end > size)
        return problem_set(
            problem, EXIT_DATA,
            "%s: tensor \"%.200s\" ends at byte %zu of the data, which has only %zu: "
            "is the file truncated?",
            weights->path, name, end, size);
    if (end - begin != tensor->count * width)
        return problem_set(problem, EXIT_DATA,
                           "%s: tensor \"%.200s\" has %zu bytes, its shape and dtype ask for %zu",
                           weights->path, name, end - begin, tensor->count * width);
    tensor->data = data + begin;
    tensor->bytes = end - begin;
    tensor->name = memory_copy_string(name);
    return true;
}

static int compare_places(const void *left, const void *right) {
    const struct tensor *a = left, *b = right;
    return a->data != b->data ? (a->data < b->data ? -1 : 1)
                              : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int compare_names(const void *left, const void *right) {
    return strcmp(((const struct tensor *)left)->name, ((const struct tensor *)right)->name);
}

static bool read_tensors(struct weights *weights, const struct json *header,
                         const unsigned char *data, size_t size, struct problem *problem) {
    const size_t first = weights->count;
    weights->tensors = memory_resize(weights->tensors, first + json_count(header),
                                     sizeof *weights->tensors, "the tensor table");
    for (const struct json *entry = json_first(header); entry != NULL; entry = json_next(entry)) {
        if (strcmp(json_name(entry), "__metadata__") == 0)
            continue;
        struct tensor tensor = {0};
        if (!read_tensor(weights, entry, data, size, &tensor, problem))
            return false;
        weights->tensors[weights->count++] = tensor;
    }
    qsort(weights->tensors + first, weights->count - first, sizeof *weights->tensors,
          compare_places);
    for (size_t i = first + 1; i < weights->count; ++i) {
        const struct tensor *before = &weights->tensors[i - 1], *after = &weights->tensors[i];
        if (before->data + before->bytes > after->data)
            return problem_set(problem, EXIT_DATA, "%s: tensors \"%.200s\" and \"%.200s\" overlap",
                               weights->path, before->name, after->name);
    }
    return true;
}

static bool read_header(struct weights *weights, const struct file_map *map,
                        struct problem *problem) {
    uint64_t length = 0;
    if (map->size >= HEADER_LENGTH_BYTES)
        for (int i = HEADER_LENGTH_BYTES; i-- > 0;)
            length = length << 8 | map->bytes[i];
    if (map->size < HEADER_LENGTH_BYTES || length > map->size - HEADER_LENGTH_BYTES ||
        length > HEADER_LIMIT)
        return problem_set(problem, EXIT_DATA,
                           "%s: not a safetensors file, or truncated (%zu bytes, header of %llu)",
                           weights->path, map->size, (unsigned long long)length);
    const unsigned char *text = map->bytes + HEADER_LENGTH_BYTES;
    struct json *header =
        json_parse((const char *)text, (size_t)length, weights->path, EXIT_DATA, problem);
    if (header == NULL)
        return false;
    bool is_good = json_type(header) == JSON_OBJECT;
    if (!is_good)
        problem_set(problem, EXIT_DATA, "%s: the header is not a JSON object", weights->path);
    is_good = is_good && read_tensors(weights, header, text + length,
                                      map->size - HEADER_LENGTH_BYTES - (size_t)length, problem);
    json_destroy(&header);
    return is_good;
}

static void set_path(struct weights *weights, const char *path) {
    memory_free(weights->path);
    weights->path = memory_copy_string(path);
}

static bool add_file(struct weights *weights, const char *path, struct problem *problem) {
    set_path(weights, path);
    struct file_map map;
    if (!file_map_open(&map, path, problem))
        return false;
    weights->maps = memory_resize(weights->maps, weights->num_maps + 1, sizeof *weights->maps,
                                  "the list of maps");
    weights->maps[weights->num_maps++] = map;
    return read_header(weights, &map, problem);
}

static bool sort_tensors(struct weights *weights, struct problem *problem) {
    qsort(weights->tensors, weights->count, sizeof *weights->tensors, compare_names);
    for (size_t i = 1; i < weights->count; ++i)
        if (strcmp(weights->tensors[i - 1].name, weights->tensors[i].name) == 0)
            return problem_set(problem, EXIT_DATA, "%s: two files have a tensor \"%.200s\"",
                               weights->path, weights->tensors[i].name);
    return true;
}

struct weights *weights_open(const char *path, struct problem *problem) {
    struct weights *weights = memory_allocate(1, sizeof *weights, "a safetensors file");
    if (!add_file(weights, path, problem) || !sort_tensors(weights, problem))
        weights_close(&weights);
    return weights;
}

/* Adds a file that the index names, once. A name with a slash would lead out of the directory. */
static bool add_shard(struct weights *weights, const char *directory, const struct json *entry,
                      const struct json *before, struct problem *problem) {
    if (json_type(entry) != JSON_STRING || strchr(json_string(entry), '/') != NULL)
        return problem_set(problem, EXIT_DATA,
                           "%s: weight_map: expected the name of a file in the same directory for "
                           "\"%.200s\"",
                           weights->path, json_name(entry));
    for (const struct json *other = before; other != entry; other = json_next(other))
        if (strcmp(json_string(other), json_string(entry)) == 0)
            return true;
    char *path = file_join(directory, json_string(entry));
    const bool is_good = add_file(weights, path, problem);
    memory_free(path);
    return is_good;
}

static bool add_shards(struct weights *weights, const char *directory, const char *index_path,
                       const struct json *index, struct problem *problem) {
    const struct json *files = json_get(index, "weight_map");
    if (files == NULL || json_type(files) != JSON_OBJECT || json_count(files) == 0)
        return problem_set(problem, EXIT_DATA, "%s: weight_map: expected an object of tensor: file",
                           index_path);
    const struct json *first = json_first(files);
    for (const struct json *file = first; file != NULL; file = json_next(file)) {
        set_path(weights, index_path);
        if (!add_shard(weights, directory, file, first, problem))
            return false;
    }
    set_path(weights, index_path);
    if (!sort_tensors(weights, problem))
        return false;
    for (const struct json *file = first; file != NULL; file = json_next(file))
        if (weights_find(weights, json_name(file)) == NULL)
            return problem_set(problem, EXIT_DATA, "%s: tensor \"%.200s\" is not in %.200s",
                               index_path, json_name(file), json_string(file));
    return true;
}

static struct weights *open_sharded(const char *directory, const char *index_path,
                                    struct problem *problem) {
    size_t size = 0;
    char *text = file_read(index_path, &size, problem);
    struct json *index =
        text == NULL ? NULL : json_parse(text, size, index_path, EXIT_DATA, problem);
    memory_free(text);
    if (index == NULL)
        return NULL;
    struct weights *weights = memory_allocate(1, sizeof *weights, "a sharded checkpoint");
    if (!add_shards(weights, directory, index_path, index, problem))
        weights_close(&weights);
    json_destroy(&index);
    return weights;
}

static const char FILE_NAME[] = "model.safetensors", INDEX_NAME[] = "model.safetensors.index.json";

bool weights_model_exists(const char *directory) {
    char *path = file_join(directory, FILE_NAME), *index_path = file_join(directory, INDEX_NAME);
    const bool exists = file_exists(path) || file_exists(index_path);
    memory_free(path);
    memory_free(index_path);
    return exists;
}

struct weights *weights_open_model(const char *directory, struct problem *problem) {
    char *path = file_join(directory, FILE_NAME), *index_path = file_join(directory, INDEX_NAME);
    struct weights *weights = !file_exists(path) && file_exists(index_path)
                                  ? open_sharded(directory, index_path, problem)
                                  : weights_open(path, problem);
    memory_free(path);
    memory_free(index_path);
    return weights;
}

void weights_close(struct weights **weights) {
    struct weights *w = *weights;
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->num_copies; ++i)
        memory_free(w->copies[i].values);
    for (size_t i = 0; i < w->count; ++i)
        memory_free(w->tensors[i].name);
    memory_free(w->tensors);
    memory_free(w->copies);
    memory_free(w->path);
    for (size_t i = 0; i < w->num_maps; ++i)
        file_map_close(&w->maps[i]);
    memory_free(w->maps);
    memory_free(w);
    *weights = NULL;
}

size_t weights_count(const struct weights *weights) {
    return weights->count;
}

const struct tensor *weights_at(const struct weights *weights, size_t index) {
    return &weights->tensors[index];
}

const struct tensor *weights_find(const struct weights *weights, const char *name) {
    const struct tensor key = {.name = (char *)(size_t)name};
    return bsearch(&key, weights->tensors, weights->count, sizeof key, compare_names);
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE half precision: 5 exponent bits, 10 of fraction. */
static float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = half >> 10 & 31u, fraction = half & 1023u;
    if (exponent == 31)
        return float_of(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) { /* zero and subnormal: fraction * 2^-24 */
        const float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

static float *converted_copy(struct weights *weights, const struct tensor *tensor) {
    for (size_t i = 0; i < weights->num_copies; ++i)
        if (weights->copies[i].tensor == tensor)
            return weights->copies[i].values;
    float *copy = memory_allocate(tensor->count, sizeof *copy, tensor->name);
    weights->copies = memory_resize(weights->copies, weights->num_copies + 1,
                                    sizeof *weights->copies, "the list of converted tensors");
    weights->copies[weights->num_copies++] = (struct converted){tensor, copy};
    if (tensor->type == TENSOR_F32) {
        memcpy(copy, tensor->data, tensor->bytes);
        return copy;
    }
    for (size_t i = 0; i < tensor->count; ++i) {
        uint16_t bits;
        memcpy(&bits, tensor->data + 2 * i, sizeof bits);
        copy[i] = tensor->type == TENSOR_F16 ? half_to_float(bits) : float_of((uint32_t)bits << 16);
    }
    return copy;
}

bool tensor_is_mapped(const struct tensor *tensor) {
    return tensor->type == TENSOR_F32 && (size_t)tensor->data % sizeof(float) == 0;
}

const float *weights_floats(struct weights *weights, const struct tensor *tensor,
                            struct problem *problem) {
    if (tensor->type != TENSOR_F32 && tensor->type != TENSOR_F16 && tensor->type != TENSOR_BF16) {
        problem_set(problem, EXIT_DATA, "%s: tensor \"%.200s\" is not of type F32, F16 or BF16",
                    weights->path, tensor->name);
        return NULL;
    }
    if (tensor_is_mapped(tensor))
        return (const float *)(const void *)tensor->data;
    return converted_copy(weights, tensor);
}

void weights_release(struct weights *weights) {
    for (size_t i = 0; i < weights->num_copies; ++i)
        memory_free(weights->copies[i].values);
    weights->num_copies = 0;
    for (size_t i = 0; i < weights->num_maps; ++i)
        file_map_release(&weights->maps[i]);
}

/* Old checkpoints call a LayerNorm's weight gamma and its bias beta. NULL if the name is not of a
 * LayerNorm. */
static char *old_layer_norm_name(const char *name) {
    const char *norm = strstr(name, "LayerNorm.");
    if (norm == NULL)
        return NULL;
    const char *old = strcmp(norm, "LayerNorm.weight") == 0 ? "gamma" : "beta";
    return memory_format("%.*sLayerNorm.%s", (int)(norm - name), name, old);
}

static const struct tensor *find_tolerantly(const struct weights *weights, const char *full_name) {
    const char *dot = strchr(full_name, '.');
    const char *names[2] = {full_name, dot == NULL ? full_name : dot + 1};
    const struct tensor *found = NULL;
    for (int i = 0; i < 2 && found == NULL; ++i) {
        found = weights_find(weights, names[i]);
        char *old = found == NULL ? old_layer_norm_name(names[i]) : NULL;
        if (old != NULL)
            found = weights_find(weights, old);
        memory_free(old);
    }
    return found;
}

/* "[3, 4]"; free with memory_free. */
static char *shape_text(const size_t *shape, size_t num_dimensions) {
    char *text = memory_copy_string("[");
    for (size_t i = 0; i < num_dimensions; ++i) {
        char *longer = memory_format("%s%s%zu", text, i > 0 ? ", " : "", shape[i]);
        memory_free(text);
        text = longer;
    }
    char *closed = memory_format("%s]", text);
    memory_free(text);
    return closed;
}

const struct tensor *weights_check(const struct weights *weights, const char *full_name,
                                   size_t rows, size_t columns, struct problem *problem) {
    const struct tensor *tensor = find_tolerantly(weights, full_name);
    if (tensor == NULL) {
        problem_set(problem, EXIT_DATA,
                    "%s: has no tensor \"%s\" (nor one without its prefix): is it a checkpoint of "
                    "this model family?",
                    weights->path, full_name);
        return NULL;
    }
    const size_t dimensions = columns == 1 ? 1 : 2;
    if (tensor->num_dimensions != dimensions || tensor->shape[0] != rows ||
        (dimensions == 2 && tensor->shape[1] != columns)) {
        char *found = shape_text(tensor->shape, tensor->num_dimensions);
        char *expected = shape_text((const size_t[]){rows, columns}, dimensions);
        problem_set(problem, EXIT_DATA, "%s: tensor \"%s\" has shape %s, config.json asks for %s",
                    weights->path, tensor->name, found, expected);
        memory_free(found);
        memory_free(expected);
        return NULL;
    }
    return tensor;
}

const float *weights_pretrained(struct weights *weights, const char *full_name, size_t rows,
                                size_t columns, struct problem *problem) {
    const struct tensor *tensor = weights_check(weights, full_name, rows, columns, problem);
    return tensor == NULL ? NULL : weights_floats(weights, tensor, problem);
}
