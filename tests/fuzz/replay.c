/* Gives files, and the files of folders, to a harness, one after the other. */
#include "fuzz.h"

#include "io/file.h"

#include <dirent.h>
#include <stdio.h>

static size_t num_inputs;

static void replay_file(const char *path) {
    struct problem problem = {0};
    size_t size = 0;
    char *bytes = file_read(path, &size, &problem);
    FAULT_UNLESS(bytes != NULL, "%s", problem.text);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
    ++num_inputs;
    memory_free(bytes);
}

static void replay(const char *path) {
    DIR *opened = opendir(path);
    if (opened == NULL) {
        replay_file(path);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(opened)) != NULL;) {
        char *name = file_join(path, entry->d_name);
        if (entry->d_name[0] != '.')
            replay_file(name);
        memory_free(name);
    }
    closedir(opened);
}

int main(int argc, char **argv) {
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; ++i)
        replay(argv[i]);
    printf("%zu inputs\n", num_inputs);
    return 0;
}
