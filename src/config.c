/* Reading the input. Every value is found first (file, then overrides), then stored key by key, so
 * that all mistakes are listed at once. */
#include "config.h"

#include "base/memory.h"
#include "config_keys.h"
#include "io/dataset.h"
#include "io/json.h"
#include "io/utf8.h"
#include "nearest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_FROM_NAME = -1 }; /* task.kind until task.name is known */

/* Where each key's value stands. */
struct input {
    const char *what;
    const struct json **values; /* [keys]; NULL: not given */
    const char **sources;       /* [keys]: `what` or "--set" */
    struct json **overrides;    /* [num_overrides]: objects of one member each */
    size_t num_overrides;
    struct problem *problem;
    size_t num_mistakes, num_unlisted;
};

/* Lists "source: path: ..." while there is room, and counts what no longer fits. */
__attribute__((format(printf, 4, 5))) static void
add_mistake(struct input *input, const char *source, const char *path, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ++input->num_mistakes;
    const size_t room_for_count = 64;
    const size_t used = input->num_mistakes == 1 ? 0 : strlen(input->problem->text);
    const size_t needed = strlen(source) + strlen(path) + strlen(text) + 6;
    if (input->num_unlisted > 0 ||
        (used > 0 && used + needed + room_for_count > sizeof input->problem->text))
        ++input->num_unlisted;
    else
        problem_append(input->problem, EXIT_USAGE, "%s: %s: %s", source, path, text);
}

/* `value` for a message: its text, not too long. Free with memory_free. */
static char *describe_value(const struct json *value) {
    enum { LONGEST = 60 };
    if (value == NULL)
        return memory_copy_string("nothing");
    char number[JSON_NUMBER_BYTES];
    if (json_type(value) == JSON_NUMBER && !isfinite(json_number(value)))
        return memory_copy_string("a number too large to represent");
    if (json_type(value) == JSON_NUMBER) {
        json_number_text(json_number(value), number);
        return memory_copy_string(number);
    }
    char *text = json_print(value, false);
    size_t length = strlen(text);
    const bool is_cut = length > LONGEST;
    if (is_cut)
        for (length = LONGEST; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80;)
            --length;
    char *described = memory_format("%.*s%s", (int)length, text, is_cut ? "..." : "");
    memory_free(text);
    return described;
}

/* What the key wants, for a message. Free with memory_free. */
static char *describe_expected(const struct config_key *key) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    FAULT_UNLESS(stream != NULL, "no memory stream");
    if (key->type == KEY_BOOLEAN)
        fputs("true or false", stream);
    else if (key->choices != NULL)
        fputs("one of ", stream);
    else if (key->type == KEY_PROJECTIONS)
        fputs("a list, not empty, of different names of ", stream);
    else
        fprintf(stream, "%s %s%s ", key->type == KEY_INTEGER ? "an" : "a",
                config_key_type_name(key), key->type == KEY_STRING ? "," : "");
    config_key_print_range(key, stream);
    if (key->type == KEY_INTEGER && isinf(key->maximum))
        fputs(", less than 2^53", stream);
    fclose(stream);
    while (size > 0 && text[size - 1] == ' ')
        text[--size] = '\0';
    char *expected = memory_copy_string(text);
    free(text);
    return expected;
}

static const struct config_key *find_key(const char *path, size_t *index) {
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (*index = 0; *index < count; ++*index)
        if (strcmp(keys[*index].path, path) == 0)
            return &keys[*index];
    return NULL;
}

static bool is_section(const char *name) {
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; ++i)
        if (config_key_section_length(&keys[i]) == strlen(name) &&
            strncmp(keys[i].path, name, strlen(name)) == 0)
            return true;
    return false;
}

/* The best guess so far at what an unknown name was meant to be. */
struct guess {
    const char *path;
    size_t length, distance;
};

static void consider(struct guess *guess, const char *path, size_t length, size_t distance) {
    if (distance < guess->distance)
        *guess = (struct guess){path, length, distance};
}

/* Lists an unknown key or section. A name that exists in another section counts as a near miss. */
static void report_unknown(struct input *input, const char *source, const char *path) {
    size_t count;
    const struct config_key *keys = config_keys(&count);
    const char *dot = strchr(path, '.');
    const char *name = dot != NULL ? dot + 1 : path;
    struct guess guess = {.distance = edit_distance_limit(name) + 1};
    for (size_t i = 0; i < count; ++i) {
        const size_t section_length = config_key_section_length(&keys[i]);
        char *section = memory_format("%.*s", (int)section_length, keys[i].path);
        if (dot == NULL)
            consider(&guess, keys[i].path, section_length, edit_distance(section, path));
        consider(&guess, keys[i].path, strlen(keys[i].path), edit_distance(keys[i].path, path));
        if (strcmp(keys[i].path + section_length + 1, name) == 0)
            consider(&guess, keys[i].path, strlen(keys[i].path), 1);
        memory_free(section);
    }
    const char *kind = dot != NULL ? "key" : "section";
    if (guess.path == NULL)
        add_mistake(input, source, path, "unknown %s (`autolora keys` lists them all)", kind);
    else
        add_mistake(input, source, path, "unknown %s, did you mean %.*s?", kind, (int)guess.length,
                    guess.path);
}

static void find_section_values(struct input *input, const struct json *section) {
    const char *name = json_name(section);
    if (!is_section(name)) {
        report_unknown(input, input->what, name);
        return;
    }
    if (json_type(section) != JSON_OBJECT) {
        char *found = describe_value(section);
        add_mistake(input, input->what, name, "expected an object {...}, found %s", found);
        memory_free(found);
        return;
    }
    for (const struct json *value = json_first(section); value != NULL; value = json_next(value)) {
        char *path = memory_format("%s.%s", name, json_name(value));
        size_t index;
        if (find_key(path, &index) == NULL) {
            report_unknown(input, input->what, path);
        } else {
            input->values[index] = value;
            input->sources[index] = input->what;
        }
        memory_free(path);
    }
}

/* An object that holds the override's value. A string need not be quoted, even if it looks like
 * JSON of another type (run.name=2024). */
static struct json *parse_override(const struct config_key *key, const char *text) {
    struct json *holder = json_create_object();
    struct problem no_json = {0};
    struct json *value = json_parse(text, strlen(text), "--set", EXIT_USAGE, &no_json);
    if (value == NULL || (key->type == KEY_STRING && json_type(value) != JSON_STRING))
        json_add_string(holder, "value", text);
    else
        json_add_copy(holder, "value", value);
    if (value != NULL)
        json_destroy(&value);
    return holder;
}

static void find_override(struct input *input, const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        add_mistake(input, "--set", text, "expected key.path=value, found no %s",
                    equals == NULL ? "\"=\"" : "key");
        return;
    }
    char *path = memory_format("%.*s", (int)(equals - text), text);
    size_t index;
    const struct config_key *key = find_key(path, &index);
    if (!utf8_is_valid(text, strlen(text))) { /* input.json could not hold it */
        add_mistake(input, "--set", path, "expected UTF-8");
    } else if (key != NULL) {
        struct json *holder = parse_override(key, equals + 1);
        input->overrides[input->num_overrides++] = holder;
        input->values[index] = json_first(holder);
        input->sources[index] = "--set";
    } else if (is_section(path)) {
        add_mistake(input, "--set", path, "expected a key, found a section (set its keys singly)");
    } else {
        report_unknown(input, "--set", path);
    }
    memory_free(path);
}

static bool read_integer(const struct config_key *key, const struct json *value, size_t *place) {
    /* 2^53 is refused as well: 2^53 + 1 reads as the same number. */
    return json_size(value, place) && *place < (size_t)1 << 53 &&
           config_key_in_range(key, (double)*place);
}

/* Index of the choice that `value` names, or the number of choices. */
static size_t find_choice(const struct config_key *key, const struct json *value) {
    const size_t count = config_key_num_choices(key);
    size_t index = 0;
    if (json_type(value) != JSON_STRING)
        return count;
    while (index < count && strcmp(config_key_choice(key, index), json_string(value)) != 0)
        ++index;
    return index;
}

static bool store_string(const struct config_key *key, const struct json *value, char **place) {
    if (json_type(value) != JSON_STRING || (double)strlen(json_string(value)) < key->minimum ||
        (key->choices != NULL && find_choice(key, value) == key->num_choices))
        return false;
    *place = memory_copy_string(json_string(value));
    return true;
}

static bool store_projections(const struct config_key *key, const struct json *value, bool *place) {
    if (json_type(value) != JSON_ARRAY || json_count(value) == 0)
        return false;
    for (const struct json *item = json_first(value); item != NULL; item = json_next(item)) {
        const size_t index = find_choice(key, item);
        if (index == NUM_PROJECTIONS || place[index])
            return false;
        place[index] = true;
    }
    return true;
}

static bool store_integers(const struct config_key *key, const struct json *value, size_t **place,
                           size_t *place_of_count) {
    if (json_type(value) != JSON_ARRAY)
        return false;
    const size_t count = json_count(value);
    if (count == 0)
        return true;
    *place = memory_allocate(count, sizeof **place, key->path);
    *place_of_count = count;
    size_t at = 0;
    for (const struct json *item = json_first(value); item != NULL; item = json_next(item))
        if (!read_integer(key, item, &(*place)[at++]))
            return false;
    return true;
}

/* False if the value is not what the key wants. */
static bool store_value(const struct config_key *key, const struct json *value,
                        struct config *config) {
    void *field = (char *)config + key->offset;
    size_t choice;
    switch (key->type) {
    case KEY_STRING:
        return store_string(key, value, field);
    case KEY_INTEGER:
        return read_integer(key, value, field);
    case KEY_NUMBER:
        *(double *)field = json_type(value) == JSON_NUMBER ? json_number(value) : NAN;
        return config_key_in_range(key, *(double *)field);
    case KEY_BOOLEAN:
        *(bool *)field = json_is_true(value);
        return json_type(value) == JSON_BOOL;
    case KEY_CHOICE:
        choice = find_choice(key, value);
        *(int *)field = (int)choice;
        return choice < key->num_choices;
    case KEY_PROJECTIONS:
        return store_projections(key, value, field);
    case KEY_INTEGERS:
        return store_integers(key, value, field, (size_t *)((char *)config + key->count_offset));
    }
    FAULT("key %s is of no type", key->path);
}

/* The default of a key, which a preset may have changed. */
static const char *default_of(const struct input *input, const struct config_key *key) {
    size_t index;
    find_key("search.preset", &index);
    const struct json *preset = input->values[index];
    const char *text = preset != NULL && json_type(preset) == JSON_STRING
                           ? config_preset_default(json_string(preset), key->path)
                           : NULL;
    return text != NULL ? text : key->default_text;
}

static void store_default(const struct config_key *key, const char *text, struct config *config) {
    struct problem problem = {0};
    struct json *value = json_parse(text, strlen(text), key->path, EXIT_USAGE, &problem);
    FAULT_UNLESS(value != NULL && store_value(key, value, config),
                 "%s: its default %s does not suit it", key->path, text);
    json_destroy(&value);
}

static void store_key(struct input *input, size_t index, struct config *config) {
    size_t count;
    const struct config_key *key = &config_keys(&count)[index];
    const struct json *value = input->values[index];
    if (value == NULL && key->default_text != NULL)
        store_default(key, default_of(input, key), config);
    const bool is_good =
        value != NULL ? store_value(key, value, config) : !config_key_is_required(key);
    if (is_good)
        return;
    char *expected = describe_expected(key);
    char *found = describe_value(value);
    add_mistake(input, value != NULL ? input->sources[index] : input->what, key->path,
                "expected %s, found %s", expected, found);
    memory_free(expected);
    memory_free(found);
}

/* Which keys a method excludes. */
static void check_method(struct input *input, const struct config *config) {
    const struct method_options *adapter = &config->adapter;
    const bool is_full = adapter->method == METHOD_FULL;
    size_t index;
    const struct config_key *key = find_key("adapter.ranks_from", &index);
    const bool is_given = adapter->ranks_from != NULL && *adapter->ranks_from != '\0';
    if (is_given && adapter->method == METHOD_ADALORA)
        add_mistake(input, input->sources[index], key->path,
                    "expected none, as adapter.method adalora finds the ranks itself");
    if (is_given && (is_full || adapter->method == METHOD_ADAPTER))
        add_mistake(input, input->sources[index], key->path,
                    "expected none, as adapter.method %s has no ranks",
                    config_method_name(adapter->method));
    key = find_key("model.init", &index);
    if (config->model.init == INIT_RANDOM && !is_full)
        add_mistake(input, input->sources[index], key->path,
                    "expected pretrained, as adapter.method is not full: what is random has to be "
                    "trained");
}

static void check_grid(struct input *input, const struct parallel_options *parallel, int method) {
    size_t index;
    const struct config_key *key = find_key("parallel.grid", &index);
    if (input->values[index] != NULL && json_type(input->values[index]) == JSON_ARRAY &&
        parallel->num_grid != 2)
        add_mistake(input, input->sources[index], key->path,
                    "expected two numbers, [rows, columns], found %zu",
                    json_count(input->values[index]));
    else if ((method == METHOD_FULL || method == METHOD_ADAPTER) && parallel->num_grid == 2 &&
             parallel->grid[0] * parallel->grid[1] != 1)
        add_mistake(input, input->sources[index], key->path,
                    "expected [1, 1] for adapter.method %s: only frozen weights are spread over a "
                    "grid",
                    config_method_name(method));
}

/* The defaults that follow from other keys, and keys that contradict each other. */
static void derive_keys(struct input *input, struct config *config) {
    struct run_options *run = &config->run;
    if (run->name != NULL && run->output_dir != NULL && *run->output_dir == '\0') {
        memory_free(run->output_dir);
        run->output_dir = memory_format("outputs/%s", run->name);
    }
    check_method(input, config);
    check_grid(input, &config->parallel, config->adapter.method);
    struct task_options *task = &config->task;
    if (task->name == NULL)
        return;
    const int kind = (int)config_task_kind(task->name);
    if (task->kind == KIND_FROM_NAME)
        task->kind = kind;
    size_t index;
    const struct config_key *key = find_key("task.kind", &index);
    if (task->kind != kind && (size_t)task->kind < key->num_choices)
        add_mistake(input, input->sources[index], key->path,
                    "expected %s, as task.name is %s, found %s",
                    config_key_choice(key, (size_t)kind), task->name,
                    config_key_choice(key, (size_t)task->kind));
}

static void input_free(struct input *input) {
    for (size_t i = 0; i < input->num_overrides; ++i)
        json_destroy(&input->overrides[i]);
    memory_free(input->overrides);
    memory_free(input->sources);
    memory_free(input->values);
}

bool config_parse(struct config *config, const char *text, size_t length, const char *what,
                  const char *const *overrides, size_t num_overrides, struct problem *problem) {
    *config = (struct config){.task.kind = KIND_FROM_NAME};
    struct json *root = json_parse(text, length, what, EXIT_USAGE, problem);
    if (root == NULL)
        return false;
    if (json_type(root) != JSON_OBJECT) {
        problem_set(problem, EXIT_USAGE, "%s: expected an object {...} of sections, found %s", what,
                    json_type_name(root));
        json_destroy(&root);
        return false;
    }
    size_t count;
    config_keys(&count);
    struct input input = {
        .what = what,
        .values = memory_allocate(count, sizeof *input.values, "input values"),
        .sources = memory_allocate(count, sizeof *input.sources, "input sources"),
        .overrides = memory_allocate(num_overrides, sizeof *input.overrides, "overrides"),
        .problem = problem,
    };
    const struct json *section = json_first(root);
    for (; section != NULL; section = json_next(section))
        find_section_values(&input, section);
    for (size_t i = 0; i < num_overrides; ++i)
        find_override(&input, overrides[i]);
    for (size_t i = 0; i < count; ++i)
        store_key(&input, i, config);
    derive_keys(&input, config);
    if (input.num_unlisted > 0)
        problem_append(problem, EXIT_USAGE, "... and %zu more", input.num_unlisted);
    input_free(&input);
    json_destroy(&root);
    if (input.num_mistakes > 0)
        config_free(config);
    return input.num_mistakes == 0;
}

void config_free(struct config *config) {
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; ++i)
        if (keys[i].type == KEY_STRING || keys[i].type == KEY_INTEGERS)
            memory_free(*(void **)((char *)config + keys[i].offset));
    *config = (struct config){0};
}
