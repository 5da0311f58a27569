/* The vocabulary of WordPiece in an open-addressing hash table. The hash of a text follows from
 * that of the text without its last byte, so the hashes of all candidates for the longest piece
 * come from one pass over the word. */
#include "io/wordpiece.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/utf8.h"
#include "io/vocabulary.h"

#include <string.h>

enum { MAX_PIECE_BYTES = 1000 };

#define HASH_START UINT64_C(0xcbf29ce484222325)

struct piece {
    const char *text;
    size_t bytes;
};

struct slot {
    uint32_t tag; /* upper half of the hash */
    int32_t id;   /* -1: empty */
};

struct wordpiece {
    char *text; /* the file, each line end replaced by '\0' */
    struct piece *pieces;
    size_t num_pieces, longest_piece_bytes;
    struct slot *slots;
    size_t slot_mask;
    uint64_t continuation_hash; /* of "##" */
};

/* ---- hash table ---- */

static inline uint64_t hash_step(uint64_t hash, char byte) {
    return (hash ^ (unsigned char)byte) * UINT64_C(0x100000001b3); /* FNV-1a */
}

static uint64_t hash_bytes(const char *text, size_t bytes) {
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < bytes; ++i)
        hash = hash_step(hash, text[i]);
    return hash;
}

static inline size_t first_slot(const struct wordpiece *wordpiece, uint64_t hash) {
    return (size_t)(hash ^ hash >> 32) & wordpiece->slot_mask;
}

/* Id of the piece made of the first bytes of "##" and `text`, whose hash is known; -1 if there is
 * none. */
static inline int32_t find_piece(const struct wordpiece *wordpiece, uint64_t hash,
                                 size_t prefix_bytes, const char *text, size_t bytes) {
    size_t at = first_slot(wordpiece, hash);
    for (;; at = (at + 1) & wordpiece->slot_mask) {
        const struct slot slot = wordpiece->slots[at];
        if (slot.id < 0)
            return -1;
        if (slot.tag != (uint32_t)(hash >> 32))
            continue;
        const struct piece *piece = &wordpiece->pieces[slot.id];
        if (piece->bytes == prefix_bytes + bytes && memcmp(piece->text, "##", prefix_bytes) == 0 &&
            memcmp(piece->text + prefix_bytes, text, bytes) == 0)
            return slot.id;
    }
}

static int32_t find_text(const struct wordpiece *wordpiece, const char *text, size_t bytes) {
    return find_piece(wordpiece, hash_bytes(text, bytes), 0, text, bytes);
}

static void insert_piece(struct wordpiece *wordpiece, int32_t id) {
    const struct piece *piece = &wordpiece->pieces[id];
    const uint64_t hash = hash_bytes(piece->text, piece->bytes);
    size_t at = first_slot(wordpiece, hash);
    while (wordpiece->slots[at].id >= 0)
        at = (at + 1) & wordpiece->slot_mask;
    wordpiece->slots[at] = (struct slot){(uint32_t)(hash >> 32), id};
}

/* ---- reading ---- */

static bool check_line(const struct piece *piece, const char *path, size_t line,
                       struct problem *problem) {
    if (piece->bytes == 0)
        return problem_set(problem, EXIT_DATA, "%s: line %zu is empty", path, line);
    if (piece->bytes > MAX_PIECE_BYTES)
        return problem_set(problem, EXIT_DATA,
                           "%s: line %zu has %zu bytes, a piece has %d at most: this is not a "
                           "vocabulary file",
                           path, line, piece->bytes, MAX_PIECE_BYTES);
    if (memchr(piece->text, '\0', piece->bytes) != NULL)
        return problem_set(problem, EXIT_DATA, "%s: line %zu holds a zero byte", path, line);
    if (memchr(piece->text, '\r', piece->bytes) != NULL)
        return problem_set(problem, EXIT_DATA, "%s: line %zu holds a carriage return", path, line);
    if (!utf8_is_valid(piece->text, piece->bytes))
        return problem_set(problem, EXIT_DATA, "%s: line %zu is not UTF-8", path, line);
    return true;
}

/* Cuts the text into pieces, one a line; line ends are LF or CR LF. */
static bool cut_lines(struct wordpiece *wordpiece, size_t size, const char *path,
                      struct problem *problem) {
    size_t num_lines = 0;
    for (size_t i = 0; i < size; ++i)
        num_lines += wordpiece->text[i] == '\n' || i + 1 == size;
    if (num_lines == 0)
        return problem_set(problem, EXIT_DATA, "%s: is empty", path);
    if (num_lines > INT32_MAX / 4)
        return problem_set(problem, EXIT_DATA, "%s: has too many lines (%zu)", path, num_lines);
    wordpiece->pieces = memory_allocate(num_lines, sizeof(struct piece), "vocabulary");
    char *line = wordpiece->text;
    char *const end = line + size;
    for (size_t id = 0; id < num_lines; ++id) {
        char *line_end = memchr(line, '\n', (size_t)(end - line));
        if (line_end == NULL)
            line_end = end;
        struct piece piece = {line, (size_t)(line_end - line)};
        if (piece.bytes > 0 && line[piece.bytes - 1] == '\r')
            --piece.bytes;
        if (!check_line(&piece, path, id + 1, problem))
            return false;
        line[piece.bytes] = '\0';
        wordpiece->pieces[id] = piece;
        if (piece.bytes > wordpiece->longest_piece_bytes)
            wordpiece->longest_piece_bytes = piece.bytes;
        line = line_end + 1;
    }
    wordpiece->num_pieces = num_lines;
    return true;
}

/* Fills the hash table; a piece given twice is a problem, as it would have two ids. */
static bool index_pieces(struct wordpiece *wordpiece, const char *path, struct problem *problem) {
    size_t num_slots = 64;
    while (num_slots < 2 * wordpiece->num_pieces)
        num_slots *= 2;
    wordpiece->slots = memory_allocate(num_slots, sizeof(struct slot), "vocabulary");
    wordpiece->slot_mask = num_slots - 1;
    for (size_t i = 0; i < num_slots; ++i)
        wordpiece->slots[i].id = -1;
    for (size_t id = 0; id < wordpiece->num_pieces; ++id) {
        const struct piece *piece = &wordpiece->pieces[id];
        const int32_t other = find_text(wordpiece, piece->text, piece->bytes);
        if (other >= 0)
            return problem_set(problem, EXIT_DATA, "%s: lines %zu and %zu are the same: \"%.100s\"",
                               path, (size_t)other + 1, id + 1, piece->text);
        insert_piece(wordpiece, (int32_t)id);
    }
    wordpiece->continuation_hash = hash_bytes("##", 2);
    return true;
}

/* Takes the text, which may be NULL after a problem. */
static struct wordpiece *create(char *text, size_t size, const char *path,
                                struct problem *problem) {
    struct wordpiece *wordpiece = memory_allocate(1, sizeof(*wordpiece), "vocabulary");
    wordpiece->text = text;
    if (text == NULL || !cut_lines(wordpiece, size, path, problem) ||
        !index_pieces(wordpiece, path, problem))
        wordpiece_destroy(&wordpiece);
    return wordpiece;
}

struct wordpiece *wordpiece_create(const char *path, struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    return create(text, size, path, problem);
}

/* The pieces as lines; NULL and a problem if an id has none or if one holds a line end. */
static char *join_lines(const struct vocabulary *vocabulary, size_t *size, const char *path,
                        struct problem *problem) {
    *size = 0;
    for (size_t id = 0; id < vocabulary->size; ++id) {
        const char *piece = vocabulary->pieces[id];
        if (piece == NULL || strchr(piece, '\n') != NULL) {
            problem_set(problem, EXIT_DATA, "%s: %s piece of id %zu%s", path,
                        piece == NULL ? "there is no" : "the", id,
                        piece == NULL ? "" : " holds a line end");
            return NULL;
        }
        *size += strlen(piece) + 1;
    }
    char *text = memory_allocate(*size + 1, 1, "vocabulary"), *end = text;
    for (size_t id = 0; id < vocabulary->size; ++id) {
        end = stpcpy(end, vocabulary->pieces[id]);
        *end++ = '\n';
    }
    return text;
}

struct wordpiece *wordpiece_create_from_json(const struct json *object, const char *path,
                                             struct problem *problem) {
    struct vocabulary vocabulary = {0};
    size_t size = 0;
    char *text = NULL;
    if (vocabulary_read(&vocabulary, object, path, problem))
        text = join_lines(&vocabulary, &size, path, problem);
    vocabulary_free(&vocabulary);
    return create(text, size, path, problem);
}

void wordpiece_destroy(struct wordpiece **wordpiece) {
    if (*wordpiece == NULL)
        return;
    memory_free((*wordpiece)->slots);
    memory_free((*wordpiece)->pieces);
    memory_free((*wordpiece)->text);
    memory_free(*wordpiece);
    *wordpiece = NULL;
}

size_t wordpiece_size(const struct wordpiece *wordpiece) {
    return wordpiece->num_pieces;
}

const char *wordpiece_text(const struct wordpiece *wordpiece, int32_t id) {
    return id >= 0 && (size_t)id < wordpiece->num_pieces ? wordpiece->pieces[id].text : NULL;
}

int32_t wordpiece_find(const struct wordpiece *wordpiece, const char *text) {
    return find_text(wordpiece, text, strlen(text));
}

/* ---- cutting a word ---- */

static inline bool is_character_start(char byte) {
    return ((unsigned char)byte & 0xc0) != 0x80;
}

void wordpiece_encode(const struct wordpiece *wordpiece, const char *word, size_t bytes,
                      int32_t unknown, struct token_list *list) {
    uint64_t hashes[WORDPIECE_MAX_BYTES + 1]; /* of the piece from start up to each byte */
    const size_t count_before = list->count;
    for (size_t start = 0; start < bytes;) {
        const size_t prefix_bytes = start == 0 ? 0 : 2;
        const size_t longest = wordpiece->longest_piece_bytes;
        size_t stop = bytes - start < longest ? bytes : start + longest;
        hashes[start] = start == 0 ? HASH_START : wordpiece->continuation_hash;
        for (size_t i = start; i < stop; ++i)
            hashes[i + 1] = hash_step(hashes[i], word[i]);
        int32_t id = -1;
        for (; stop > start; --stop) {
            if (stop < bytes && !is_character_start(word[stop]))
                continue;
            id = find_piece(wordpiece, hashes[stop], prefix_bytes, word + start, stop - start);
            if (id >= 0)
                break;
        }
        if (id < 0) {
            list->count = count_before;
            token_list_append(list, unknown);
            return;
        }
        token_list_append(list, id);
        start = stop;
    }
}
