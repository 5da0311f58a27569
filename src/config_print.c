/* The table of keys written out: with a configuration's values (the effective input), and with
 * types, defaults and meanings (`autolora keys`). */
#include "config.h"

#include "base/memory.h"
#include "config_keys.h"
#include "io/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_string(const char *text, FILE *stream) {
    putc('"', stream);
    for (const char *at = text; *at != '\0'; ++at) {
        const unsigned char c = (unsigned char)*at;
        if (c == '"' || c == '\\')
            fprintf(stream, "\\%c", c);
        else if (c < 0x20)
            fprintf(stream, "\\u%04x", c);
        else
            putc(c, stream);
    }
    putc('"', stream);
}

static void print_projections(const struct config_key *key, const bool *is_chosen, FILE *stream) {
    const char *separator = "";
    putc('[', stream);
    for (size_t i = 0; i < config_key_num_choices(key); ++i)
        if (is_chosen[i]) {
            fputs(separator, stream);
            print_string(config_key_choice(key, i), stream);
            separator = ", ";
        }
    putc(']', stream);
}

static void print_integers(const size_t *values, size_t count, FILE *stream) {
    putc('[', stream);
    for (size_t i = 0; i < count; ++i)
        fprintf(stream, "%s%zu", i > 0 ? ", " : "", values[i]);
    putc(']', stream);
}

static void print_value(const struct config_key *key, const struct config *config, FILE *stream) {
    const void *field = (const char *)config + key->offset;
    char number[JSON_NUMBER_BYTES];
    switch (key->type) {
    case KEY_STRING:
        print_string(*(char *const *)field, stream);
        break;
    case KEY_INTEGER:
        fprintf(stream, "%zu", *(const size_t *)field);
        break;
    case KEY_NUMBER:
        json_number_text(*(const double *)field, number);
        fputs(number, stream);
        break;
    case KEY_BOOLEAN:
        fputs(*(const bool *)field ? "true" : "false", stream);
        break;
    case KEY_CHOICE:
        print_string(config_key_choice(key, (size_t) * (const int *)field), stream);
        break;
    case KEY_PROJECTIONS:
        print_projections(key, field, stream);
        break;
    case KEY_INTEGERS:
        print_integers(*(size_t *const *)field,
                       *(const size_t *)((const char *)config + key->count_offset), stream);
        break;
    }
}

static char *value_text(const struct config_key *key, const struct config *config) {
    char *printed = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&printed, &size);
    FAULT_UNLESS(stream != NULL, "no memory stream");
    print_value(key, config, stream);
    FAULT_UNLESS(fclose(stream) == 0, "the memory stream failed");
    char *text = memory_copy_string(printed);
    free(printed);
    return text;
}

char *config_differences(const struct config *config, const struct config *earlier) {
    char *list = NULL;
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        if (keys[i].is_free)
            continue;
        char *now = value_text(&keys[i], config), *then = value_text(&keys[i], earlier);
        if (strcmp(now, then) != 0) {
            char *longer = memory_format("%s%s%s: %s, was %s", list != NULL ? list : "",
                                         list != NULL ? "\n" : "", keys[i].path, now, then);
            memory_free(list);
            list = longer;
        }
        memory_free(now);
        memory_free(then);
    }
    return list;
}

static bool starts_section(const struct config_key *keys, size_t index) {
    const size_t length = config_key_section_length(&keys[index]);
    return index == 0 || strncmp(keys[index - 1].path, keys[index].path, length + 1) != 0;
}

char *config_print(const struct config *config) {
    char *printed = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&printed, &size);
    FAULT_UNLESS(stream != NULL, "no memory stream");
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        const size_t length = config_key_section_length(&keys[i]);
        if (starts_section(keys, i))
            fprintf(stream, "%s\n    \"%.*s\": {", i > 0 ? "\n    }," : "{", (int)length,
                    keys[i].path);
        else
            putc(',', stream);
        fprintf(stream, "\n        \"%s\": ", keys[i].path + length + 1);
        print_value(&keys[i], config, stream);
    }
    fputs("\n    }\n}\n", stream);
    FAULT_UNLESS(fclose(stream) == 0, "the memory stream failed");
    char *text = memory_copy_string(printed);
    free(printed);
    return text;
}

void config_print_keys(FILE *stream) {
    fputs("# Input keys\n\n"
          "An input file is one JSON object of sections (`run`, `model`, `task`, ...), each an "
          "object "
          "of the keys below:\n"
          "`{\"task\": {\"name\": \"cola\", ...}, ...}`. Keys that are not given take their "
          "defaults; unknown, duplicated, mistyped\n"
          "or out-of-range keys are errors, all listed together. `--set key=value` on the command "
          "line replaces or adds a key;\n"
          "the value is JSON or, where it is none, a string. Paths are relative to the directory "
          "that the program is started in;\n"
          "integers are less than 2^53. This page is the output of `autolora keys`.\n\n",
          stream);
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; ++i) {
        const size_t length = config_key_section_length(&keys[i]);
        if (starts_section(keys, i))
            fprintf(stream,
                    "%s## %.*s\n\n| key | type | default | range | meaning |\n"
                    "| --- | --- | --- | --- | --- |\n",
                    i > 0 ? "\n" : "", (int)length, keys[i].path);
        fprintf(stream, "| `%s` | %s | ", keys[i].path, config_key_type_name(&keys[i]));
        if (keys[i].default_text != NULL)
            fprintf(stream, "`%s`", keys[i].default_text);
        else
            fputs(config_key_is_required(&keys[i]) ? "required" : keys[i].derived_text, stream);
        fputs(" | ", stream);
        config_key_print_range(&keys[i], stream);
        fprintf(stream, " | %s |\n", keys[i].help);
    }
}
