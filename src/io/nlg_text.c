#include "io/nlg_text.h"

#include "base/memory.h"

#include <string.h>
#include <utf8proc.h>

void nlg_text_reserve(struct nlg_text *text, size_t more) {
    if (text->length + more + 1 <= text->capacity)
        return;
    text->capacity = 2 * (text->length + more) + 64;
    text->bytes = memory_resize(text->bytes, text->capacity, 1, "text to be scored");
}

void nlg_text_cut(struct nlg_text *text, size_t length) {
    nlg_text_reserve(text, 0);
    text->length = length;
    text->bytes[length] = '\0';
}

void nlg_text_add_byte(struct nlg_text *text, char byte) {
    nlg_text_reserve(text, 1);
    text->bytes[text->length++] = byte;
    text->bytes[text->length] = '\0';
}

void nlg_text_add(struct nlg_text *text, int32_t code_point) {
    nlg_text_reserve(text, 4);
    text->length +=
        (size_t)utf8proc_encode_char(code_point, (utf8proc_uint8_t *)text->bytes + text->length);
    text->bytes[text->length] = '\0';
}

static int32_t next(const char **at, const char *end) {
    utf8proc_int32_t code_point = -1;
    const utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)*at, end - *at, &code_point);
    *at += size > 0 ? size : 1;
    return size > 0 ? code_point : 0xFFFD;
}

int32_t nlg_next_code_point(const char **at) {
    return next(at, *at + strnlen(*at, 4));
}

bool nlg_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_cased(int32_t c) {
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
}

void nlg_text_add_lower(struct nlg_text *text, const char *bytes, size_t length) {
    enum { CAPITAL_SIGMA = 0x3A3, SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2 };
    enum { CAPITAL_DOTTED_I = 0x130, DOT_ABOVE = 0x307 };
    nlg_text_reserve(text, length);
    bool is_inside_word = false;
    for (const char *at = bytes, *end = bytes + length; at < end;) {
        const int32_t c = next(&at, end);
        const char *behind = at;
        if (c == CAPITAL_SIGMA) {
            const bool goes_on = behind < end && is_cased(next(&behind, end));
            nlg_text_add(text, is_inside_word && !goes_on ? FINAL_SIGMA : SIGMA);
        } else if (c == CAPITAL_DOTTED_I) {
            nlg_text_add(text, 'i');
            nlg_text_add(text, DOT_ABOVE);
        } else {
            nlg_text_add(text,
                         c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : utf8proc_tolower(c));
        }
        is_inside_word = is_cased(c);
    }
}
