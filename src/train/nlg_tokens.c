/* The tokenizers that are chains of replacements. nlg_treebank.c has the third. */
#include "train/nlg_tokens.h"

#include "base/memory.h"
#include "io/nlg_text.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_point(char c) {
    return c == '.' || c == ',';
}

/* `{` to `~`, `[` to the backquote, space to `&`, `(` to `+`, `:` to `@`, and the slash. */
static bool is_split(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/* Replaces every occurrence by something that is not longer. */
static void replace(struct nlg_text *text, const char *from, const char *to) {
    const size_t from_length = strlen(from), to_length = strlen(to);
    char *write = text->bytes;
    const char *read = text->bytes, *found;
    while ((found = strstr(read, from)) != NULL) {
        memmove(write, read, (size_t)(found - read));
        write += found - read;
        memcpy(write, to, to_length);
        write += to_length;
        read = found + from_length;
    }
    memmove(write, read, strlen(read) + 1);
    text->length = strlen(text->bytes);
}

/* Text with all white space as a space, with a space at both ends. */
static struct nlg_text padded(const char *bytes) {
    struct nlg_text text = {0};
    nlg_text_add(&text, ' ');
    for (const char *at = bytes; *at != '\0';) {
        const int32_t c = nlg_next_code_point(&at);
        nlg_text_add(&text, nlg_is_space(c) ? ' ' : c);
    }
    nlg_text_add(&text, ' ');
    return text;
}

/* One pass over neighbours (c, d): where they match, they are written with spaces, and the search
 * goes on behind d. Bytes will do: all that is looked for is ASCII. */
enum pass { AFTER_NO_DIGIT, BEFORE_NO_DIGIT, DIGIT_DASH };

static bool is_match(enum pass pass, char c, char d) {
    if (pass == AFTER_NO_DIGIT)
        return !is_digit(c) && is_point(d);
    if (pass == BEFORE_NO_DIGIT)
        return is_point(c) && d != '\0' && !is_digit(d);
    return is_digit(c) && d == '-';
}

static void separate(struct nlg_text *text, enum pass pass) {
    struct nlg_text out = {0};
    for (size_t i = 0; i < text->length; ++i) {
        const char c = text->bytes[i], d = text->bytes[i + 1];
        if (!is_match(pass, c, d)) {
            nlg_text_add_byte(&out, c);
            continue;
        }
        const bool is_before = pass == BEFORE_NO_DIGIT;
        const char written[] = {is_before ? ' ' : c, is_before ? c : ' ', is_before ? ' ' : d,
                                is_before ? d : ' '};
        for (size_t k = 0; k < sizeof written; ++k)
            nlg_text_add_byte(&out, written[k]);
        ++i;
    }
    memory_free(text->bytes);
    *text = out;
}

static void separate_punctuation(struct nlg_text *text) {
    struct nlg_text out = {0};
    for (size_t i = 0; i < text->length; ++i) {
        const bool split = is_split(text->bytes[i]);
        if (split)
            nlg_text_add_byte(&out, ' ');
        nlg_text_add_byte(&out, text->bytes[i]);
        if (split)
            nlg_text_add_byte(&out, ' ');
    }
    memory_free(text->bytes);
    *text = out;
}

/* The words between spaces, in lower case; frees the text. */
static char *lower_words(struct nlg_text *text) {
    struct nlg_text out = {0};
    nlg_text_cut(&out, 0);
    char *rest = NULL;
    for (char *word = strtok_r(text->bytes, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        if (out.length > 0)
            nlg_text_add_byte(&out, ' ');
        nlg_text_add_lower(&out, word, strlen(word));
    }
    memory_free(text->bytes);
    return out.bytes;
}

char *nlg_tokenize_mteval(const char *bytes) {
    struct nlg_text text = padded(bytes);
    replace(&text, "<skipped>", "");
    replace(&text, "&quot;", "\"");
    replace(&text, "&amp;", "&");
    replace(&text, "&lt;", "<");
    replace(&text, "&gt;", ">");
    separate_punctuation(&text);
    separate(&text, AFTER_NO_DIGIT);
    separate(&text, BEFORE_NO_DIGIT);
    separate(&text, DIGIT_DASH);
    return lower_words(&text);
}

char *nlg_tokenize_words(const char *bytes) {
    struct nlg_text lower = {0}, text = {0};
    nlg_text_add_lower(&lower, bytes, strlen(bytes));
    nlg_text_cut(&text, 0);
    for (const char *at = lower.bytes; *at != '\0';) {
        const int32_t c = nlg_next_code_point(&at);
        const utf8proc_category_t category = utf8proc_category(c);
        const bool is_word = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO &&
                             category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
                             category != UTF8PROC_CATEGORY_ME;
        if (is_word) {
            nlg_text_add(&text, c);
            continue;
        }
        nlg_text_add_byte(&text, ' ');
        if (!nlg_is_space(c))
            nlg_text_add(&text, c);
        nlg_text_add_byte(&text, ' ');
    }
    memory_free(lower.bytes);
    return lower_words(&text);
}
