/* A folder with a vocabulary and one data file, for the tests of the readers. One for each program.
 */
#ifndef AUTOLORA_TESTS_DATA_FOLDER_H
#define AUTOLORA_TESTS_DATA_FOLDER_H

#include "base/memory.h"
#include "io/file.h"
#include "io/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/autolora_test_data_XXXXXX";
static char *path; /* the data file */
static struct tokenizer *tokenizer;

static void write_bytes(const char *file, const char *bytes, size_t size) {
    FILE *stream = fopen(file, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

/* vocabulary: of a WordPiece tokenizer, a piece a line. */
static int make_data_folder(const char *vocabulary) {
    struct problem problem = {0};
    if (mkdtemp(folder) == NULL)
        return -1;
    char *file = file_join(folder, "vocab.txt");
    write_bytes(file, vocabulary, strlen(vocabulary));
    memory_free(file);
    path = file_join(folder, "data.tsv");
    tokenizer = tokenizer_create(folder, &problem);
    return tokenizer == NULL ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    tokenizer_destroy(&tokenizer);
    unlink(path);
    memory_free(path);
    char *file = file_join(folder, "vocab.txt");
    unlink(file);
    memory_free(file);
    rmdir(folder);
    return memory_blocks_now() == 0 ? 0 : -1;
}

#endif
