/* An n-gram is looked up as the pair (n-gram without its last word, last word) in one hash table;
 * a 1-gram as the pair of nothing and the place of its bytes in a table of words. */
#include "train/nlg_grams.h"

#include "base/memory.h"
#include "base/report.h"
#include "io/nlg_text.h"

#include <stdbool.h>
#include <string.h>

enum { FIRST_CAPACITY = 1 << 12 };

struct pair {
    uint32_t start, word;
};

/* Open addressing, at most half full; a slot holds a number + 1, 0 if free. */
struct table {
    uint32_t *slots;
    size_t capacity, count; /* capacity: a power of 2 */
};

struct nlg_grams {
    size_t max_order, num_texts;
    struct table words, pairs;
    size_t *word_at;    /* [words + 1] where the bytes of a word start */
    char *bytes;        /* of all words */
    struct pair *pair;  /* [grams] */
    size_t *first_word; /* [texts + 1] */
    uint32_t *grams;    /* [words of all texts x max_order]: of one text order by order */
    size_t room_words, room_bytes, room_pairs, room_texts, room_grams;
};

/* Makes room for `needed` elements, at least doubling. */
static void *grow(void *pointer, size_t *room, size_t needed, size_t size) {
    if (needed <= *room)
        return pointer;
    *room = needed > 2 * *room ? needed : 2 * *room;
    return memory_resize(pointer, *room, size, "n-grams");
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15u;
    return x ^ (x >> 29);
}

static uint64_t hash_bytes(const char *bytes, size_t length) {
    uint64_t hash = length;
    for (size_t i = 0; i < length; ++i)
        hash = mix(hash ^ (unsigned char)bytes[i]);
    return hash;
}

static uint64_t hash_pair(struct pair pair) {
    return mix(mix((uint64_t)pair.start << 32 | pair.word));
}

static uint64_t hash_word(const struct nlg_grams *grams, size_t word) {
    return hash_bytes(grams->bytes + grams->word_at[word],
                      grams->word_at[word + 1] - grams->word_at[word]);
}

static void put(struct table *table, uint64_t hash, size_t number) {
    size_t slot = hash & (table->capacity - 1);
    while (table->slots[slot] != 0)
        slot = (slot + 1) & (table->capacity - 1);
    table->slots[slot] = (uint32_t)(number + 1);
}

/* Enters the next number; the table may be laid anew. */
static uint32_t enter(struct nlg_grams *grams, struct table *table, uint64_t hash) {
    FAULT_UNLESS(table->count < NLG_NO_GRAM - 1, "too many n-grams");
    const bool is_words = table == &grams->words;
    if (2 * (table->count + 1) > table->capacity) {
        memory_free(table->slots);
        table->capacity *= 2;
        table->slots = memory_allocate(table->capacity, sizeof *table->slots, "n-grams");
        for (size_t i = 0; i < table->count; ++i)
            put(table, is_words ? hash_word(grams, i) : hash_pair(grams->pair[i]), i);
    }
    put(table, hash, table->count);
    return (uint32_t)table->count++;
}

static uint32_t word_number(struct nlg_grams *grams, const char *bytes, size_t length) {
    const uint64_t hash = hash_bytes(bytes, length);
    struct table *table = &grams->words;
    for (size_t slot = hash & (table->capacity - 1); table->slots[slot] != 0;
         slot = (slot + 1) & (table->capacity - 1)) {
        const uint32_t word = table->slots[slot] - 1;
        const size_t start = grams->word_at[word];
        if (grams->word_at[word + 1] - start == length &&
            memcmp(grams->bytes + start, bytes, length) == 0)
            return word;
    }
    const size_t start = grams->word_at[table->count];
    grams->bytes = grow(grams->bytes, &grams->room_bytes, start + length, 1);
    grams->word_at =
        grow(grams->word_at, &grams->room_words, table->count + 2, sizeof *grams->word_at);
    memcpy(grams->bytes + start, bytes, length);
    grams->word_at[table->count + 1] = start + length;
    return enter(grams, table, hash);
}

static uint32_t pair_number(struct nlg_grams *grams, struct pair pair) {
    const uint64_t hash = hash_pair(pair);
    struct table *table = &grams->pairs;
    for (size_t slot = hash & (table->capacity - 1); table->slots[slot] != 0;
         slot = (slot + 1) & (table->capacity - 1)) {
        const struct pair other = grams->pair[table->slots[slot] - 1];
        if (other.start == pair.start && other.word == pair.word)
            return table->slots[slot] - 1;
    }
    grams->pair = grow(grams->pair, &grams->room_pairs, table->count + 1, sizeof *grams->pair);
    grams->pair[table->count] = pair;
    return enter(grams, table, hash);
}

struct nlg_grams *nlg_grams_create(size_t max_order) {
    struct nlg_grams *grams = memory_allocate(1, sizeof *grams, "n-grams");
    grams->max_order = max_order;
    struct table *tables[] = {&grams->words, &grams->pairs};
    for (size_t i = 0; i < 2; ++i) {
        tables[i]->capacity = FIRST_CAPACITY;
        tables[i]->slots = memory_allocate(FIRST_CAPACITY, sizeof(uint32_t), "n-grams");
    }
    grams->bytes = grow(NULL, &grams->room_bytes, 1, 1);
    grams->word_at = grow(NULL, &grams->room_words, 1, sizeof *grams->word_at);
    grams->first_word = grow(NULL, &grams->room_texts, 1, sizeof *grams->first_word);
    return grams;
}

void nlg_grams_destroy(struct nlg_grams **grams) {
    if (*grams == NULL)
        return;
    memory_free((*grams)->words.slots);
    memory_free((*grams)->pairs.slots);
    memory_free((*grams)->word_at);
    memory_free((*grams)->bytes);
    memory_free((*grams)->pair);
    memory_free((*grams)->first_word);
    memory_free((*grams)->grams);
    memory_free(*grams);
    *grams = NULL;
}

/* The end of the word at `at`; *next is where the next one starts. */
static const char *word_end(const char *at, enum nlg_split split, const char **next) {
    while (*at != '\0') {
        const char *behind = at;
        const int32_t c = nlg_next_code_point(&behind);
        if (c == ' ' || (split == NLG_SPLIT_SPACE && nlg_is_space(c))) {
            *next = behind;
            return at;
        }
        at = behind;
    }
    *next = NULL;
    return at;
}

/* The words of a text, one after the other behind those of the texts before; how many. */
static size_t add_words(struct nlg_grams *grams, const char *tokens, enum nlg_split split) {
    const size_t first = grams->first_word[grams->num_texts] * grams->max_order;
    size_t count = 0;
    for (const char *at = tokens, *next; at != NULL; at = next) {
        const char *end = word_end(at, split, &next);
        if (end == at && split == NLG_SPLIT_SPACE)
            continue;
        grams->grams = grow(grams->grams, &grams->room_grams, first + count + 1, sizeof(uint32_t));
        grams->grams[first + count++] = word_number(grams, at, (size_t)(end - at));
    }
    return count;
}

void nlg_grams_add(struct nlg_grams *grams, const char *tokens, enum nlg_split split) {
    const size_t first = grams->first_word[grams->num_texts];
    const size_t count = add_words(grams, tokens, split);
    grams->grams = grow(grams->grams, &grams->room_grams, (first + count) * grams->max_order,
                        sizeof(uint32_t));
    uint32_t *text = grams->grams + first * grams->max_order;
    for (size_t i = 0; i < count; ++i)
        text[i] = pair_number(grams, (struct pair){NLG_NO_GRAM, text[i]});
    for (size_t n = 1; n < grams->max_order; ++n)
        for (size_t i = 0; i + n < count; ++i)
            text[n * count + i] =
                pair_number(grams, (struct pair){text[(n - 1) * count + i], text[i + n]});
    grams->first_word = grow(grams->first_word, &grams->room_texts, grams->num_texts + 2,
                             sizeof *grams->first_word);
    grams->first_word[++grams->num_texts] = first + count;
}

size_t nlg_grams_count(const struct nlg_grams *grams) {
    return grams->pairs.count;
}

size_t nlg_grams_words(const struct nlg_grams *grams, size_t text) {
    return grams->first_word[text + 1] - grams->first_word[text];
}

struct nlg_span nlg_grams_span(const struct nlg_grams *grams, size_t text, size_t order) {
    const size_t count = nlg_grams_words(grams, text);
    const uint32_t *first = grams->grams + grams->first_word[text] * grams->max_order;
    if (count <= order)
        return (struct nlg_span){NULL, 0};
    return (struct nlg_span){first + order * count, count - order};
}

uint32_t nlg_grams_start(const struct nlg_grams *grams, uint32_t gram) {
    return grams->pair[gram].start;
}
