/* Around each input: leaks, memory, and the folder of its files. */
#include "fuzz.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, NUM_PATHS = 8 };

/* ---- memory ---- */

/* The sanitizers' hooks see all blocks of the process, those of libraries among them; without them
 * only base/memory.h counts. */
int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *, size_t),
                                              void (*freed)(const volatile void *))
    __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *) __attribute__((weak));

static size_t bytes_now, bytes_peak;

static void count_block(const volatile void *block, size_t size) {
    (void)block;
    bytes_now += size;
    if (bytes_now > bytes_peak)
        bytes_peak = bytes_now;
}

static void forget_block(const volatile void *block) {
    const size_t size = block == NULL ? 0 : __sanitizer_get_allocated_size(block);
    bytes_now -= size < bytes_now ? size : bytes_now;
}

static void check_memory(size_t size, size_t blocks_before, size_t bytes_before) {
    FAULT_UNLESS(memory_blocks_now() == blocks_before, "%zu blocks are not freed",
                 memory_blocks_now() - blocks_before);
    const size_t most = bytes_before + FUZZ_CONSTANT + FUZZ_MULTIPLE * size;
    FAULT_UNLESS(bytes_peak <= most, "an input of %zu bytes took %zu", size,
                 bytes_peak - bytes_before);
}

/* ---- faults ---- */

/* In place of report_abort, whose exit libFuzzer would not see. */
void __wrap_report_abort(int exit_code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));

void __wrap_report_abort(int exit_code, const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: exit code %d: ", file, line, exit_code);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* ---- the input ---- */

static size_t file_bytes;

void fuzz_count_file(size_t size) {
    file_bytes += size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    if (__sanitizer_install_malloc_and_free_hooks != NULL)
        __sanitizer_install_malloc_and_free_hooks(count_block, forget_block);
    fuzz_folder();
    fuzz_prepare();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const size_t blocks_before = memory_blocks_now(), bytes_before = bytes_now;
    bytes_peak = bytes_now;
    file_bytes = 0;
    fuzz_one(size > 0 ? (const char *)data : "", size);
    check_memory(size + file_bytes, blocks_before, bytes_before);
    return 0;
}

void fuzz_cut(const char *bytes, size_t size, struct part *parts, size_t count) {
    static const char line[] = "=====\n";
    const size_t length = sizeof line - 1;
    const char *end = bytes + size;
    for (size_t i = 0; i < count; ++i) {
        parts[i] = (struct part){bytes, bytes == NULL ? 0 : (size_t)(end - bytes)};
        const char *stop =
            i + 1 == count || bytes == NULL ? NULL : memmem(bytes, parts[i].size, line, length);
        if (stop != NULL)
            parts[i].size = (size_t)(stop - bytes);
        bytes = stop == NULL ? NULL : stop + length;
    }
}

unsigned fuzz_take_byte(struct part *part) {
    if (part->size == 0)
        return 0;
    --part->size;
    return (unsigned char)*part->bytes++;
}

char *fuzz_text(struct part part) {
    char *text = memory_allocate(part.size + 1, 1, "a text");
    if (part.size > 0)
        memcpy(text, part.bytes, part.size);
    return text;
}

/* ---- files ---- */

static char folder[PATH_BYTES];

static void remove_folder(void) {
    char command[PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command) != 0) /* NOLINT(cert-env33-c): its name is mkdtemp's */
        fprintf(stderr, "%s: cannot be removed\n", folder);
}

const char *fuzz_folder(void) {
    if (folder[0] != '\0')
        return folder;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/autolora-fuzz-XXXXXX", parent != NULL ? parent : "/tmp");
    FAULT_UNLESS(mkdtemp(folder) != NULL, "%s cannot be made", folder);
    atexit(remove_folder);
    return folder;
}

const char *fuzz_path(const char *name) {
    static char paths[NUM_PATHS][PATH_BYTES + 256];
    static size_t next;
    char *path = paths[next++ % NUM_PATHS];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

const char *fuzz_put(const char *name, struct part part) {
    const char *path = fuzz_path(name);
    if (part.bytes == NULL) {
        unlink(path);
        return path;
    }
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FAULT_UNLESS(file >= 0 && write(file, part.bytes, part.size) == (ssize_t)part.size,
                 "%s cannot be written", path);
    close(file);
    return path;
}

/* ---- tokenizers ---- */

const char *fuzz_vocabulary(void) {
    return "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n.\n,\na\nb\nc\nab\n##a\n##b\n##c\n##ab\n1\n"
           "##1\n\xC3\xA9\n##\xC3\xA9\n\xE4\xB8\xAD\nthe\n##ing\n";
}

static void make_folder(const char *name) {
    mkdir(fuzz_path(name), 0700);
}

struct tokenizer *fuzz_wordpiece_tokenizer(void) {
    make_folder("wordpiece");
    fuzz_put("wordpiece/vocab.txt", (struct part){fuzz_vocabulary(), strlen(fuzz_vocabulary())});
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(fuzz_path("wordpiece"), &problem);
    FAULT_UNLESS(tokenizer != NULL, "%s", problem.text);
    return tokenizer;
}

/* The bytes' characters as GPT-2 has them, in their order, and a few merges. */
static size_t print_byte_vocabulary(char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "{\"<|endoftext|>\": 0");
    unsigned moved = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
        const bool is_itself =
            (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        used += (size_t)snprintf(text + used, size - used, ", \"\\u%04x\": %u",
                                 is_itself ? byte : moved++, byte + 1);
    }
    used += (size_t)snprintf(text + used, size - used,
                             ", \"th\": 257, \"\\u0120t\": 258, \"\\u010a\\u010a\": 259}");
    return used;
}

struct tokenizer *fuzz_bpe_tokenizer(void) {
    static const char merges[] = "#version: 0.2\nt h\n\xC4\xA0 t\n\xC4\x8A \xC4\x8A\n";
    char vocabulary[8192];
    const size_t size = print_byte_vocabulary(vocabulary, sizeof vocabulary);
    make_folder("bpe");
    fuzz_put("bpe/vocab.json", (struct part){vocabulary, size});
    fuzz_put("bpe/merges.txt", (struct part){merges, sizeof merges - 1});
    struct problem problem = {0};
    struct tokenizer *tokenizer = tokenizer_create(fuzz_path("bpe"), &problem);
    FAULT_UNLESS(tokenizer != NULL, "%s", problem.text);
    return tokenizer;
}

void fuzz_use_tokenizer(const struct tokenizer *tokenizer, struct part text) {
    struct token_list list = {0};
    if (text.bytes != NULL) {
        tokenizer_encode(tokenizer, text.bytes, text.size, &list);
        tokenizer_encode_word(tokenizer, text.bytes, text.size, &list);
    }
    const size_t size = tokenizer_vocabulary_size(tokenizer);
    for (size_t i = 0; i < list.count; ++i)
        FAULT_UNLESS(list.ids[i] >= 0 && (size_t)list.ids[i] < size, "id %d of %zu",
                     (int)list.ids[i], size);
    for (int is_skipping = 0; is_skipping < 2; ++is_skipping) {
        size_t length;
        memory_free(tokenizer_decode(tokenizer, list.ids, list.count, is_skipping != 0, &length));
    }
    token_list_free(&list);
}

void fuzz_check(bool is_good, const struct problem *problem) {
    FAULT_UNLESS(is_good == (problem->exit_code == 0), "%s, but the problem is \"%s\"",
                 is_good ? "read" : "refused", problem->text);
    FAULT_UNLESS(is_good || problem->text[0] != '\0', "refused without a reason");
}
