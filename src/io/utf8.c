/* utf8proc says whether a sequence is well-formed; how much of another one is replaced at a time is
 * decided here. */
#include "io/utf8.h"

#include "base/memory.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

/* Bytes of the character that the text begins with, 0 if it is ill-formed; length > 0. */
static size_t character_bytes(const char *text, size_t length) {
    utf8proc_int32_t code_point;
    const utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &code_point);
    return used > 0 ? (size_t)used : 0;
}

/* Bytes up to the first that is not ASCII. */
static size_t ascii_bytes(const char *text, size_t length) {
    size_t at = 0;
    for (uint64_t word; at + sizeof word <= length; at += sizeof word) {
        memcpy(&word, text + at, sizeof word);
        if ((word & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    while (at < length && (unsigned char)text[at] < 0x80)
        ++at;
    return at;
}

/* Bytes up to the first that is ill-formed. */
static size_t valid_bytes(const char *text, size_t length) {
    size_t at = 0, used = 0;
    do {
        at += used;
        at += ascii_bytes(text + at, length - at);
        used = at < length ? character_bytes(text + at, length - at) : 0;
    } while (used > 0);
    return at;
}

bool utf8_is_valid(const char *text, size_t length) {
    return valid_bytes(text, length) == length;
}

/* How many continuation bytes a first byte asks for and what the first of them may be. */
static size_t num_continuations(unsigned char first, unsigned char *lowest,
                                unsigned char *highest) {
    *lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first >= 0xc2 && first <= 0xdf)
        return 1;
    if (first >= 0xe0 && first <= 0xef)
        return 2;
    return first >= 0xf0 && first <= 0xf4 ? 3 : 0;
}

/* Bytes that one U+FFFD stands for: the beginning of a character, as far as it goes. */
static size_t ill_formed_bytes(const char *text, size_t length) {
    unsigned char lowest, highest;
    const size_t wanted = num_continuations((unsigned char)text[0], &lowest, &highest);
    size_t at = 1;
    while (at < length && at <= wanted && (unsigned char)text[at] >= lowest &&
           (unsigned char)text[at] <= highest) {
        lowest = 0x80;
        highest = 0xbf;
        ++at;
    }
    return at;
}

char *utf8_replace_invalid(const char *text, size_t length, size_t *new_length) {
    char *copy = memory_allocate(3 * length + 1, 1, "text");
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        const size_t valid = valid_bytes(text + at, length - at);
        memcpy(copy + used, text + at, valid);
        at += valid;
        used += valid;
        if (at < length) {
            memcpy(copy + used, "\xef\xbf\xbd", 3);
            used += 3;
            at += ill_formed_bytes(text + at, length - at);
        }
    }
    copy[used] = '\0';
    *new_length = used;
    return copy;
}
