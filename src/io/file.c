/* Files as wholes. */
#include "io/file.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens a regular file for reading; -1 and a problem otherwise. */
static int open_regular(const char *path, size_t *size, struct problem *problem) {
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        problem_set(problem, EXIT_DATA, "%s: cannot be opened: %s", path, strerror(errno));
        return -1;
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        problem_set(problem, EXIT_DATA, "%s: is not a regular file", path);
        close(descriptor);
        return -1;
    }
    *size = (size_t)status.st_size;
    return descriptor;
}

char *file_read(const char *path, size_t *size, struct problem *problem) {
    size_t expected = 0;
    const int descriptor = open_regular(path, &expected, problem);
    if (descriptor < 0)
        return NULL;
    char *text = memory_allocate(expected + 1, 1, path);
    size_t done = 0;
    while (done < expected) {
        const ssize_t got = read(descriptor, text + done, expected - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    close(descriptor);
    if (done < expected) {
        problem_set(problem, EXIT_DATA, "%s: only %zu of %zu bytes could be read", path, done,
                    expected);
        memory_free(text);
        return NULL;
    }
    *size = done;
    return text;
}

static bool write_whole(int descriptor, const char *text, size_t size) {
    size_t done = 0;
    while (done < size) {
        const ssize_t put = write(descriptor, text + done, size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return fsync(descriptor) == 0;
}

bool file_write_atomically(const char *path, const char *text, size_t size,
                           struct problem *problem) {
    char *temporary = memory_format("%s.tmp", path);
    const int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool is_good = descriptor >= 0 && write_whole(descriptor, text, size);
    int error = errno;
    if (descriptor >= 0 && close(descriptor) != 0 && is_good) {
        is_good = false;
        error = errno;
    }
    if (is_good && rename(temporary, path) != 0) {
        is_good = false;
        error = errno;
    }
    if (!is_good) {
        problem_set(problem, EXIT_IO, "%s: cannot be written: %s", path, strerror(error));
        if (descriptor >= 0)
            unlink(temporary);
    }
    memory_free(temporary);
    return is_good;
}

bool file_append(const char *path, const char *text, size_t size, struct problem *problem) {
    const int descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    const bool is_written = descriptor >= 0 && write_whole(descriptor, text, size);
    if (!is_written)
        problem_set(problem, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    return is_written;
}

/* The new name lasts once the directory is on the disk; not all file systems can wait for that. */
static void sync_directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL ? memory_copy_string(".")
                                    : memory_format("%.*s", (int)(slash - path + 1), path);
    const int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
    memory_free(directory);
}

bool file_rename(const char *from, const char *to, struct problem *problem) {
    if (rename(from, to) != 0)
        return problem_set(problem, EXIT_IO, "%s: cannot be renamed to %s: %s", from, to,
                           strerror(errno));
    sync_directory_of(to);
    return true;
}

bool file_make_directory(const char *path, struct problem *problem) {
    char *partial = memory_copy_string(path);
    for (char *at = partial + 1; *at != '\0'; ++at) {
        if (*at != '/')
            continue;
        *at = '\0';
        mkdir(partial, 0777); /* the last call below tells whether it worked */
        *at = '/';
    }
    memory_free(partial);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return problem_set(problem, EXIT_IO, "%s: the directory cannot be made: %s", path,
                           strerror(errno));
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return problem_set(problem, EXIT_IO, "%s: exists and is not a directory", path);
    if (access(path, W_OK | X_OK) != 0)
        return problem_set(problem, EXIT_IO, "%s: the directory cannot be written: %s", path,
                           strerror(errno));
    return true;
}

bool file_remove(const char *directory, const char *name, struct problem *problem) {
    char *path = file_join(directory, name);
    const bool is_gone = unlink(path) == 0 || errno == ENOENT;
    if (!is_gone)
        problem_set(problem, EXIT_IO, "%s: cannot be removed: %s", path, strerror(errno));
    memory_free(path);
    return is_gone;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

char *file_join(const char *directory, const char *name) {
    return memory_format("%s/%s", directory, name);
}

bool file_map_open(struct file_map *map, const char *path, struct problem *problem) {
    *map = (struct file_map){0};
    size_t size = 0;
    const int descriptor = open_regular(path, &size, problem);
    if (descriptor < 0)
        return false;
    if (size == 0) {
        close(descriptor);
        return problem_set(problem, EXIT_DATA, "%s: is empty", path);
    }
    void *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (bytes == MAP_FAILED)
        return problem_set(problem, EXIT_DATA, "%s: cannot be mapped: %s", path, strerror(errno));
    *map = (struct file_map){.bytes = bytes, .size = size};
    return true;
}

void file_map_release(const struct file_map *map) {
    madvise((void *)(size_t)map->bytes, map->size, MADV_DONTNEED);
}

void file_map_close(struct file_map *map) {
    if (map->bytes != NULL)
        munmap((void *)(size_t)map->bytes, map->size);
    *map = (struct file_map){0};
}
