/* Penn Treebank tokens by a table of regular expressions: at each place the longest match wins,
 * among equals the first rule, as in the scanner that coco-caption runs. A rule may look at what
 * follows its token; that counts for the length.
 * The expressions are those of the C library (POSIX: leftmost, longest). */
#include "train/nlg_treebank.h"
#include "base/memory.h"
#include "base/report.h"
#include "io/nlg_text.h"
#include "train/nlg_tokens.h"

#include <regex.h>
#include <string.h>

/* ---- the text as the rules see it ---- */

struct scan {
    size_t length;       /* characters of the text */
    int32_t *characters; /* [length] */
    char *cased, *lower; /* [length], what follows, '\0': their classes */
};

enum { LOOK_AHEAD = 20 }; /* characters of the next line: as many as the longest context */

static char ascii_class(char c) {
    if (c == '\t')
        return c;
    if (c >= '\n' && c <= '\r')
        return ' ';
    return c < ' ' || c == 0x7F ? NOTHING : c;
}

static size_t add_characters(struct scan *scan, size_t at, const char *text, size_t limit) {
    for (const char *byte = text; *byte != '\0' && at < limit; ++at) {
        const int32_t c = nlg_next_code_point(&byte);
        const char class = c < 0x80 ? ascii_class((char)c) : treebank_class(c);
        scan->characters[at] = c;
        scan->cased[at] = class;
        scan->lower[at] = class >= 'A' && class <= 'Z' ? (char)(class + 32) : class;
    }
    return at;
}

static struct scan scan_create(const char *text, const char *next) {
    const size_t room = strlen(text) + 1 + LOOK_AHEAD + 1;
    struct scan scan = {
        .characters = memory_allocate(room, sizeof(int32_t), "text to be scored"),
        .cased = memory_allocate(room, 1, "text to be scored"),
        .lower = memory_allocate(room, 1, "text to be scored"),
    };
    scan.length = add_characters(&scan, 0, text, SIZE_MAX);
    if (next != NULL) {
        scan.cased[scan.length] = scan.lower[scan.length] = '\n';
        add_characters(&scan, scan.length + 1, next, scan.length + 1 + LOOK_AHEAD);
    }
    return scan;
}

static void scan_destroy(struct scan *scan) {
    memory_free(scan->characters);
    memory_free(scan->cased);
    memory_free(scan->lower);
}

static bool is_ascii_letter(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_ascii_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool ends_token(char c) {
    return c == ' ' || c == '\n' || c == '\0';
}

static bool is_split_word(const char *text, size_t length) {
    static const char *const SPLIT[] = {"cannot", "gonna", "gotta", "lemme", "gimme", "wanna"};
    for (size_t i = 0; i < sizeof SPLIT / sizeof SPLIT[0]; ++i)
        if (length == strlen(SPLIT[i]) && memcmp(text, SPLIT[i], length) == 0)
            return true;
    return false;
}

/* Most tokens need no rules: ASCII letters, digits or one mark before a space. 0 if it is none of
 * these, or might be one of the tokens with a space inside. */
static size_t match_plain(const struct scan *scan, size_t at) {
    const char *text = scan->lower + at;
    size_t length = 0;
    while (is_ascii_letter(text[length]))
        ++length;
    if (length > 0)
        return ends_token(text[length]) && !is_split_word(text, length) ? length : 0;
    while (is_ascii_digit(text[length]))
        ++length;
    const bool is_number = length > 0;
    if (!is_number)
        length = text[0] == CURRENCY || strchr(".,:;!?\"'`()[]{}-&*/%", text[0]) != NULL;
    if (length == 0 || !ends_token(text[length]))
        return 0;
    const char behind = text[length] == ' ' ? text[length + 1] : 'a';
    const bool has_space = is_number ? is_ascii_digit(behind) : text[0] == '.' && behind == '.';
    return has_space ? 0 : length;
}

/* White space is one piece, as a token is; what no rule takes is dropped by the character. */
static size_t dropped_length(const char *classes) {
    const size_t length = strspn(classes, " \t\004\013");
    return length > 0 ? length : 1;
}

static unsigned first_kind(char c) {
    if (is_ascii_letter(c) || c == LOWER || c == UPPER || c == SOFT_HYPHEN)
        return AT_WORD;
    return (c >= '0' && c <= '9') || c == DIGIT ? AT_DIGIT : AT_OTHER;
}

/* Characters of the token at `at`, 0 if there is none; *flags are those of its rule. The first
 * parenthesis of a pattern is the token. */
static size_t match(const regex_t *expressions, const struct scan *scan, size_t at,
                    unsigned *flags) {
    *flags = 0;
    const size_t plain = match_plain(scan, at);
    if (plain > 0)
        return plain;
    const unsigned kind = first_kind(scan->cased[at]);
    size_t longest = 0, token = 0;
    for (size_t i = 0; i < TREEBANK_NUM_RULES; ++i) {
        const unsigned rule = TREEBANK_RULES[i].flags;
        const char *text = ((rule & CASED) != 0 ? scan->cased : scan->lower) + at;
        regmatch_t found[2];
        if ((rule & kind) == 0 || regexec(&expressions[i], text, 2, found, 0) != 0 ||
            (size_t)found[0].rm_eo <= longest)
            continue;
        longest = (size_t)found[0].rm_eo;
        token = (size_t)found[1].rm_eo;
        *flags = rule;
    }
    const size_t back = (*flags & BACK_3) != 0   ? 3
                        : (*flags & BACK_2) != 0 ? 2
                                                 : (*flags & BACK_1) != 0;
    return token - back;
}

/* ---- what a token is written as ---- */

static const char *written_quote(char class, int32_t c) {
    if (class == APOSTROPHE || class == '\'' || c == 0x203A)
        return "'";
    if (class == OPEN_SINGLE || class == '`' || c == 0x82 || c == 0x201A || c == 0x2039)
        return "`";
    return c == 0x84 || c == 0x93 || c == 0x201C || c == 0xAB ? "``" : "''";
}

static const char *written_currency(int32_t c) {
    switch (c) {
    case 0xA2:
        return "cents";
    case 0xA3:
        return "#";
    case 0x80:
    case 0xA4:
    case 0x20A0:
    case 0x20AC:
        return "$";
    default:
        return NULL;
    }
}

static const char *written_fraction(int32_t c) {
    switch (c) {
    case 0xBC:
        return "1/4";
    case 0xBD:
        return "1/2";
    case 0xBE:
        return "3/4";
    case 0x2153:
        return "1/3";
    case 0x2154:
        return "2/3";
    default:
        return NULL;
    }
}

/* A character of a token; NULL: itself. */
static const char *written(char class, int32_t c, bool is_raw, bool is_alone) {
    switch (class) {
    case '(':
        return "-LRB-";
    case ')':
        return "-RRB-";
    case ' ':
        return "\xC2\xA0";
    case '{':
        return is_alone ? "-LCB-" : NULL;
    case '}':
        return is_alone ? "-RCB-" : NULL;
    case '[':
        return is_alone ? "-LSB-" : NULL;
    case ']':
        return is_alone ? "-RSB-" : NULL;
    case '"':
        return is_alone ? "''" : NULL;
    case APOSTROPHE:
    case OPEN_SINGLE:
        return is_raw ? NULL : written_quote(class, c);
    case QUOTE: /* these two are not known to be quotes */
        return c == 0x201E || c == 0x201F ? NULL : written_quote(class, c);
    case SOFT_HYPHEN:
        return "";
    case DASH:
        return "--";
    case DOTS:
        return "...";
    case CURRENCY:
        return written_currency(c);
    case FRACTION:
        return written_fraction(c);
    default:
        return NULL;
    }
}

static void add_string(struct nlg_text *text, const char *string) {
    for (; *string != '\0'; ++string)
        nlg_text_add_byte(text, *string);
}

/* Tokens written as something else as a whole: NULL if this is none. */
static const char *written_whole(const char *lower, size_t length) {
    static const char *const WHOLE[][2] = {
        {"&lt;", "<"},     {"&gt;", ">"},     {"&quot;", "''"}, {"&apos;", "'"}, {"&md;", "--"},
        {"&mdash;", "--"}, {"&ndash;", "--"}, {"---", "--"},    {"----", "--"},  {"&nbsp;", ""},
    };
    for (size_t i = 0; i < sizeof WHOLE / sizeof WHOLE[0]; ++i)
        if (strlen(WHOLE[i][0]) == length && memcmp(WHOLE[i][0], lower, length) == 0)
            return WHOLE[i][1];
    if (length > 1 && strspn(lower, ". \013") >= length)
        return "...";
    return NULL;
}

static void write_token(struct nlg_text *token, const struct scan *scan, size_t at, size_t length,
                        unsigned flags) {
    const bool is_raw = (flags & (RAW | VERBATIM)) != 0;
    const char *lower = scan->lower + at;
    const char *whole = written_whole(lower, length);
    if (whole != NULL) {
        add_string(token, whole);
        return;
    }
    for (size_t i = 0; i < length; ++i) {
        const char *other =
            (flags & VERBATIM) != 0
                ? NULL
                : written(scan->cased[at + i], scan->characters[at + i], is_raw, length == 1);
        if (other != NULL)
            add_string(token, other);
        else
            nlg_text_add(token, scan->characters[at + i]);
        if ((flags & VERBATIM) == 0 && lower[i] == '&' && length - i >= 5 &&
            memcmp(lower + i, "&amp;", 5) == 0)
            i += 4;
    }
}

static bool is_dropped(const char *token) {
    static const char *const DROPPED[] = {"''", "'", "``", "`",  ".",   "?", "!",
                                          ",",  ":", "-",  "--", "...", ";", ""};
    for (size_t i = 0; i < sizeof DROPPED / sizeof DROPPED[0]; ++i)
        if (strcmp(token, DROPPED[i]) == 0)
            return true;
    return false;
}

struct nlg_treebank {
    regex_t rules[TREEBANK_NUM_RULES];
};

struct nlg_treebank *nlg_treebank_create(void) {
    struct nlg_treebank *treebank = memory_allocate(1, sizeof *treebank, "Treebank rules");
    for (size_t i = 0; i < TREEBANK_NUM_RULES; ++i) {
        /* Without a context the token is the whole match: it becomes the first parenthesis. */
        const char *format = (TREEBANK_RULES[i].flags & CONTEXT) != 0 ? "^%s" : "^(%s)";
        char *pattern = memory_format(format, TREEBANK_RULES[i].pattern);
        FAULT_UNLESS(regcomp(&treebank->rules[i], pattern, REG_EXTENDED) == 0, "bad pattern %s",
                     pattern);
        memory_free(pattern);
    }
    return treebank;
}

void nlg_treebank_destroy(struct nlg_treebank **treebank) {
    if (*treebank == NULL)
        return;
    for (size_t i = 0; i < TREEBANK_NUM_RULES; ++i)
        regfree(&(*treebank)->rules[i]);
    memory_free(*treebank);
    *treebank = NULL;
}

char *nlg_treebank_tokenize(const struct nlg_treebank *treebank, const char *text,
                            const char *next) {
    struct scan scan = scan_create(text, next);
    struct nlg_text out = {0}, token = {0};
    nlg_text_cut(&out, 0);
    for (size_t at = 0, length; scan.length > at; at += length) {
        unsigned flags;
        length = match(treebank->rules, &scan, at, &flags);
        if (length == 0) {
            length = dropped_length(scan.cased + at);
            continue;
        }
        nlg_text_cut(&token, 0);
        write_token(&token, &scan, at, length, flags);
        if (is_dropped(token.bytes))
            continue;
        if (out.length > 0)
            nlg_text_add_byte(&out, ' ');
        nlg_text_add_lower(&out, token.bytes, token.length);
    }
    memory_free(token.bytes);
    scan_destroy(&scan);
    return out.bytes;
}
