/* Strict JSON: the only file that calls cJSON. Names are matched exactly, a name given twice is an
 * error, so is text that is not UTF-8 or holds the character U+0000; nothing may follow the value.
 */
#ifndef AUTOLORA_IO_JSON_H
#define AUTOLORA_IO_JSON_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json; /* one node of a tree; a child belongs to its parent */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Parses `length` bytes. On failure sets a problem with `exit_code`, the line and column, and
 * returns NULL. `what` names the text in messages. Free the root with json_destroy. */
struct json *json_parse(const char *text, size_t length, const char *what, int exit_code,
                        struct problem *problem);
/* The same with a file; EXIT_DATA. */
struct json *json_read(const char *path, struct problem *problem);
void json_destroy(struct json **root);

enum json_type json_type(const struct json *node);
const char *json_type_name(const struct json *node);
const struct json *json_first(const struct json *node); /* first child or NULL */
const struct json *json_next(const struct json *node);  /* next sibling or NULL */
size_t json_count(const struct json *node);             /* number of children */
const char *json_name(const struct json *node);         /* member name, NULL in arrays */
/* The member of an object by its exact name; NULL if absent or if `object` is NULL. */
const struct json *json_get(const struct json *object, const char *name);

bool json_is_true(const struct json *node);
double json_number(const struct json *node);
const char *json_string(const struct json *node); /* owned by the node */
/* True if the node is a whole number in [0, 2^53]; *value receives it. */
bool json_size(const struct json *node, size_t *value);

/* Building. json_add_* attach to `parent` under `name` (NULL in arrays) and return the child. */
struct json *json_create_object(void);
struct json *json_add_object(struct json *parent, const char *name);
struct json *json_add_array(struct json *parent, const char *name);
/* Reads back as the same number; NaN and infinity: null. */
void json_add_number(struct json *parent, const char *name, double value);
void json_add_string(struct json *parent, const char *name, const char *value);
void json_add_null(struct json *parent, const char *name);
void json_add_bool(struct json *parent, const char *name, bool value);
void json_add_copy(struct json *parent, const char *name, const struct json *value);

/* The shortest text that reads back as the same number; `text` has JSON_NUMBER_BYTES. */
enum { JSON_NUMBER_BYTES = 32 };
void json_number_text(double value, char *text);

/* Text of the tree, indented or on one line; free with memory_free. */
char *json_print(const struct json *root, bool is_indented);

/* Version of the library really loaded: "1.7.15". */
const char *json_library_version(void);

#endif
