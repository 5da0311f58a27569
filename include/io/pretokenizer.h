/* Cuts text into the words of GPT-2 (Radford et al. 2019; class ByteLevel of the Python package
 * `tokenizers`):
 *
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#ifndef AUTOLORA_IO_PRETOKENIZER_H
#define AUTOLORA_IO_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the first word of `length` > 0 bytes of valid UTF-8. */
size_t pretokenizer_next(const char *text, size_t length);

/* Whether a code point is white space (property White_Space). */
bool pretokenizer_is_space(int32_t code_point);

#endif
