/* UTF-8 as Python's bytes.decode("utf-8", "replace") reads it. */
#ifndef AUTOLORA_IO_UTF8_H
#define AUTOLORA_IO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool utf8_is_valid(const char *text, size_t length);

/* A copy in which U+FFFD stands for each maximal part of an ill-formed sequence (the Unicode
 * standard, section 3.9): *new_length bytes and a '\0'. Free with memory_free. */
char *utf8_replace_invalid(const char *text, size_t length, size_t *new_length);

#endif
