/* Strict JSON over cJSON, which by itself accepts duplicate names, looks names up without regard to
 * case and ignores what follows the value. */
#include "io/json.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/utf8.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *node_in(const struct json *node) {
    return (const cJSON *)node;
}

static cJSON *node_of(struct json *node) {
    return (cJSON *)node;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Sorting makes the check n log n: a safetensors header may name many thousand tensors. */
static bool names_are_unique(const cJSON *object, const char *what, int exit_code,
                             struct problem *problem) {
    const size_t count = json_count((const struct json *)object);
    const char **names = memory_allocate(count, sizeof *names, "JSON names");
    size_t used = 0;
    for (const cJSON *child = object->child; child != NULL; child = child->next)
        names[used++] = child->string;
    qsort(names, count, sizeof *names, compare_names);
    bool is_unique = true;
    for (size_t i = 1; i < count && is_unique; ++i)
        if (strcmp(names[i - 1], names[i]) == 0)
            is_unique =
                problem_set(problem, exit_code, "%s: the name \"%s\" is given twice in one object",
                            what, names[i]);
    memory_free(names);
    return is_unique;
}

static bool tree_is_strict(const cJSON *node, const char *what, int exit_code,
                           struct problem *problem) {
    if (cJSON_IsObject(node) && !names_are_unique(node, what, exit_code, problem))
        return false;
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        if (!tree_is_strict(child, what, exit_code, problem))
            return false;
    return true;
}

static void locate(const char *text, const char *position, size_t *line, size_t *column) {
    *line = 1;
    *column = 1;
    for (const char *at = text; at < position; ++at) {
        if (*at == '\n') {
            ++*line;
            *column = 1;
        } else {
            ++*column;
        }
    }
}

/* Whether a string may hold a zero byte or \\u0000, which would end it for cJSON. */
static bool has_zero_character(const char *text, size_t length) {
    static const char zero[] = "\\u0000";
    const char *end = text + length;
    if (memchr(text, '\0', length) != NULL)
        return true;
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), zero, sizeof zero - 1));
         ++at) {
        const char *first = at; /* of the backslashes: of an even number the last one is escaped */
        while (first > text && first[-1] == '\\')
            --first;
        if ((at - first) % 2 == 0)
            return true;
    }
    return false;
}

struct json *json_parse(const char *text, size_t length, const char *what, int exit_code,
                        struct problem *problem) {
    if (!utf8_is_valid(text, length) || has_zero_character(text, length)) {
        problem_set(problem, exit_code, "%s: not valid JSON: not UTF-8, or with a zero character",
                    what);
        return NULL;
    }
    const char *end = text;
    cJSON *root = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    const char *limit = text + length;
    const char *rest = end;
    if (root != NULL)
        while (rest < limit && (*rest == ' ' || *rest == '\t' || *rest == '\n' || *rest == '\r'))
            ++rest;
    if (root == NULL || rest < limit) {
        size_t line, column;
        locate(text, rest < limit ? rest : limit, &line, &column);
        problem_set(problem, exit_code, "%s: not valid JSON at line %zu, column %zu%s", what, line,
                    column, root != NULL ? " (text after the end of the value)" : "");
        cJSON_Delete(root);
        return NULL;
    }
    if (!tree_is_strict(root, what, exit_code, problem)) {
        cJSON_Delete(root);
        return NULL;
    }
    return (struct json *)root;
}

struct json *json_read(const char *path, struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    if (text == NULL)
        return NULL;
    struct json *root = json_parse(text, size, path, EXIT_DATA, problem);
    memory_free(text);
    return root;
}

void json_destroy(struct json **root) {
    cJSON_Delete(node_of(*root));
    *root = NULL;
}

enum json_type json_type(const struct json *node) {
    const cJSON *item = node_in(node);
    if (cJSON_IsBool(item))
        return JSON_BOOL;
    if (cJSON_IsNumber(item) || cJSON_IsRaw(item))
        return JSON_NUMBER;
    if (cJSON_IsString(item))
        return JSON_STRING;
    if (cJSON_IsArray(item))
        return JSON_ARRAY;
    if (cJSON_IsObject(item))
        return JSON_OBJECT;
    return JSON_NULL;
}

const char *json_type_name(const struct json *node) {
    static const char *const names[] = {"null", "boolean", "number", "string", "array", "object"};
    return names[json_type(node)];
}

const struct json *json_first(const struct json *node) {
    return node == NULL ? NULL : (const struct json *)node_in(node)->child;
}

const struct json *json_next(const struct json *node) {
    return (const struct json *)node_in(node)->next;
}

size_t json_count(const struct json *node) {
    size_t count = 0;
    for (const struct json *child = json_first(node); child != NULL; child = json_next(child))
        ++count;
    return count;
}

const char *json_name(const struct json *node) {
    return node_in(node)->string;
}

const struct json *json_get(const struct json *object, const char *name) {
    if (object == NULL || json_type(object) != JSON_OBJECT)
        return NULL;
    return (const struct json *)cJSON_GetObjectItemCaseSensitive(node_in(object), name);
}

bool json_is_true(const struct json *node) {
    return cJSON_IsTrue(node_in(node)) != 0;
}

double json_number(const struct json *node) {
    return node_in(node)->valuedouble;
}

const char *json_string(const struct json *node) {
    return node_in(node)->valuestring;
}

bool json_size(const struct json *node, size_t *value) {
    if (node == NULL || json_type(node) != JSON_NUMBER)
        return false;
    const double number = json_number(node);
    if (!(number >= 0 && number <= 0x1p53) || floor(number) != number)
        return false;
    *value = (size_t)number;
    return true;
}

static cJSON *attach(struct json *parent, const char *name, cJSON *child) {
    FAULT_UNLESS(child != NULL, "cJSON is out of memory");
    if (parent != NULL) {
        const cJSON_bool is_added = name != NULL
                                        ? cJSON_AddItemToObject(node_of(parent), name, child)
                                        : cJSON_AddItemToArray(node_of(parent), child);
        FAULT_UNLESS(is_added, "cJSON could not add %s", name != NULL ? name : "an element");
    }
    return child;
}

struct json *json_create_object(void) {
    return (struct json *)attach(NULL, NULL, cJSON_CreateObject());
}

struct json *json_add_object(struct json *parent, const char *name) {
    return (struct json *)attach(parent, name, cJSON_CreateObject());
}

struct json *json_add_array(struct json *parent, const char *name) {
    return (struct json *)attach(parent, name, cJSON_CreateArray());
}

void json_number_text(double value, char *text) {
    for (int digits = 1; digits <= 17; ++digits) {
        snprintf(text, JSON_NUMBER_BYTES, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    /* %g writes 65536 as 7e+04 until five digits are asked for, and 10 as 1e+01. */
    if (floor(value) == value && fabs(value) < 1e16)
        snprintf(text, JSON_NUMBER_BYTES, "%.0f", value);
}

/* As raw text: cJSON would print 15 significant digits. */
void json_add_number(struct json *parent, const char *name, double value) {
    char text[JSON_NUMBER_BYTES];
    json_number_text(value, text);
    attach(parent, name, isfinite(value) ? cJSON_CreateRaw(text) : cJSON_CreateNull())
        ->valuedouble = value;
}

void json_add_string(struct json *parent, const char *name, const char *value) {
    attach(parent, name, cJSON_CreateString(value));
}

void json_add_bool(struct json *parent, const char *name, bool value) {
    attach(parent, name, cJSON_CreateBool(value));
}

void json_add_null(struct json *parent, const char *name) {
    attach(parent, name, cJSON_CreateNull());
}

void json_add_copy(struct json *parent, const char *name, const struct json *value) {
    attach(parent, name, cJSON_Duplicate(node_in(value), 1));
}

char *json_print(const struct json *root, bool is_indented) {
    char *printed =
        is_indented ? cJSON_Print(node_in(root)) : cJSON_PrintUnformatted(node_in(root));
    FAULT_UNLESS(printed != NULL, "cJSON could not print");
    char *text = memory_copy_string(printed);
    cJSON_free(printed);
    return text;
}

const char *json_library_version(void) {
    return cJSON_Version();
}
