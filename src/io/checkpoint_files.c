/* The files checkpoint-NNNNNN.h5 of a directory. */
#include "io/checkpoint_files.h"

#include "base/memory.h"
#include "io/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PREFIX[] = "checkpoint-";
enum { FEWEST_DIGITS = 6, MOST_DIGITS = 15 };

char *checkpoint_path(const char *directory, size_t number) {
    return memory_format("%s/%s%0*zu.h5", directory, PREFIX, FEWEST_DIGITS, number);
}

/* Is this the name of a checkpoint followed by `ending`? */
static bool has_number(const char *name, const char *ending, size_t *number) {
    const size_t prefix = sizeof PREFIX - 1;
    if (strncmp(name, PREFIX, prefix) != 0)
        return false;
    size_t digits = 0;
    while (isdigit((unsigned char)name[prefix + digits]))
        ++digits;
    if (digits < FEWEST_DIGITS || digits > MOST_DIGITS ||
        strcmp(name + prefix + digits, ending) != 0)
        return false;
    *number = strtoull(name + prefix, NULL, 10);
    return true;
}

static int compare(const void *a, const void *b) {
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static size_t *list(const char *directory, const char *ending, size_t *count) {
    size_t *numbers = memory_allocate(0, sizeof *numbers, "checkpoints");
    *count = 0;
    DIR *opened = opendir(directory);
    if (opened == NULL)
        return numbers;
    for (const struct dirent *entry; (entry = readdir(opened)) != NULL;) {
        size_t number;
        if (!has_number(entry->d_name, ending, &number))
            continue;
        numbers = memory_resize(numbers, *count + 1, sizeof *numbers, "checkpoints");
        numbers[(*count)++] = number;
    }
    closedir(opened);
    qsort(numbers, *count, sizeof *numbers, compare);
    return numbers;
}

size_t *checkpoint_numbers(const char *directory, size_t *count) {
    return list(directory, ".h5", count);
}

bool checkpoint_is_readable(const char *directory, size_t number, struct problem *problem) {
    char *path = checkpoint_path(directory, number);
    const bool is_good =
        access(path, R_OK) == 0 ||
        problem_set(problem, EXIT_DATA, "%s: cannot be read: %s", path, strerror(errno));
    memory_free(path);
    return is_good;
}

static void remove_first(const char *directory, const char *ending, size_t keep) {
    size_t count;
    size_t *numbers = list(directory, ending, &count);
    for (size_t i = 0; i + keep < count; ++i) {
        char *path = checkpoint_path(directory, numbers[i]);
        char *whole = memory_format("%s%s", path, ending + strlen(".h5"));
        unlink(whole);
        memory_free(whole);
        memory_free(path);
    }
    memory_free(numbers);
}

void checkpoint_remove_old(const char *directory, size_t keep) {
    remove_first(directory, ".h5", keep);
    remove_first(directory, ".h5.tmp", 0);
}

bool checkpoint_set_aside(const char *directory, size_t number, struct problem *problem) {
    char *path = checkpoint_path(directory, number), *name = memory_format("%s.damaged", path);
    const bool is_good = file_rename(path, name, problem);
    memory_free(path);
    memory_free(name);
    return is_good;
}
