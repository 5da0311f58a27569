/* The pair of neighbours with the lowest rank is merged first, of equal pairs the left one: a heap
 * over a linked list of symbols, so that a word of n bytes takes n log n. Words that are a piece
 * and are merged into it are found in a table instead. */
#include "io/bpe.h"

#include "base/memory.h"
#include "io/text_table.h"

#include <string.h>
#include <utf8proc.h>

enum { SHORT_WORD = 64, NUM_BYTES = 256 };

#define NO_RANK UINT32_MAX

struct merge {
    int32_t left, right, result;
};

struct bpe {
    int32_t byte_ids[NUM_BYTES]; /* -1: none */
    struct merge *merges;        /* [rank] */
    size_t num_merges, capacity;
    uint32_t *slots; /* hash table of ranks, NO_RANK: empty */
    size_t slot_mask;
    struct text_table words; /* of the bytes below */
    char *word_bytes;
};

/* ---- the characters that stand for bytes ---- */

static bool stands_for_itself(int32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The other bytes are U+0100, U+0101 and so on, in their order. */
static int32_t character_of(int32_t byte) {
    if (stands_for_itself(byte))
        return byte;
    int32_t character = 0x100;
    for (int32_t i = 0; i < byte; ++i)
        character += !stands_for_itself(i);
    return character;
}

/* -1 if the character stands for no byte. */
static int32_t byte_of(int32_t character) {
    if (character < 0x100)
        return stands_for_itself(character) ? character : -1;
    if (character <= 0x120)
        return character - 0x100; /* U+0100 to U+0120: control characters and the blank */
    if (character <= 0x142)
        return character - 0x121 + 0x7f; /* 0x7f to 0xa0 */
    return character == 0x143 ? 0xad : -1;
}

size_t bpe_piece_bytes(const char *piece, char *bytes) {
    const size_t length = strlen(piece);
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        int32_t character;
        const utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)piece + at,
                                                       (utf8proc_ssize_t)(length - at), &character);
        const int32_t byte = used > 0 ? byte_of(character) : -1;
        if (byte < 0) {
            memcpy(bytes, piece, length);
            return length;
        }
        bytes[count++] = (char)(unsigned char)byte;
        at += (size_t)used;
    }
    return count;
}

/* ---- ranks of pairs ---- */

static inline size_t first_slot(const struct bpe *bpe, int32_t left, int32_t right) {
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const uint64_t hash = pair * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 32 ^ hash >> 12) & bpe->slot_mask;
}

/* The slot of the pair, or the empty one where it belongs. */
static inline uint32_t *find_slot(const struct bpe *bpe, int32_t left, int32_t right) {
    for (size_t at = first_slot(bpe, left, right);; at = (at + 1) & bpe->slot_mask) {
        uint32_t *slot = &bpe->slots[at];
        if (*slot == NO_RANK ||
            (bpe->merges[*slot].left == left && bpe->merges[*slot].right == right))
            return slot;
    }
}

/* A pair that is given twice has its last rank, as in the Python package. */
static void index_merges(struct bpe *bpe) {
    size_t num_slots = 64;
    while (num_slots < 2 * bpe->num_merges)
        num_slots *= 2;
    bpe->slots = memory_allocate(num_slots, sizeof *bpe->slots, "merges");
    bpe->slot_mask = num_slots - 1;
    memset(bpe->slots, 0xff, num_slots * sizeof *bpe->slots);
    for (size_t rank = 0; rank < bpe->num_merges; ++rank)
        *find_slot(bpe, bpe->merges[rank].left, bpe->merges[rank].right) = (uint32_t)rank;
}

/* ---- reading ---- */

static bool find_piece(const struct vocabulary *vocabulary, const char *piece, size_t length,
                       const char *path, size_t number, int32_t *id, struct problem *problem) {
    *id = text_table_find(&vocabulary->ids, piece, length);
    return *id >= 0 ||
           problem_set(problem, EXIT_DATA, "%s: merge %zu: \"%.*s\" is not in the vocabulary", path,
                       number, (int)(length < 100 ? length : 100), piece);
}

static bool add_merge(struct bpe *bpe, const struct vocabulary *vocabulary, const char *left,
                      size_t left_length, const char *right, size_t right_length, const char *path,
                      struct problem *problem) {
    const size_t number = bpe->num_merges + 1, length = left_length + right_length;
    struct merge merge;
    if (!find_piece(vocabulary, left, left_length, path, number, &merge.left, problem) ||
        !find_piece(vocabulary, right, right_length, path, number, &merge.right, problem))
        return false;
    char *both = memory_allocate(length, 1, "merge");
    memcpy(both, left, left_length);
    memcpy(both + left_length, right, right_length);
    const bool is_good = find_piece(vocabulary, both, length, path, number, &merge.result, problem);
    memory_free(both);
    if (bpe->num_merges == bpe->capacity) {
        bpe->capacity = bpe->capacity == 0 ? 1024 : 2 * bpe->capacity;
        bpe->merges = memory_resize(bpe->merges, bpe->capacity, sizeof *bpe->merges, "merges");
    }
    bpe->merges[bpe->num_merges++] = merge;
    return is_good;
}

static bool add_line(struct bpe *bpe, const struct vocabulary *vocabulary, const char *line,
                     size_t length, const char *path, struct problem *problem) {
    const char *blank = memchr(line, ' ', length);
    const char *rest = blank != NULL ? blank + 1 : line + length;
    const size_t rest_length = (size_t)(line + length - rest);
    if (blank == NULL || memchr(rest, ' ', rest_length) != NULL)
        return problem_set(problem, EXIT_DATA,
                           "%s: merge %zu is not two pieces with a blank between them: \"%.*s\"",
                           path, bpe->num_merges + 1, (int)(length < 100 ? length : 100), line);
    return add_merge(bpe, vocabulary, line, (size_t)(blank - line), rest, rest_length, path,
                     problem);
}

static bool read_text(struct bpe *bpe, const struct vocabulary *vocabulary, const char *text,
                      size_t size, const char *path, struct problem *problem) {
    static const char version[] = "#version";
    for (const char *line = text, *end = text + size; line < end;) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        const char *next = line_end != NULL ? line_end + 1 : end;
        size_t length = (size_t)((line_end != NULL ? line_end : end) - line);
        if (length > 0 && line[length - 1] == '\r')
            --length;
        const bool is_version =
            length >= sizeof version - 1 && memcmp(line, version, sizeof version - 1) == 0;
        if (!is_version && !add_line(bpe, vocabulary, line, length, path, problem))
            return false;
        line = next;
    }
    return true;
}

static bool add_element(struct bpe *bpe, const struct vocabulary *vocabulary,
                        const struct json *element, const char *path, struct problem *problem) {
    if (json_type(element) == JSON_STRING) {
        const char *line = json_string(element);
        return add_line(bpe, vocabulary, line, strlen(line), path, problem);
    }
    const bool is_pair = json_type(element) == JSON_ARRAY && json_count(element) == 2;
    const struct json *first = is_pair ? json_first(element) : NULL;
    const struct json *second = is_pair ? json_next(first) : NULL;
    if (!is_pair || json_type(first) != JSON_STRING || json_type(second) != JSON_STRING)
        return problem_set(problem, EXIT_DATA, "%s: merge %zu is no text and no pair of texts",
                           path, bpe->num_merges + 1);
    const char *left = json_string(first), *right = json_string(second);
    return add_merge(bpe, vocabulary, left, strlen(left), right, strlen(right), path, problem);
}

static bool read_json(struct bpe *bpe, const struct vocabulary *vocabulary,
                      const struct json *merges, const char *path, struct problem *problem) {
    if (merges == NULL || json_type(merges) != JSON_ARRAY)
        return problem_set(problem, EXIT_DATA, "%s: model.merges is no array", path);
    for (const struct json *element = json_first(merges); element != NULL;
         element = json_next(element))
        if (!add_element(bpe, vocabulary, element, path, problem))
            return false;
    return true;
}

static void find_bytes(struct bpe *bpe, const struct vocabulary *vocabulary) {
    for (int32_t byte = 0; byte < NUM_BYTES; ++byte) {
        utf8proc_uint8_t character[5] = {0};
        utf8proc_encode_char(character_of(byte), character);
        bpe->byte_ids[byte] = vocabulary_find(vocabulary, (const char *)character);
    }
}

/* Fills the table of the words that are one piece. */
static void find_words(struct bpe *bpe, const struct vocabulary *vocabulary) {
    size_t num_bytes = 0;
    for (size_t id = 0; id < vocabulary->size; ++id)
        num_bytes += vocabulary->pieces[id] != NULL ? strlen(vocabulary->pieces[id]) : 0;
    bpe->word_bytes = memory_allocate(num_bytes, 1, "words");
    char *word = bpe->word_bytes;
    struct token_list list = {0};
    for (size_t id = 0; id < vocabulary->size; ++id) {
        const char *piece = vocabulary->pieces[id];
        const size_t length = piece != NULL ? bpe_piece_bytes(piece, word) : 0;
        list.count = 0;
        if (length > 0)
            bpe_encode(bpe, word, length, &list);
        if (list.count == 1 && (size_t)list.ids[0] == id &&
            text_table_find(&bpe->words, word, length) < 0) {
            text_table_add(&bpe->words, word, length, (int32_t)id);
            word += length;
        }
    }
    token_list_free(&list);
}

static void prepare(struct bpe *bpe, const struct vocabulary *vocabulary) {
    index_merges(bpe);
    find_bytes(bpe, vocabulary);
    find_words(bpe, vocabulary);
}

struct bpe *bpe_create_from_text(const struct vocabulary *vocabulary, const char *text, size_t size,
                                 const char *path, struct problem *problem) {
    struct bpe *bpe = memory_allocate(1, sizeof *bpe, "merges");
    if (read_text(bpe, vocabulary, text, size, path, problem))
        prepare(bpe, vocabulary);
    else
        bpe_destroy(&bpe);
    return bpe;
}

struct bpe *bpe_create_from_json(const struct vocabulary *vocabulary, const struct json *merges,
                                 const char *path, struct problem *problem) {
    struct bpe *bpe = memory_allocate(1, sizeof *bpe, "merges");
    if (read_json(bpe, vocabulary, merges, path, problem))
        prepare(bpe, vocabulary);
    else
        bpe_destroy(&bpe);
    return bpe;
}

void bpe_destroy(struct bpe **bpe) {
    if (*bpe == NULL)
        return;
    text_table_free(&(*bpe)->words);
    memory_free((*bpe)->word_bytes);
    memory_free((*bpe)->slots);
    memory_free((*bpe)->merges);
    memory_free(*bpe);
    *bpe = NULL;
}

bool bpe_has_all_bytes(const struct bpe *bpe) {
    for (size_t byte = 0; byte < NUM_BYTES; ++byte)
        if (bpe->byte_ids[byte] < 0)
            return false;
    return true;
}

/* ---- encoding ---- */

/* One symbol of the word that is being merged. Neighbours are named by their places. */
struct symbol {
    int32_t id;
    uint32_t previous, next; /* next == count: the last one; previous of the first one: itself */
    uint32_t rank; /* of the pair with the next symbol, NO_RANK: none, or not there any more */
};

struct work {
    struct symbol *symbols; /* [count] */
    uint32_t count;
    uint64_t *heap; /* rank and place of pairs, the least first; outdated ones among them */
    size_t heap_size;
};

static void heap_push(struct work *work, uint64_t value) {
    size_t at = work->heap_size++;
    for (; at > 0 && work->heap[(at - 1) / 2] > value; at = (at - 1) / 2)
        work->heap[at] = work->heap[(at - 1) / 2];
    work->heap[at] = value;
}

static uint64_t heap_pop(struct work *work) {
    uint64_t *heap = work->heap;
    const uint64_t least = heap[0], value = heap[--work->heap_size];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= work->heap_size)
            break;
        child += child + 1 < work->heap_size && heap[child + 1] < heap[child];
        if (heap[child] >= value)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = value;
    return least;
}

/* Looks the pair that begins at this place up. */
static void rank_pair(const struct bpe *bpe, struct work *work, uint32_t place) {
    struct symbol *symbol = &work->symbols[place];
    symbol->rank = NO_RANK;
    if (symbol->next < work->count)
        symbol->rank = *find_slot(bpe, symbol->id, work->symbols[symbol->next].id);
    if (symbol->rank != NO_RANK)
        heap_push(work, (uint64_t)symbol->rank << 32 | place);
}

static void merge_pair(const struct bpe *bpe, struct work *work, uint32_t place) {
    struct symbol *left = &work->symbols[place], *right = &work->symbols[left->next];
    left->id = bpe->merges[left->rank].result;
    right->rank = NO_RANK;
    left->next = right->next;
    if (left->next < work->count)
        work->symbols[left->next].previous = place;
    rank_pair(bpe, work, place);
    if (left->previous != place)
        rank_pair(bpe, work, left->previous);
}

static void merge_all(const struct bpe *bpe, struct work *work) {
    for (uint32_t place = 0; place < work->count; ++place)
        rank_pair(bpe, work, place);
    while (work->heap_size > 0) {
        const uint64_t least = heap_pop(work);
        const uint32_t place = (uint32_t)least;
        if (work->symbols[place].rank == least >> 32)
            merge_pair(bpe, work, place);
    }
}

static void fill_symbols(const struct bpe *bpe, struct work *work, const char *word,
                         size_t length) {
    uint32_t count = 0;
    for (size_t i = 0; i < length; ++i) {
        const int32_t id = bpe->byte_ids[(unsigned char)word[i]];
        if (id < 0)
            continue;
        work->symbols[count] = (struct symbol){id, count == 0 ? 0 : count - 1, count + 1, NO_RANK};
        ++count;
    }
    work->count = count;
}

static void encode_with(const struct bpe *bpe, struct work *work, const char *word, size_t length,
                        struct token_list *list) {
    fill_symbols(bpe, work, word, length);
    merge_all(bpe, work);
    for (uint32_t place = 0; place < work->count; place = work->symbols[place].next)
        token_list_append(list, work->symbols[place].id);
}

void bpe_encode(const struct bpe *bpe, const char *word, size_t length, struct token_list *list) {
    const int32_t id = text_table_find(&bpe->words, word, length);
    if (id >= 0) {
        token_list_append(list, id);
        return;
    }
    if (length <= SHORT_WORD) { /* each of length - 1 merges pushes two pairs at most */
        struct symbol symbols[SHORT_WORD];
        uint64_t heap[3 * SHORT_WORD];
        encode_with(bpe, &(struct work){symbols, 0, heap, 0}, word, length, list);
        return;
    }
    FAULT_UNLESS(length < UINT32_MAX, "a word of %zu bytes", length);
    struct symbol *symbols = memory_allocate(length, sizeof *symbols, "a long word");
    uint64_t *heap = memory_allocate(3 * length, sizeof *heap, "a long word");
    encode_with(bpe, &(struct work){symbols, 0, heap, 0}, word, length, list);
    memory_free(heap);
    memory_free(symbols);
}
