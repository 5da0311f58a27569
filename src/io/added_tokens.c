/* A vocabulary has a handful of them, so each place where one may begin is compared with all. */
#include "io/added_tokens.h"

#include "base/memory.h"
#include "io/pretokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void added_tokens_add(struct added_tokens *added, const struct added_token *token) {
    if (added->count == added->capacity) {
        added->capacity = added->capacity == 0 ? 8 : 2 * added->capacity;
        added->tokens =
            memory_resize(added->tokens, added->capacity, sizeof *added->tokens, "added tokens");
    }
    struct added_token *copy = &added->tokens[added->count++];
    *copy = *token;
    copy->text = memory_copy_string(token->text);
    copy->length = strlen(token->text);
    added->begins[token->is_normalized][(unsigned char)token->text[0]] = true;
}

void added_tokens_free(struct added_tokens *added) {
    for (size_t i = 0; i < added->count; ++i)
        memory_free(added->tokens[i].text);
    memory_free(added->tokens);
    *added = (struct added_tokens){0};
}

/* ---- reading ---- */

static bool read_flag(const struct json *node, const char *name, const char *path, bool *value,
                      struct problem *problem) {
    const struct json *member = json_get(node, name);
    *value = member != NULL && json_is_true(member);
    return member == NULL || json_type(member) == JSON_BOOL ||
           problem_set(problem, EXIT_DATA, "%s: %s of an added token is not true or false", path,
                       name);
}

static bool read_id(const struct json *node, size_t *id) {
    if (json_name(node) == NULL)
        return json_size(json_get(node, "id"), id);
    char *end = NULL;
    *id = strtoul(json_name(node), &end, 10);
    return json_name(node)[0] >= '0' && json_name(node)[0] <= '9' && *end == '\0';
}

static bool read_token(struct added_tokens *added, const struct json *node, const char *path,
                       struct problem *problem) {
    struct added_token token = {0};
    const struct json *content = json_get(node, "content");
    if (content == NULL || json_type(content) != JSON_STRING || !read_id(node, &token.id))
        return problem_set(problem, EXIT_DATA, "%s: an added token has no content or no id", path);
    token.text = (char *)json_string(content);
    bool is_word = false;
    if (!read_flag(node, "lstrip", path, &token.takes_left, problem) ||
        !read_flag(node, "rstrip", path, &token.takes_right, problem) ||
        !read_flag(node, "normalized", path, &token.is_normalized, problem) ||
        !read_flag(node, "special", path, &token.is_special, problem) ||
        !read_flag(node, "single_word", path, &is_word, problem))
        return false;
    if (is_word)
        return problem_set(problem, EXIT_DATA,
                           "%s: the added token \"%.100s\" asks for single_word, which is not "
                           "supported",
                           path, token.text);
    if (token.text[0] != '\0')
        added_tokens_add(added, &token);
    return true;
}

bool added_tokens_read(struct added_tokens *added, const struct json *list, const char *path,
                       struct problem *problem) {
    if (list == NULL || json_type(list) == JSON_NULL)
        return true;
    if (json_type(list) != JSON_ARRAY && json_type(list) != JSON_OBJECT)
        return problem_set(problem, EXIT_DATA, "%s: the added tokens are a %s", path,
                           json_type_name(list));
    for (const struct json *node = json_first(list); node != NULL; node = json_next(node))
        if (!read_token(added, node, path, problem))
            return false;
    return true;
}

/* ---- searching ---- */

static const struct added_token *longest_at(const struct added_tokens *added, bool is_normalized,
                                            const char *text, size_t length) {
    const struct added_token *longest = NULL;
    for (size_t i = 0; i < added->count; ++i) {
        const struct added_token *token = &added->tokens[i];
        if (token->is_normalized == is_normalized && token->length <= length &&
            (longest == NULL || token->length > longest->length) &&
            memcmp(text, token->text, token->length) == 0)
            longest = token;
    }
    return longest;
}

static bool is_space_at(const char *text, size_t length, size_t *used) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t bytes =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &code_point);
    *used = bytes > 0 ? (size_t)bytes : 1;
    return bytes > 0 && pretokenizer_is_space(code_point);
}

static size_t space_before(const char *text, size_t from, size_t start) {
    while (start > from) {
        size_t before = start - 1, used;
        while (before > from && ((unsigned char)text[before] & 0xc0) == 0x80)
            --before;
        if (!is_space_at(text + before, start - before, &used))
            break;
        start = before;
    }
    return start;
}

static size_t space_after(const char *text, size_t length, size_t stop) {
    size_t used;
    while (stop < length && is_space_at(text + stop, length - stop, &used))
        stop += used;
    return stop;
}

const struct added_token *added_tokens_next(const struct added_tokens *added, bool is_normalized,
                                            const char *text, size_t length, size_t from,
                                            size_t *start, size_t *stop) {
    const bool *begins = added->begins[is_normalized];
    for (size_t at = from; at < length; ++at) {
        if (!begins[(unsigned char)text[at]])
            continue;
        const struct added_token *token = longest_at(added, is_normalized, text + at, length - at);
        if (token == NULL)
            continue;
        *start = token->takes_left ? space_before(text, from, at) : at;
        *stop = at + token->length;
        if (token->takes_right)
            *stop = space_after(text, length, *stop);
        return token;
    }
    return NULL;
}
