/* BERT's text normalisation on top of utf8proc.
 *
 * The Python package `tokenizers` 0.23 mixes three versions of Unicode, and a tokenizer that is to
 * return its ids must do so too: general categories are those of Unicode 8, decompositions and
 * combining classes those of Unicode 9, lower-case mappings those of Unicode 17. utf8proc has one
 * version for all (2.8: Unicode 15), so the tables below undo what is newer and add what is
 * missing. They were found by comparing all code points, up to Unicode 18, hence hold for newer
 * releases of utf8proc as well; tests/fixtures/tokenizer/code_points.json keeps watch. */
#include "io/normalizer.h"

#include "base/report.h"

#include <utf8proc.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct range {
    int32_t first, last;
};

/* Marks, punctuation and format characters that Unicode 8 does not have: the package takes them
 * for unassigned, which is neither removed nor a mark nor punctuation. A range may span code
 * points to which that does not matter. */
static const struct range newer_than_unicode_8[] = {
    {0x05c8, 0x05c9},   {0x061d, 0x061d},   {0x07fd, 0x07fd},   {0x0890, 0x08e2},
    {0x09fd, 0x09fe},   {0x0a76, 0x0a76},   {0x0afa, 0x0aff},   {0x0b53, 0x0b55},
    {0x0c04, 0x0c3c},   {0x0c77, 0x0c77},   {0x0c84, 0x0c84},   {0x0d00, 0x0d00},
    {0x0d3b, 0x0d3c},   {0x0d81, 0x0d81},   {0x0eba, 0x0eba},   {0x0ece, 0x0ece},
    {0x180f, 0x1886},   {0x1abf, 0x1af0},   {0x1b4e, 0x1b4f},   {0x1b7d, 0x1b7f},
    {0x1df6, 0x1dfb},   {0x2e43, 0x2e63},   {0xa82c, 0xa82c},   {0xa8c5, 0xa8c5},
    {0xa8ff, 0xa8ff},   {0xa9bd, 0xa9bd},   {0x10d24, 0x10f89}, {0x11070, 0x11074},
    {0x110c2, 0x110cd}, {0x111cf, 0x111cf}, {0x1123e, 0x11241}, {0x1133b, 0x1133b},
    {0x113bb, 0x1145e}, {0x11660, 0x1166c}, {0x116b9, 0x116b9}, {0x1182f, 0x11fff},
    {0x12ff1, 0x1612f}, {0x16d6d, 0x16f4f}, {0x16fe2, 0x16fe4}, {0x1cf00, 0x1d128},
    {0x1d25b, 0x1d25c}, {0x1e000, 0x1e6f5}, {0x1e944, 0x1e95f},
};

/* Characters that decompose since a Unicode later than 9. */
static const struct range newer_compositions[] = {
    {0x105c9, 0x105c9}, {0x105e4, 0x105e4}, {0x11383, 0x11391}, {0x113c5, 0x113c8},
    {0x11938, 0x11938}, {0x16121, 0x16128}, {0x16d68, 0x16d6a},
};

/* All characters with a combining class in Unicode 9 that are not stripped as marks. */
static const struct range combining[] = {
    {0x08d4, 0x08e1},   {0x1b44, 0x1b44},   {0x1baa, 0x1baa},   {0x1bf2, 0x1bf3},
    {0x1dfb, 0x1dfb},   {0x302e, 0x302f},   {0xa953, 0xa953},   {0xa9c0, 0xa9c0},
    {0x111c0, 0x111c0}, {0x11235, 0x11235}, {0x1134d, 0x1134d}, {0x11442, 0x11446},
    {0x116b6, 0x116b6}, {0x11c3f, 0x11c3f}, {0x1d165, 0x1d172}, {0x1e000, 0x1e02a},
    {0x1e944, 0x1e94a},
};

/* Capitals of Unicode 16 and 17: lower case = code point + shift. */
static const struct {
    struct range capitals;
    int32_t shift;
} newer_capitals[] = {
    {{0x1c89, 0x1c89}, 1},      {{0xa7cb, 0xa7cb}, 0x0264 - 0xa7cb},
    {{0xa7cc, 0xa7cc}, 1},      {{0xa7ce, 0xa7ce}, 1},
    {{0xa7d2, 0xa7d2}, 1},      {{0xa7d4, 0xa7d4}, 1},
    {{0xa7da, 0xa7da}, 1},      {{0xa7dc, 0xa7dc}, 0x019b - 0xa7dc},
    {{0x10d50, 0x10d65}, 0x20}, {{0x16ea0, 0x16eb8}, 0x1b},
};

static const struct range ideographs[] = {
    {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0x20000, 0x2a6df},
    {0x2a700, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f},
};

static bool is_within(const struct range *ranges, size_t num_ranges, int32_t code_point) {
    size_t low = 0, high = num_ranges;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (code_point > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < num_ranges && code_point >= ranges[low].first;
}

enum group { GROUP_OTHER, GROUP_REMOVED, GROUP_SPACE, GROUP_MARK, GROUP_PUNCTUATION };

static enum group group_by_category(int32_t code_point) {
    switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
        return GROUP_REMOVED;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return GROUP_SPACE;
    case UTF8PROC_CATEGORY_MN:
        return GROUP_MARK;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return GROUP_PUNCTUATION;
    default:
        return GROUP_OTHER;
    }
}

static enum group group_of(int32_t code_point) {
    switch (code_point) {
    case '\t':
    case '\n':
    case '\r':
        return GROUP_SPACE;
    case 0xfffd: /* stands for bytes that are no UTF-8 */
        return GROUP_REMOVED;
    case 0x1734: /* these four changed their category after Unicode 8 */
    case 0x1171e:
        return GROUP_MARK;
    case 0x166d:
    case 0x111c9:
        return GROUP_PUNCTUATION;
    default:
        break;
    }
    const enum group group = group_by_category(code_point);
    if (code_point < 0x80) { /* of ASCII, all that is printed and no letter or digit */
        const bool is_symbol =
            group == GROUP_OTHER && utf8proc_category(code_point) >= UTF8PROC_CATEGORY_SM;
        return is_symbol ? GROUP_PUNCTUATION : group;
    }
    if (group != GROUP_OTHER &&
        is_within(newer_than_unicode_8, COUNT_OF(newer_than_unicode_8), code_point))
        return GROUP_OTHER;
    return group;
}

static size_t decompose(int32_t code_point, int32_t parts[NORMALIZER_MAX_CHARACTERS]) {
    parts[0] = code_point;
    if (is_within(newer_compositions, COUNT_OF(newer_compositions), code_point))
        return 1;
    int boundary = 0; /* for grapheme boundaries, which are not asked for */
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        code_point, parts, NORMALIZER_MAX_CHARACTERS, UTF8PROC_DECOMPOSE, &boundary);
    FAULT_UNLESS(count >= 1 && count <= 4, "U+%04X decomposes into %td characters",
                 (unsigned)code_point, count);
    return (size_t)count;
}

static int32_t lower_case(int32_t code_point) {
    for (size_t i = 0; i < COUNT_OF(newer_capitals); ++i)
        if (is_within(&newer_capitals[i].capitals, 1, code_point))
            return code_point + newer_capitals[i].shift;
    return utf8proc_tolower(code_point);
}

uint8_t normalizer_combining_class(int32_t code_point) {
    if (!is_within(combining, COUNT_OF(combining), code_point))
        return 0;
    return (uint8_t)utf8proc_get_property(code_point)->combining_class;
}

/* Decomposition, stripping and lower-casing of a character that stays. */
static size_t expand(const struct normalizer *normalizer, int32_t code_point,
                     struct normal_character *characters) {
    enum { DOTTED_CAPITAL_I = 0x130, COMBINING_DOT_ABOVE = 0x307 };
    int32_t parts[NORMALIZER_MAX_CHARACTERS] = {code_point};
    const size_t num_parts = normalizer->is_stripping_accents ? decompose(code_point, parts) : 1;
    size_t count = 0;
    for (size_t i = 0; i < num_parts; ++i) {
        const enum group group = group_of(parts[i]);
        struct normal_character character = {NORMAL_WORD, parts[i], 0};
        if (group == GROUP_PUNCTUATION)
            character.kind = NORMAL_PUNCTUATION;
        if (normalizer->is_stripping_accents) {
            if (group == GROUP_MARK) {
                if (utf8proc_get_property(parts[i])->combining_class == 0)
                    characters[count++] = (struct normal_character){NORMAL_BARRIER, 0, 0};
                continue;
            }
            character.combining_class = normalizer_combining_class(parts[i]);
        }
        if (normalizer->is_lower_casing)
            character.code_point = lower_case(parts[i]);
        characters[count++] = character;
        if (normalizer->is_lower_casing && parts[i] == DOTTED_CAPITAL_I)
            characters[count++] = (struct normal_character){NORMAL_WORD, COMBINING_DOT_ABOVE, 0};
    }
    return count;
}

size_t normalizer_apply(const struct normalizer *normalizer, int32_t code_point,
                        struct normal_character characters[NORMALIZER_MAX_CHARACTERS]) {
    const struct normal_character space = {NORMAL_SPACE, ' ', 0};
    const enum group group = group_of(code_point);
    if (group == GROUP_REMOVED)
        return 0;
    if (group == GROUP_SPACE) {
        characters[0] = space;
        return 1;
    }
    if (!normalizer->is_spacing_ideographs ||
        !is_within(ideographs, COUNT_OF(ideographs), code_point))
        return expand(normalizer, code_point, characters);
    characters[0] = space;
    const size_t count = 1 + expand(normalizer, code_point, characters + 1);
    characters[count] = space;
    return count + 1;
}
