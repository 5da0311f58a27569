/* CoNLL files: a word and its chunk tag a line, a blank line between sentences. The words are
 * encoded one by one. Labels get ids in the order in which they appear; the ids become those of the
 * sorted set at the end, so that the file is read once. */
#include "base/memory.h"
#include "io/conll.h"
#include "io/dataset_builder.h"
#include "io/tags.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char BLANKS[] = " \t";

/* The sentence that is being read. */
struct sentence {
    struct token_list labels;       /* [words] of the file */
    struct token_list pieces;       /* sub-words of all words, up to the first beyond the cut */
    struct token_list piece_labels; /* [pieces] */
    struct token_list kept_labels;  /* [kept] of the words whose first piece is before the cut */
    size_t *kept_words;             /* [kept] their numbers in the sentence */
    size_t kept_capacity;
    struct entity *entities, *kept_entities; /* work space, up to one per word */
    size_t entity_capacity, kept_entity_capacity;
};

static void sentence_free(struct sentence *sentence) {
    token_list_free(&sentence->labels);
    token_list_free(&sentence->pieces);
    token_list_free(&sentence->piece_labels);
    token_list_free(&sentence->kept_labels);
    memory_free(sentence->kept_words);
    memory_free(sentence->entities);
    memory_free(sentence->kept_entities);
}

static void sentence_clear(struct sentence *sentence) {
    sentence->labels.count = 0;
    sentence->pieces.count = 0;
    sentence->piece_labels.count = 0;
    sentence->kept_labels.count = 0;
}

/* Removes blanks from both ends. */
static char *trim(char *text) {
    text += strspn(text, BLANKS);
    size_t length = strlen(text);
    while (length > 0 && strchr(BLANKS, text[length - 1]) != NULL)
        --length;
    text[length] = '\0';
    return text;
}

/* Cuts a line into its first and its last column; false if one of them is missing or empty. */
static bool split_line(char *line, char **word, char **label) {
    const bool has_tabs = strchr(line, '\t') != NULL;
    if (!has_tabs)
        line = trim(line);
    const char separator = has_tabs ? '\t' : ' ';
    char *first = strchr(line, separator), *last = strrchr(line, separator);
    if (first == NULL)
        return false;
    *label = trim(last + 1);
    *first = '\0';
    *word = trim(line);
    return **word != '\0' && **label != '\0';
}

static bool is_printable_utf8(const char *text) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    while (*at != '\0') {
        utf8proc_int32_t character = 0;
        const utf8proc_ssize_t length = utf8proc_iterate(at, -1, &character);
        if (length <= 0 || utf8proc_category(character) == UTF8PROC_CATEGORY_CC)
            return false;
        at += length;
    }
    return true;
}

/* A label that the set does not have: adds it if this file defines the labels. */
static bool add_label(struct dataset_builder *builder, const char *name, int32_t *label) {
    const char *path = builder->options->path;
    if (!builder->options->defines_labels)
        return dataset_builder_unknown_label(builder, name);
    if (!tags_is_chunk_tag(name) || !is_printable_utf8(name))
        return problem_set(
            builder->problem, EXIT_DATA,
            "%s:%zu: label '%s' is not a chunk tag (O, or B, I, E, S with a type as in "
            "B-Disease; UTF-8)",
            path, builder->line, dataset_printable(name).text);
    if (builder->labels->count >= LABEL_SET_MAX)
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: label '%s' would be number %d of the task: is the last column "
                           "the label?",
                           path, builder->line, dataset_printable(name).text, LABEL_SET_MAX + 1);
    *label = label_set_add(builder->labels, name);
    return true;
}

/* Encodes the last word of the sentence. Past the cut nothing is needed of the others. */
static void encode_word(struct dataset_builder *builder, struct sentence *sentence,
                        const char *word, int32_t label) {
    const size_t first = sentence->pieces.count, room = dataset_builder_room(builder);
    if (first > room)
        return;
    tokenizer_encode_word(builder->tokenizer, word, strlen(word), &sentence->pieces);
    for (size_t i = first; i < sentence->pieces.count; ++i)
        token_list_append(&sentence->piece_labels, i == first ? label : LABEL_IGNORED);
    if (first == room || sentence->pieces.count == first)
        return;
    const size_t kept = sentence->kept_labels.count;
    sentence->kept_words = dataset_grow(sentence->kept_words, &sentence->kept_capacity, kept + 1,
                                        sizeof(size_t), "words of a sentence");
    sentence->kept_words[kept] = sentence->labels.count - 1;
    token_list_append(&sentence->kept_labels, label);
}

/* A word to be labelled: what stands behind its column does not matter. */
static void add_unlabelled_word(struct dataset_builder *builder, struct sentence *sentence,
                                char *line) {
    const bool has_tabs = strchr(line, '\t') != NULL;
    char *word = has_tabs ? line : trim(line);
    word[strcspn(word, has_tabs ? "\t" : " ")] = '\0';
    word = trim(word);
    const int32_t number = (int32_t)sentence->labels.count;
    token_list_append(&sentence->labels, number);
    encode_word(builder, sentence, word, number);
}

static bool add_word(struct dataset_builder *builder, struct sentence *sentence, char *line) {
    char *word = NULL, *name = NULL;
    if (!split_line(line, &word, &name))
        return problem_set(builder->problem, EXIT_DATA,
                           "%s:%zu: expected a word and its label, separated by a TAB or spaces: "
                           "'%s'",
                           builder->options->path, builder->line, dataset_printable(line).text);
    int32_t label = label_set_find(builder->labels, name);
    if (label < 0 && !add_label(builder, name, &label))
        return false;
    token_list_append(&sentence->labels, label);
    if (!dataset_builder_is_full(builder))
        encode_word(builder, sentence, word, label);
    return true;
}

/* Counts the entities of the sentence and those that the kept labels do not hold any more. */
static void count_entities(struct dataset_builder *builder, struct sentence *sentence) {
    const char *const *names = (const char *const *)builder->labels->names;
    const size_t *words = sentence->kept_words;
    const size_t num_words = sentence->labels.count, num_kept = sentence->kept_labels.count;
    sentence->entities = dataset_grow(sentence->entities, &sentence->entity_capacity, num_words,
                                      sizeof(struct entity), "entities");
    sentence->kept_entities = dataset_grow(sentence->kept_entities, &sentence->kept_entity_capacity,
                                           num_kept, sizeof(struct entity), "entities");
    struct entity *kept = sentence->kept_entities;
    const size_t total =
        tags_find_entities(names, sentence->labels.ids, num_words, sentence->entities);
    const size_t num_found = tags_find_entities(names, sentence->kept_labels.ids, num_kept, kept);
    size_t num_whole = 0;
    for (size_t i = 0; i < num_found; ++i) {
        const size_t begin = words[kept[i].begin], end = words[kept[i].end - 1] + 1;
        if (end - begin == kept[i].end - kept[i].begin)
            kept[num_whole++] = (struct entity){begin, end, kept[i].type};
    }
    builder->dataset.entities_total += total;
    builder->dataset.entities_lost +=
        total - tags_count_common(sentence->entities, total, kept, num_whole);
}

static void end_sentence(struct dataset_builder *builder, struct sentence *sentence) {
    if (sentence->labels.count > 0 && !dataset_builder_is_full(builder)) {
        if (!builder->options->is_unlabelled)
            count_entities(builder, sentence);
        dataset_builder_add(builder, &sentence->pieces, sentence->piece_labels.ids);
    }
    sentence_clear(sentence);
}

static bool read_sentences(struct dataset_builder *builder, struct sentence *sentence) {
    while (builder->options->defines_labels || !dataset_builder_is_full(builder)) {
        char *line = dataset_builder_next_line(builder);
        if (line == NULL)
            break;
        if (conll_ends_sentence(line))
            end_sentence(builder, sentence);
        else if (builder->options->is_unlabelled)
            add_unlabelled_word(builder, sentence, line);
        else if (!add_word(builder, sentence, line))
            return false;
    }
    end_sentence(builder, sentence);
    return true;
}

/* "O", then by type, B- I- E- S- within a type. */
static int compare_names(const void *left_pointer, const void *right_pointer) {
    static const char order[] = "OBIES";
    const char *left = *(const char *const *)left_pointer;
    const char *right = *(const char *const *)right_pointer;
    const bool is_left_outside = left[0] == 'O', is_right_outside = right[0] == 'O';
    if (is_left_outside || is_right_outside)
        return is_right_outside - is_left_outside;
    const int by_type = strcmp(left + 1, right + 1);
    if (by_type != 0)
        return by_type;
    return (int)(strchr(order, left[0]) - strchr(order, right[0]));
}

/* Sorts the labels from `first` on and gives the dataset their new ids. */
static void sort_labels(struct dataset_builder *builder, size_t first) {
    struct label_set *labels = builder->labels;
    const size_t count = labels->count - first;
    if (count == 0)
        return;
    char **old_names = memory_allocate(count, sizeof(char *), "label names");
    int32_t *new_ids = memory_allocate(count, sizeof(int32_t), "label ids");
    memcpy(old_names, labels->names + first, count * sizeof(char *));
    qsort(labels->names + first, count, sizeof(char *), compare_names);
    for (size_t i = 0; i < count; ++i)
        new_ids[i] = label_set_find(labels, old_names[i]);
    for (size_t i = 0; i < builder->num_labels; ++i) {
        int32_t *label = builder->dataset.labels + i;
        if (*label >= 0 && (size_t)*label >= first)
            *label = new_ids[(size_t)*label - first];
    }
    memory_free(old_names);
    memory_free(new_ids);
}

bool dataset_read_conll(struct dataset_builder *builder) {
    struct sentence sentence = {0};
    const size_t num_labels_before = builder->labels->count;
    const bool is_good = read_sentences(builder, &sentence);
    sentence_free(&sentence);
    if (is_good)
        sort_labels(builder, num_labels_before);
    return is_good;
}
