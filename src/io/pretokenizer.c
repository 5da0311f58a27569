/* The pattern by hand: what follows a position decides, nothing is ever tried twice.
 *
 * The Python package `tokenizers` 0.23 has the categories of Unicode 16 (its Oniguruma). The table
 * below holds where utf8proc differs, from Unicode 15 (utf8proc 2.8) to Unicode 18; it was found by
 * comparing all code points. */
#include "io/pretokenizer.h"

#include <string.h>
#include <utf8proc.h>

enum kind { OTHER, LETTER, NUMBER, SPACE };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    int32_t first, last;
    enum kind kind;
} exceptions[] = {
    {0x0558, 0x0558, OTHER},    {0x058b, 0x058c, OTHER},    {0x088f, 0x088f, OTHER},
    {0x0c5c, 0x0c5c, OTHER},    {0x0cdc, 0x0cdc, OTHER},    {0x1c89, 0x1c8a, LETTER},
    {0x208f, 0x208f, OTHER},    {0x209d, 0x209f, OTHER},    {0xa7cb, 0xa7cd, LETTER},
    {0xa7ce, 0xa7cf, OTHER},    {0xa7d2, 0xa7d2, OTHER},    {0xa7d4, 0xa7d4, OTHER},
    {0xa7da, 0xa7dc, LETTER},   {0xa7dd, 0xa7f1, OTHER},    {0xab6c, 0xab6d, OTHER},
    {0x105c0, 0x105f3, LETTER}, {0x107bb, 0x107bf, OTHER},  {0x10940, 0x10959, OTHER},
    {0x10d40, 0x10d49, NUMBER}, {0x10d4a, 0x10d65, LETTER}, {0x10d6f, 0x10d85, LETTER},
    {0x10ec2, 0x10ec4, LETTER}, {0x10ec5, 0x10eee, OTHER},  {0x11380, 0x11389, LETTER},
    {0x1138b, 0x1138b, LETTER}, {0x1138e, 0x1138e, LETTER}, {0x11390, 0x113b5, LETTER},
    {0x113b7, 0x113b7, LETTER}, {0x113d1, 0x113d1, LETTER}, {0x113d3, 0x113d3, LETTER},
    {0x116d0, 0x116e3, NUMBER}, {0x11b0a, 0x11b0a, OTHER},  {0x11bc0, 0x11be0, LETTER},
    {0x11bf0, 0x11bf9, NUMBER}, {0x11db0, 0x11df1, OTHER},  {0x1246f, 0x1247f, OTHER},
    {0x12550, 0x12686, OTHER},  {0x13460, 0x143fa, LETTER}, {0x16100, 0x1611d, LETTER},
    {0x16130, 0x16139, NUMBER}, {0x16d40, 0x16d6c, LETTER}, {0x16d70, 0x16d79, NUMBER},
    {0x16ea0, 0x16ed3, OTHER},  {0x16ff2, 0x16ff6, OTHER},  {0x187f8, 0x187ff, OTHER},
    {0x18cd6, 0x18cda, OTHER},  {0x18cff, 0x18cff, LETTER}, {0x18d09, 0x191d2, OTHER},
    {0x1b123, 0x1b128, OTHER},  {0x1b168, 0x1b168, OTHER},  {0x1ccf0, 0x1ccf9, NUMBER},
    {0x1d6a6, 0x1d6a6, OTHER},  {0x1df1f, 0x1df24, OTHER},  {0x1df2b, 0x1dfff, OTHER},
    {0x1e5d0, 0x1e5ed, LETTER}, {0x1e5f0, 0x1e5f0, LETTER}, {0x1e5f1, 0x1e5fa, NUMBER},
    {0x1e6c0, 0x1e6ff, OTHER},  {0x2b73a, 0x2b73f, OTHER},  {0x2b81e, 0x2b81e, OTHER},
    {0x2cea2, 0x2cead, OTHER},  {0x2ebf0, 0x2ee5d, LETTER}, {0x323b0, 0x3fc3f, OTHER},
};

bool pretokenizer_is_space(int32_t code_point) {
    switch (code_point) {
    case ' ':
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000:
        return true;
    default:
        return (code_point >= '\t' && code_point <= '\r') ||
               (code_point >= 0x2000 && code_point <= 0x200a);
    }
}

static enum kind kind_by_category(int32_t code_point) {
    switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

static enum kind kind_of(int32_t code_point) {
    if (pretokenizer_is_space(code_point))
        return SPACE;
    size_t low = 0, high = COUNT_OF(exceptions);
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (code_point > exceptions[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < COUNT_OF(exceptions) && code_point >= exceptions[low].first)
        return exceptions[low].kind;
    return kind_by_category(code_point);
}

/* Kind of the character at the beginning of the text; *used: its bytes. */
static inline enum kind first_kind(const char *text, size_t length, size_t *used) {
    const unsigned char byte = (unsigned char)*text;
    *used = 1;
    if (byte < 0x80) {
        const unsigned char lower = byte | 0x20;
        if (lower >= 'a' && lower <= 'z')
            return LETTER;
        if (byte >= '0' && byte <= '9')
            return NUMBER;
        return byte == ' ' || (byte >= '\t' && byte <= '\r') ? SPACE : OTHER;
    }
    utf8proc_int32_t code_point = 0;
    *used = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                     &code_point);
    return kind_of(code_point);
}

/* Bytes of a contraction at the beginning of the text, 0 if there is none. */
static size_t contraction_bytes(const char *text, size_t length) {
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < COUNT_OF(contractions); ++i) {
        const size_t bytes = strlen(contractions[i]);
        if (bytes <= length && memcmp(text, contractions[i], bytes) == 0)
            return bytes;
    }
    return 0;
}

/* White space up to the last character of it, which belongs to the next word (" word") or, if it is
 * no blank, is a word of its own; all of it at the end of the text. */
static size_t space_bytes(const char *text, size_t length) {
    size_t at = 0, last = 0, used;
    while (at < length && first_kind(text + at, length - at, &used) == SPACE) {
        last = at;
        at += used;
    }
    return at == length || last == 0 ? at : last;
}

size_t pretokenizer_next(const char *text, size_t length) {
    const size_t contraction = *text == '\'' ? contraction_bytes(text, length) : 0;
    if (contraction > 0)
        return contraction;
    size_t at = *text == ' ' && length > 1 ? 1 : 0, used;
    const enum kind kind = first_kind(text + at, length - at, &used);
    if (kind == SPACE)
        return space_bytes(text, length);
    do
        at += used;
    while (at < length && first_kind(text + at, length - at, &used) == kind);
    return at;
}
