/* An HDF5 file driver whose flushes are atomic. Between two flushes the file on disk stays the one
 * of the last flush:
 *
 *   1. Raw data and new metadata blocks are written at once: nothing in the file on disk refers to
 * them yet.
 *   2. Metadata blocks that the last flush left on disk are not overwritten; the new bytes wait in
 * memory.
 *   3. At the flush these are written in an order that keeps every reference good: the superblock
 * (the end of the file), heaps, nodes of the chunk index from the root down, and object headers
 * (the extents of datasets).
 *
 * Each block is one pwrite within one page of memory, because SIGKILL ends a write that spans pages
 * between two of them. A process killed between two blocks leaves some datasets longer than others,
 * and each of them readable. A failed write stops all writing; HDF5 is told that all is well, see
 * h5driver.h. */
#include "io/h5driver.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

enum { ERROR_TEXT_BYTES = 256, MANY_METADATA_BLOCKS = 64, PAGE_BYTES = 4096 };

/* A metadata block that waits for the flush. */
struct waiting_block {
    haddr_t address;
    size_t size;
    unsigned place; /* in the order of step 3 */
    unsigned char *bytes;
};

struct h5driver {
    H5FD_t base; /* first: HDF5 knows this part */
    int descriptor;
    haddr_t end_of_allocation, end_of_file;
    bool must_empty; /* an old file of that name is still whole */
    char error[ERROR_TEXT_BYTES];
    struct waiting_block *waiting;
    size_t num_waiting, waiting_capacity;
    haddr_t
        *blocks; /* addresses of metadata written so far, those on disk at the last flush first */
    size_t num_blocks, num_flushed_blocks, blocks_capacity;
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
    if (driver->must_empty && ftruncate(driver->descriptor, 0) != 0) {
        record_error(driver, "emptying the old file", 0);
        return;
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

static void resize_file(struct h5driver *driver) {
    if (is_failed(driver) || driver->end_of_file == driver->end_of_allocation)
        return;
    if (ftruncate(driver->descriptor, (off_t)driver->end_of_allocation) != 0)
        record_error(driver, "setting the end of the file", driver->end_of_allocation);
    else
        driver->end_of_file = driver->end_of_allocation;
}

static bool is_flushed_block(const struct h5driver *driver, haddr_t address) {
    if (address < driver->end_of_old_blocks)
        return true;
    for (size_t i = 0; i < driver->num_flushed_blocks; ++i)
        if (driver->blocks[i] == address)
            return true;
    return false;
}

static void remember_block(struct h5driver *driver, haddr_t address) {
    for (size_t i = driver->num_flushed_blocks; i < driver->num_blocks; ++i)
        if (driver->blocks[i] == address)
            return;
    if (driver->num_blocks == driver->blocks_capacity) {
        driver->blocks_capacity += driver->blocks_capacity + MANY_METADATA_BLOCKS;
        driver->blocks = memory_resize(driver->blocks, driver->blocks_capacity,
                                       sizeof *driver->blocks, "addresses of HDF5 metadata");
    }
    driver->blocks[driver->num_blocks++] = address;
}

static unsigned place_in_flush(H5FD_mem_t type, size_t size, const unsigned char *bytes) {
    enum { SUPERBLOCK, HEAP, ROOT, OTHER = ROOT + 256 };
    if (type == H5FD_MEM_SUPER)
        return SUPERBLOCK;
    if (type == H5FD_MEM_LHEAP || type == H5FD_MEM_GHEAP)
        return HEAP;
    if (size > 5 && memcmp(bytes, "TREE", 4) == 0)
        return ROOT + 255u - bytes[5]; /* the node's level above the leaves */
    return OTHER;
}

static void keep_waiting(struct h5driver *driver, H5FD_mem_t type, haddr_t address, size_t size,
                         const void *bytes) {
    struct waiting_block *block = NULL;
    for (size_t i = 0; i < driver->num_waiting && block == NULL; ++i)
        if (driver->waiting[i].address == address && driver->waiting[i].size == size)
            block = &driver->waiting[i];
    if (block == NULL) {
        if (driver->num_waiting == driver->waiting_capacity) {
            driver->waiting_capacity += driver->waiting_capacity + MANY_METADATA_BLOCKS;
            driver->waiting = memory_resize(driver->waiting, driver->waiting_capacity,
                                            sizeof *driver->waiting, "HDF5 metadata to write");
        }
        block = &driver->waiting[driver->num_waiting++];
        *block = (struct waiting_block){
            .address = address, .size = size, .bytes = memory_allocate(size, 1, "HDF5 metadata")};
    }
    block->place = place_in_flush(type, size, bytes);
    memcpy(block->bytes, bytes, size);
}

/* Insertion sort: stable, and the blocks come nearly sorted. */
static void sort_waiting(struct waiting_block *waiting, size_t count) {
    for (size_t i = 1; i < count; ++i) {
        const struct waiting_block block = waiting[i];
        size_t j = i;
        for (; j > 0 && waiting[j - 1].place > block.place; --j)
            waiting[j] = waiting[j - 1];
        waiting[j] = block;
    }
}

static void drop_waiting(struct h5driver *driver) {
    for (size_t i = 0; i < driver->num_waiting; ++i)
        memory_free(driver->waiting[i].bytes);
    driver->num_waiting = 0;
}

static void write_waiting(struct h5driver *driver) {
    if (driver->end_of_file < driver->end_of_allocation)
        resize_file(driver);
    if (is_failed(driver))
        return; /* the waiting blocks stay readable for HDF5 */
    sort_waiting(driver->waiting, driver->num_waiting);
    for (size_t i = 0; i < driver->num_waiting; ++i)
        write_now(driver, driver->waiting[i].address, driver->waiting[i].size,
                  driver->waiting[i].bytes);
    if (is_failed(driver))
        return;
    resize_file(driver);
    drop_waiting(driver);
    driver->num_flushed_blocks = driver->num_blocks;
}

/* ---- what HDF5 calls ---- */

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
    return &driver->base;
}

static herr_t driver_close(H5FD_t *base) {
    struct h5driver *driver = driver_from(base);
    if (driver->num_waiting > 0)
        write_waiting(driver);
    drop_waiting(driver);
    close(driver->descriptor);
    memory_free(driver->waiting);
    memory_free(driver->blocks);
    memory_free(driver);
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
    (void)type;
    (void)transfer;
    const struct h5driver *driver = driver_from(base);
    size_t done = 0;
    while (done < size) {
        const ssize_t got =
            pread(driver->descriptor, (char *)bytes + done, size - done, (off_t)(address + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return push_error(H5E_READERROR, "read");
        if (got == 0)
            break;
        done += (size_t)got;
    }
    memset((char *)bytes + done, 0, size - done);
    for (size_t i = 0; i < driver->num_waiting; ++i) {
        const struct waiting_block *block = &driver->waiting[i];
        const haddr_t from = block->address > address ? block->address : address;
        const haddr_t block_end = block->address + block->size, end = address + size;
        const haddr_t to = block_end < end ? block_end : end;
        if (from < to)
            memcpy((char *)bytes + (from - address), block->bytes + (from - block->address),
                   (size_t)(to - from));
    }
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
    if (is_failed(driver) || is_flushed_block(driver, address)) {
        keep_waiting(driver, type, address, size, bytes);
        return 0;
    }
    remember_block(driver, address);
    write_now(driver, address, size, bytes);
    if (is_failed(driver))
        keep_waiting(driver, type, address, size, bytes);
    return 0;
}

static herr_t driver_flush(H5FD_t *base, hid_t transfer, hbool_t is_closing) {
    (void)transfer;
    (void)is_closing;
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
    return H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 ? NULL : handle;
}

const char *h5driver_error(const struct h5driver *driver) {
    return is_failed(driver) ? driver->error : NULL;
}

void h5driver_sync(struct h5driver *driver) {
    if (!is_failed(driver) && fsync(driver->descriptor) != 0)
        record_error(driver, "fsync", driver->end_of_file);
}
