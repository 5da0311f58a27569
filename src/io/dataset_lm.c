/* Contexts and completions. A file becomes a list of pairs of strings, the list becomes examples
 * and, where they are asked for, references. */
#include "io/dataset_lm.h"

#include "base/memory.h"
#include "io/dataset_builder.h"
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

static const char SEPARATOR[] = "||", WHITE_SPACE[] = " \t\n\v\f\r", GOOD[] = "good";
#define BLANK_LINE "\n\n"

struct pair {
    const char *context, *completion;
};

/* Strings of the pairs belong to the file's text, to `root` or to `owned`. */
struct pair_list {
    struct pair *pairs;
    size_t count, capacity, limit; /* limit 0: none */
    char **owned;
    size_t num_owned, owned_capacity;
    struct json *root;
};

static void pair_list_add(struct pair_list *list, const char *context, const char *completion) {
    list->pairs = dataset_grow(list->pairs, &list->capacity, list->count + 1, sizeof *list->pairs,
                               "pairs of texts");
    list->pairs[list->count++] = (struct pair){context, completion};
}

static void pair_list_free(struct pair_list *list) {
    for (size_t i = 0; i < list->num_owned; ++i)
        memory_free(list->owned[i]);
    memory_free(list->owned);
    memory_free(list->pairs);
    json_destroy(&list->root);
}

static bool is_full(const struct pair_list *list) {
    return list->limit > 0 && list->count >= list->limit;
}

static char *strip(char *text) {
    text += strspn(text, WHITE_SPACE);
    size_t length = strlen(text);
    while (length > 0 && strchr(WHITE_SPACE, text[length - 1]) != NULL)
        --length;
    text[length] = '\0';
    return text;
}

/* ---- context||completion ---- */

static bool add_line(struct dataset_builder *builder, struct pair_list *list, char *line) {
    const char *path = builder->options->path;
    char *context = strip(line), *completion = strstr(context, SEPARATOR);
    if (builder->options->is_unlabelled) {
        if (completion != NULL)
            *completion = '\0';
        if (*context != '\0')
            pair_list_add(list, context, "");
        return true;
    }
    if (completion == NULL)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: expected context||completion, found '%s' without ||", path,
                           builder->line, dataset_printable(context).text);
    *completion = '\0';
    completion += strlen(SEPARATOR);
    if (strstr(completion, SEPARATOR) != NULL)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: expected context||completion, found more than one ||", path,
                           builder->line);
    if (*context == '\0' || *completion == '\0')
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: expected context||completion, the %s is empty", path,
                           builder->line, *context == '\0' ? "context" : "completion");
    pair_list_add(list, context, completion);
    return true;
}

static bool read_lines(struct dataset_builder *builder, struct pair_list *list) {
    while (!is_full(list)) {
        char *line = dataset_builder_next_line(builder);
        if (line == NULL)
            break;
        if (!add_line(builder, list, line))
            return false;
    }
    return true;
}

/* ---- WebNLG ---- */

struct entry {
    size_t number;    /* in the file, from 1 */
    const char *name; /* the entry's key */
};

static bool entry_problem(struct dataset_builder *builder, const struct entry *entry,
                          const char *expected) {
    return problem_set(builder->problem, EXIT_DATA, "%s: entry %zu ('%s'): expected %s",
                       builder->options->path, entry->number, dataset_printable(entry->name).text,
                       expected);
}

/* The member of an object if it is a string, else NULL. */
static const char *string_of(const struct json *object, const char *name) {
    const struct json *member = json_get(object, name);
    return member != NULL && json_type(member) == JSON_STRING ? json_string(member) : NULL;
}

static bool is_array(const struct json *node) {
    return node != NULL && json_type(node) == JSON_ARRAY;
}

/* The context of an entry; NULL if something is missing. Free with memory_free. */
static char *join_triples(const struct json *triples) {
    const char *const members[] = {"subject", "property", "object"};
    char *context = NULL;
    size_t length = 0, capacity = 0;
    for (const struct json *triple = json_first(triples); triple != NULL;
         triple = json_next(triple))
        for (int i = 0; i < 3; ++i) {
            const char *part = string_of(triple, members[i]);
            if (part == NULL) {
                memory_free(context);
                return NULL;
            }
            const char *before = i > 0 ? " : " : triple == json_first(triples) ? "" : " | ";
            const size_t gap = strlen(before), size = strlen(part);
            context = dataset_grow(context, &capacity, length + gap + size + 1, 1, "a context");
            memcpy(context + length, before, gap);
            memcpy(context + length + gap, part, size + 1);
            length += gap + size;
        }
    return context;
}

static bool add_entry(struct dataset_builder *builder, struct pair_list *list,
                      const struct entry *entry, const struct json *value) {
    const struct json *triples = json_get(value, "modifiedtripleset");
    const struct json *texts = json_get(value, "lexicalisations");
    const bool is_unlabelled = builder->options->is_unlabelled;
    if (!is_array(triples) || (!is_unlabelled && !is_array(texts)))
        return entry_problem(builder, entry,
                             "the lists \"modifiedtripleset\" and \"lexicalisations\"");
    char *context = join_triples(triples);
    if (context == NULL)
        return entry_problem(builder, entry,
                             "triples in \"modifiedtripleset\", each with the texts \"subject\", "
                             "\"property\" and \"object\"");
    list->owned = dataset_grow(list->owned, &list->owned_capacity, list->num_owned + 1,
                               sizeof *list->owned, "contexts");
    list->owned[list->num_owned++] = context;
    if (is_unlabelled) {
        pair_list_add(list, context, "");
        return true;
    }
    for (const struct json *text = json_first(texts); text != NULL && !is_full(list);
         text = json_next(text)) {
        const char *comment = string_of(text, "comment"), *completion = string_of(text, "lex");
        if (comment == NULL || completion == NULL)
            return entry_problem(
                builder, entry,
                "the texts \"comment\" and \"lex\" in every one of \"lexicalisations\"");
        if (strcmp(comment, GOOD) != 0)
            continue;
        if (*completion == '\0')
            return entry_problem(builder, entry, "a \"lex\" that is not empty");
        pair_list_add(list, context, completion);
    }
    return true;
}

static bool read_webnlg(struct dataset_builder *builder, struct pair_list *list) {
    const char *path = builder->options->path;
    list->root = json_parse(builder->next, (size_t)(builder->end - builder->next), path, EXIT_DATA,
                            builder->problem);
    if (list->root == NULL)
        return false;
    const struct json *entries = json_get(list->root, "entries");
    if (!is_array(entries))
        return problem_set(builder->problem, EXIT_DATA,
                           "%s: expected WebNLG's JSON, an object with a list \"entries\"", path);
    struct entry entry = {0};
    for (const struct json *node = json_first(entries); node != NULL && !is_full(list);
         node = json_next(node)) {
        ++entry.number;
        entry.name = "";
        const bool is_object = json_type(node) == JSON_OBJECT && json_count(node) == 1;
        if (!is_object)
            return entry_problem(builder, &entry, "an object with one member");
        entry.name = json_name(json_first(node));
        if (!add_entry(builder, list, &entry, json_first(node)))
            return false;
    }
    return true;
}

/* ---- examples ---- */

/* Appends context and end token. */
static void encode_context(const struct dataset_builder *builder, const char *context,
                           struct token_list *ids) {
    tokenizer_encode(builder->tokenizer, context, strlen(context), ids);
    token_list_append(ids, tokenizer_special_ids(builder->tokenizer).separate);
}

static void add_example(struct dataset_builder *builder, const struct pair *pair,
                        struct token_list *ids, struct token_list *labels) {
    ids->count = labels->count = 0;
    encode_context(builder, pair->context, ids);
    const size_t num_context = ids->count;
    char *completion = memory_format(" %s", pair->completion);
    tokenizer_encode(builder->tokenizer, completion, strlen(completion), ids);
    memory_free(completion);
    token_list_append(ids, tokenizer_special_ids(builder->tokenizer).separate);
    const size_t most = builder->options->max_length;
    const size_t length = ids->count > most ? most : ids->count;
    for (size_t next = 1; next <= length; ++next)
        token_list_append(labels,
                          next >= num_context && next < length ? ids->ids[next] : LABEL_IGNORED);
    dataset_builder_add_tokens(builder, ids->ids, labels->ids, length, ids->count > most);
}

static void add_examples(struct dataset_builder *builder, const struct pair_list *list) {
    struct token_list ids = {0}, labels = {0};
    for (size_t i = 0; i < list->count; ++i)
        add_example(builder, &list->pairs[i], &ids, &labels);
    token_list_free(&ids);
    token_list_free(&labels);
}

/* ---- references ---- */

struct placed {
    const char *context;
    size_t pair;
};

static int by_context(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    const int order = strcmp(a->context, b->context);
    return order != 0 ? order : (a->pair > b->pair) - (a->pair < b->pair);
}

/* group [pairs]: the number of each pair's context. Returns how many contexts there are. */
static size_t number_contexts(const struct pair_list *list, size_t *group) {
    struct placed *placed = memory_allocate(list->count, sizeof *placed, "contexts");
    for (size_t i = 0; i < list->count; ++i)
        placed[i] = (struct placed){list->pairs[i].context, i};
    qsort(placed, list->count, sizeof *placed, by_context);
    for (size_t i = 0, first = 0; i < list->count; ++i) {
        if (strcmp(placed[i].context, placed[first].context) != 0)
            first = i;
        group[placed[i].pair] = placed[first].pair; /* for now: the first pair of the context */
    }
    memory_free(placed);
    size_t count = 0;
    for (size_t i = 0; i < list->count; ++i)
        group[i] = group[i] == i ? count++ : group[group[i]];
    return count;
}

static void make_references(const struct dataset_builder *builder, const struct pair_list *list,
                            struct lm_references *references) {
    size_t *group = memory_allocate(list->count, sizeof *group, "contexts");
    const size_t count = number_contexts(list, group);
    struct token_list ids = {0};
    *references = (struct lm_references){
        .count = count,
        .context_offsets = memory_allocate(count + 1, sizeof(size_t), "contexts"),
        .text_offsets = memory_allocate(count + 1, sizeof(size_t), "references"),
        .texts = memory_allocate(list->count, sizeof(char *), "references"),
    };
    size_t *ends = references->text_offsets + 1; /* first counts, then where the next text goes */
    for (size_t i = 0, known = 0; i < list->count; ++i) {
        ++ends[group[i]];
        if (group[i] < known)
            continue;
        encode_context(builder, list->pairs[i].context, &ids);
        references->context_offsets[++known] = ids.count;
    }
    references->context_ids = memory_allocate(ids.count, sizeof(int32_t), "contexts");
    memcpy(references->context_ids, ids.ids, ids.count * sizeof(int32_t));
    token_list_free(&ids);
    for (size_t g = 0, begin = 0; g < count; ++g) {
        const size_t num_texts = ends[g];
        ends[g] = begin;
        begin += num_texts;
    }
    for (size_t i = 0; i < list->count; ++i)
        references->texts[ends[group[i]]++] = memory_copy_string(list->pairs[i].completion);
    memory_free(group);
}

void lm_references_free(struct lm_references *references) {
    const size_t num_texts =
        references->texts != NULL ? references->text_offsets[references->count] : 0;
    for (size_t i = 0; i < num_texts; ++i)
        memory_free(references->texts[i]);
    memory_free(references->texts);
    memory_free(references->text_offsets);
    memory_free(references->context_ids);
    memory_free(references->context_offsets);
    *references = (struct lm_references){0};
}

bool dataset_read_lm(struct dataset_builder *builder) {
    if (tokenizer_special_ids(builder->tokenizer).separate < 0)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s: the model's tokenizer has no token that ends a text",
                           builder->options->path);
    struct pair_list list = {.limit = builder->options->limit};
    const bool is_good = builder->options->completion_format == COMPLETION_WEBNLG
                             ? read_webnlg(builder, &list)
                             : read_lines(builder, &list);
    if (is_good)
        add_examples(builder, &list);
    if (is_good && list.count > 0 && builder->options->references != NULL)
        make_references(builder, &list, builder->options->references);
    pair_list_free(&list);
    return is_good;
}

void lm_text_cut(char *text) {
    static const char *const ends[] = {"<|endoftext|>", BLANK_LINE};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) {
        char *end = strstr(text, ends[i]);
        if (end != NULL)
            *end = '\0';
    }
    const char *kept = strip(text);
    memmove(text, kept, strlen(kept) + 1);
}

size_t lm_end_tokens(const struct tokenizer *tokenizer, int32_t *end_tokens) {
    size_t count = 0;
    const int32_t end = tokenizer_special_ids(tokenizer).separate;
    if (end >= 0)
        end_tokens[count++] = end;
    struct token_list blank_line = {0};
    tokenizer_encode(tokenizer, BLANK_LINE, strlen(BLANK_LINE), &blank_line);
    if (blank_line.count == 1)
        end_tokens[count++] = blank_line.ids[0];
    token_list_free(&blank_line);
    return count;
}
