/* An HDF5 file driver whose flushes are atomic. Between two flushes the file on disk stays the one
 * of the last flush:
 *
 *   1. Raw data and new metadata blocks are written at once: nothing in the file on disk refers to
 * them yet.
 *   2. Metadata blocks that the last flush left on disk are not overwritten; the new bytes wait in
 * the image of all metadata (io/h5image.h).
 *   3. At the flush these are written in an order that keeps every reference good: the superblock
 * (the end of the file), heaps, nodes of the chunk index from the root down, and object headers
 * (the extents of datasets).
 *
 * Each block is one pwrite within one page of memory, because SIGKILL ends a write that spans pages
 * between two of them. A process killed between two blocks leaves some datasets longer than others,
 * and each of them readable. Metadata is read from the image alone: of an earlier file, from the
 * one that h5driver_save left beside it. A failed write stops all writing; HDF5 is told that all is
 * well, see h5driver.h. */
#include "io/h5driver.h"

#include "base/memory.h"
#include "io/h5image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#define DRIVER_VERSION .version = H5FD_CLASS_VERSION, .value = 600,
#else
#define DRIVER_VERSION
#endif

enum { ERROR_TEXT_BYTES = 256, PAGE_BYTES = 4096 };

struct h5driver {
    H5FD_t base; /* first: HDF5 knows this part */
    int descriptor;
    haddr_t end_of_allocation, end_of_file;
    bool must_empty; /* an old file of that name is still whole */
    char error[ERROR_TEXT_BYTES];
    struct h5image image;
    char *image_path;
    bool must_compare;         /* an opened file, not yet locked, may differ from its image */
    bool is_restoring;         /* up to its first flush */
    bool is_handed_out;        /* HDF5 has opened the file; its own flushes until then are none */
    haddr_t end_of_old_blocks; /* what an opened file had: all of it counts as flushed */
};

static struct h5driver *driver_from(H5FD_t *base) {
    return (struct h5driver *)base;
}

static void record_error(struct h5driver *driver, const char *what, haddr_t address) {
    if (driver->error[0] == '\0')
        snprintf(driver->error, sizeof driver->error, "%s at byte %llu: %s", what,
                 (unsigned long long)address, strerror(errno));
}

static bool is_failed(const struct h5driver *driver) {
    return driver->error[0] != '\0';
}

static herr_t push_error(hid_t minor, const char *what) {
    H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_VFL, minor, "%s: %s", what,
             strerror(errno));
    return -1;
}

/* Every byte that reaches the disk passes here. */
static void write_now(struct h5driver *driver, haddr_t address, size_t size, const void *bytes) {
    if (is_failed(driver))
        return;
    if (driver->must_empty) {
        unlink(driver->image_path);
        if (ftruncate(driver->descriptor, 0) != 0) {
            record_error(driver, "emptying the old file", 0);
            return;
        }
    }
    driver->must_empty = false;
    size_t done = 0;
    while (done < size) {
        const ssize_t put = pwrite(driver->descriptor, (const char *)bytes + done, size - done,
                                   (off_t)(address + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            record_error(driver, "writing", address);
            return;
        }
        done += (size_t)put;
    }
    if (address + size > driver->end_of_file)
        driver->end_of_file = address + size;
}

/* It never becomes shorter: an image that was kept may count on what is there. */
static void extend_file(struct h5driver *driver) {
    if (is_failed(driver) || driver->end_of_file >= driver->end_of_allocation)
        return;
    if (ftruncate(driver->descriptor, (off_t)driver->end_of_allocation) != 0)
        record_error(driver, "setting the end of the file", driver->end_of_allocation);
    else
        driver->end_of_file = driver->end_of_allocation;
}

static uint32_t place_in_flush(H5FD_mem_t type, size_t size, const unsigned char *bytes) {
    enum { SUPERBLOCK, HEAP, ROOT, OTHER = ROOT + 256 };
    if (type == H5FD_MEM_SUPER)
        return SUPERBLOCK;
    if (type == H5FD_MEM_LHEAP || type == H5FD_MEM_GHEAP)
        return HEAP;
    if (size > 5 && memcmp(bytes, "TREE", 4) == 0)
        return ROOT + 255u - bytes[5]; /* the node's level above the leaves */
    return OTHER;
}

static int by_place(const void *left, const void *right) {
    const struct h5block *a = *(struct h5block *const *)left, *b = *(struct h5block *const *)right;
    return a->place != b->place ? (a->place > b->place) - (a->place < b->place)
                                : (a->address > b->address) - (a->address < b->address);
}

/* The blocks that wait, in the order of step 3; free with memory_free. */
static struct h5block **sorted_waiting(const struct h5driver *driver, size_t *count) {
    const struct h5image *image = &driver->image;
    struct h5block **blocks = memory_allocate(image->count, sizeof *blocks, "HDF5 metadata");
    *count = 0;
    for (size_t i = 0; i < image->count; ++i)
        if (image->blocks[i].is_waiting)
            blocks[(*count)++] = &image->blocks[i];
    qsort(blocks, *count, sizeof *blocks, by_place);
    return blocks;
}

/* Before an opened file is changed its image is as it will be: an image has no more than its file.
 */
static void save_first(struct h5driver *driver) {
    struct problem problem = {0};
    if (!h5image_write(&driver->image, driver->end_of_allocation, driver->image_path, &problem))
        record_error(driver, "keeping the metadata", 0);
}

static void write_block(struct h5driver *driver, const struct h5block *block) {
    write_now(driver, block->address, block->size, block->bytes);
}

/* What is taken back, when an opened file is cut, was added in the order of step 3. The first flush
 * of an opened file therefore has to have the cut in it: HDF5 flushes within H5Fopen already, when
 * the disk may still hold what a killed process had half taken back. */
static void write_waiting(struct h5driver *driver) {
    extend_file(driver);
    if (driver->is_restoring)
        save_first(driver);
    if (is_failed(driver))
        return;
    size_t count;
    struct h5block **blocks = sorted_waiting(driver, &count);
    for (size_t i = 0; i < count; ++i)
        write_block(driver, blocks[driver->is_restoring ? count - 1 - i : i]);
    memory_free(blocks);
    if (is_failed(driver))
        return;
    driver->is_restoring = false;
    for (size_t i = 0; i < driver->image.count; ++i) {
        driver->image.blocks[i].is_waiting = false;
        driver->image.blocks[i].is_flushed = true;
    }
}

/* Reads up to `size` bytes; what is behind the end of the file is 0. */
static bool read_disk(const struct h5driver *driver, haddr_t address, size_t size, void *bytes) {
    size_t done = 0;
    while (done < size) {
        const ssize_t got =
            pread(driver->descriptor, (char *)bytes + done, size - done, (off_t)(address + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    memset((char *)bytes + done, 0, size - done);
    return true;
}

/* Blocks on the disk that differ from the image are written at the first flush. */
static void compare_with_disk(struct h5driver *driver) {
    driver->must_compare = false;
    driver->is_restoring = true;
    for (size_t i = 0; i < driver->image.count; ++i) {
        struct h5block *block = &driver->image.blocks[i];
        unsigned char *found = memory_allocate(block->size, 1, "HDF5 metadata");
        block->is_waiting = !read_disk(driver, block->address, block->size, found) ||
                            memcmp(found, block->bytes, block->size) != 0;
        memory_free(found);
    }
}

/* ---- what HDF5 calls ---- */

/* An opened file's image; false, and HDF5 is told why, if there is none that fits. */
static bool read_image(struct h5driver *driver) {
    struct problem problem = {0};
    uint64_t end = 0;
    if (h5image_read(&driver->image, driver->image_path, &end, &problem) &&
        driver->end_of_file < end)
        problem_set(&problem, EXIT_DATA, "it has %llu bytes, its metadata speak of %llu",
                    (unsigned long long)driver->end_of_file, (unsigned long long)end);
    if (problem.exit_code == 0)
        return true;
    H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_VFL, H5E_CANTOPENFILE,
             "%s", problem.text);
    return false;
}

static void destroy(struct h5driver *driver) {
    close(driver->descriptor);
    h5image_free(&driver->image);
    memory_free(driver->image_path);
    memory_free(driver);
}

static H5FD_t *driver_open(const char *path, unsigned flags, hid_t access, haddr_t largest) {
    (void)access;
    (void)largest;
    int how = O_CLOEXEC | (flags & H5F_ACC_RDWR ? O_RDWR : O_RDONLY);
    how |= (flags & H5F_ACC_CREAT ? O_CREAT : 0) | (flags & H5F_ACC_EXCL ? O_EXCL : 0);
    const int descriptor = open(path, how, 0666);
    if (descriptor < 0) {
        push_error(H5E_CANTOPENFILE, "open");
        return NULL;
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        errno = EINVAL;
        push_error(H5E_CANTOPENFILE, "not a regular file");
        close(descriptor);
        return NULL;
    }
    if (status.st_size == 0 && (flags & (H5F_ACC_TRUNC | H5F_ACC_CREAT)) == 0) {
        errno = ENODATA; /* HDF5 would make it a new file */
        push_error(H5E_CANTOPENFILE, "an empty file");
        close(descriptor);
        return NULL;
    }
    struct h5driver *driver = memory_allocate(1, sizeof *driver, "the HDF5 driver");
    driver->descriptor = descriptor;
    /* An old file is emptied at the first write, after the lock: another job may be writing it. */
    driver->must_empty = (flags & H5F_ACC_TRUNC) != 0;
    driver->end_of_file = driver->must_empty ? 0 : (haddr_t)status.st_size;
    driver->end_of_old_blocks = driver->end_of_file;
    driver->image_path = memory_format("%s" H5DRIVER_IMAGE, path);
    driver->must_compare = (flags & (H5F_ACC_TRUNC | H5F_ACC_CREAT)) == 0;
    if (driver->must_compare && !read_image(driver)) {
        destroy(driver);
        return NULL;
    }
    return &driver->base;
}

static herr_t driver_close(H5FD_t *base) {
    struct h5driver *driver = driver_from(base);
    bool is_waiting = false;
    for (size_t i = 0; i < driver->image.count; ++i)
        is_waiting = is_waiting || driver->image.blocks[i].is_waiting;
    if (is_waiting)
        write_waiting(driver);
    destroy(driver);
    return 0;
}

static herr_t driver_query(const H5FD_t *base, unsigned long *flags) {
    (void)base;
    *flags = H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

/* A metadata block that would cross the end of a page begins at the next one. */
static haddr_t driver_allocate(H5FD_t *base, H5FD_mem_t type, hid_t transfer, hsize_t size) {
    (void)transfer;
    struct h5driver *driver = driver_from(base);
    haddr_t address = driver->end_of_allocation;
    const hsize_t used = address % PAGE_BYTES;
    if (type != H5FD_MEM_DRAW && used + size > PAGE_BYTES)
        address += PAGE_BYTES - used;
    driver->end_of_allocation = address + size;
    return address;
}

static haddr_t driver_get_eoa(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return ((const struct h5driver *)base)->end_of_allocation;
}

static herr_t driver_set_eoa(H5FD_t *base, H5FD_mem_t type, haddr_t address) {
    (void)type;
    driver_from(base)->end_of_allocation = address;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return ((const struct h5driver *)base)->end_of_file;
}

static herr_t driver_get_handle(H5FD_t *base, hid_t access, void **handle) {
    (void)access;
    *handle = base;
    return 0;
}

static herr_t driver_read(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t size, void *bytes) {
    (void)transfer;
    struct h5driver *driver = driver_from(base);
    if (driver->must_compare)
        compare_with_disk(driver);
    if (type != H5FD_MEM_DRAW)
        h5image_get(&driver->image, address, size, bytes);
    else if (!read_disk(driver, address, size, bytes))
        return push_error(H5E_READERROR, "read");
    return 0;
}

static herr_t driver_write(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                           size_t size, const void *bytes) {
    (void)transfer;
    struct h5driver *driver = driver_from(base);
    if (type == H5FD_MEM_DRAW) {
        write_now(driver, address, size, bytes);
        return 0;
    }
    struct h5block *block = h5image_put(&driver->image, address, size, bytes);
    block->place = place_in_flush(type, size, bytes);
    block->is_waiting = block->is_flushed || address < driver->end_of_old_blocks;
    if (!block->is_waiting)
        write_block(driver, block);
    return 0;
}

static herr_t driver_flush(H5FD_t *base, hid_t transfer, hbool_t is_closing) {
    (void)transfer;
    (void)is_closing;
    if (driver_from(base)->is_handed_out)
        write_waiting(driver_from(base));
    return 0;
}

static herr_t driver_lock(H5FD_t *base, hbool_t is_exclusive) {
    if (flock(driver_from(base)->descriptor, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0)
        return push_error(H5E_CANTLOCKFILE, "unable to lock file");
    return 0;
}

static herr_t driver_unlock(H5FD_t *base) {
    flock(driver_from(base)->descriptor, LOCK_UN);
    return 0;
}

static const H5FD_class_t driver_class = {
    DRIVER_VERSION.name = "autolora",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .alloc = driver_allocate,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .get_handle = driver_get_handle,
    .read = driver_read,
    .write = driver_write,
    .flush = driver_flush,
    .lock = driver_lock,
    .unlock = driver_unlock,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

hid_t h5driver_make_access(void) {
    const hid_t driver = H5FDregister(&driver_class);
    if (driver < 0)
        return -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_driver(access, driver, NULL) < 0) {
        H5Pclose(access);
        access = -1;
    }
    H5FDunregister(driver); /* the list holds it */
    return access;
}

struct h5driver *h5driver_of(hid_t file) {
    void *handle = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0)
        return NULL;
    ((struct h5driver *)handle)->is_handed_out = true;
    return handle;
}

hid_t h5driver_hold(const struct h5driver *driver) {
    H5Iinc_ref(driver->base.driver_id);
    return driver->base.driver_id;
}

const char *h5driver_error(const struct h5driver *driver) {
    return is_failed(driver) ? driver->error : NULL;
}

void h5driver_sync(struct h5driver *driver) {
    if (!is_failed(driver) && fsync(driver->descriptor) != 0)
        record_error(driver, "fsync", driver->end_of_file);
}

bool h5driver_save(const struct h5driver *driver, struct problem *problem) {
    return h5image_write(&driver->image, driver->end_of_allocation, driver->image_path, problem);
}
