/* The table of input keys. Reading, defaults, the effective input and `autolora keys` all follow
 * it: a key is declared here and nowhere else. */
#ifndef AUTOLORA_CONFIG_KEYS_H
#define AUTOLORA_CONFIG_KEYS_H

#include "config.h"
#include "io/dataset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What the key's field in struct config is. */
enum key_type {
    KEY_STRING,      /* char *; one of `choices` where these are given */
    KEY_INTEGER,     /* size_t */
    KEY_NUMBER,      /* double */
    KEY_BOOLEAN,     /* bool */
    KEY_CHOICE,      /* int: the index of one of `choices` */
    KEY_PROJECTIONS, /* bool [NUM_PROJECTIONS]: a list of different projection names */
    KEY_INTEGERS     /* size_t * and, at count_offset, the size_t that counts them */
};

struct config_key {
    const char *path; /* "section.name" */
    enum key_type type;
    size_t offset, count_offset; /* in struct config */
    const char *default_text;    /* JSON; NULL: the key is required, or see below */
    const char *derived_text;    /* words for a default that comes from other keys; else NULL */
    double minimum, maximum;     /* integers, numbers; a string's least length */
    bool is_above_minimum;       /* the minimum itself is out of range */
    bool is_below_maximum;       /* and so is the maximum */
    bool allows_minus_one;
    const char *const *choices;
    size_t num_choices;
    bool is_free; /* does not decide results: a resumed run may change it */
    const char *help;
};

const struct config_key *config_keys(size_t *count);

/* Bytes of the path that are the section's name; the key's own name follows the dot. */
size_t config_key_section_length(const struct config_key *key);
bool config_key_is_required(const struct config_key *key);
bool config_key_in_range(const struct config_key *key, double value);

/* Number of names that a choice or a list of projections is made of, and each of them. */
size_t config_key_num_choices(const struct config_key *key);
const char *config_key_choice(const struct config_key *key, size_t index);

/* The default that a preset (a value of search.preset) gives a key instead of its own; else NULL.
 */
const char *config_preset_default(const char *preset, const char *path);

/* "string", "list of integers". */
const char *config_key_type_name(const struct config_key *key);
/* "[0, 1) or -1", "cola, ner"; nothing where all is allowed. */
void config_key_print_range(const struct config_key *key, FILE *stream);

/* The kind of task behind a value of task.name. */
enum task_kind config_task_kind(const char *task_name);

#endif
