/* The file: a magic number, the end of the HDF5 file, blocks as address, size, place and bytes, and
 * the CRC-32 of all that. Little-endian 64-bit numbers. */
#include "io/h5image.h"

#include "base/memory.h"
#include "io/file.h"

#include <string.h>
#include <zlib.h>

static const char MAGIC[8] = "alh5img1";
enum { NUMBER_BYTES = 8, BLOCK_HEADER_BYTES = 3 * NUMBER_BYTES };

void h5image_free(struct h5image *image) {
    for (size_t i = 0; i < image->count; ++i)
        memory_free(image->blocks[i].bytes);
    memory_free(image->blocks);
    *image = (struct h5image){0};
}

/* The first block that ends behind the address, or the count. */
static size_t first_behind(const struct h5image *image, uint64_t address) {
    size_t low = 0, high = image->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct h5block *block = &image->blocks[middle];
        if (block->address + block->size > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Makes room for one block in place of those from `first` to before `last`. */
static struct h5block *replace(struct h5image *image, size_t first, size_t last) {
    bool was_flushed = false;
    for (size_t i = first; i < last; ++i) {
        was_flushed = was_flushed || image->blocks[i].is_flushed;
        memory_free(image->blocks[i].bytes);
    }
    if (image->count == image->capacity) {
        image->capacity = 2 * image->capacity + 64;
        image->blocks = memory_resize(image->blocks, image->capacity, sizeof *image->blocks,
                                      "blocks of HDF5 metadata");
    }
    memmove(image->blocks + first + 1, image->blocks + last,
            (image->count - last) * sizeof *image->blocks);
    image->count = image->count - (last - first) + 1;
    image->blocks[first] = (struct h5block){.is_flushed = was_flushed};
    return &image->blocks[first];
}

struct h5block *h5image_put(struct h5image *image, uint64_t address, size_t size,
                            const void *bytes) {
    const size_t first = first_behind(image, address);
    size_t last = first;
    while (last < image->count && image->blocks[last].address < address + size)
        ++last;
    struct h5block *block = last == first + 1 ? &image->blocks[first] : NULL;
    if (block == NULL || block->address != address || block->size != size) {
        block = replace(image, first, last);
        block->address = address;
        block->size = size;
        block->bytes = memory_allocate(size, 1, "HDF5 metadata");
    }
    memcpy(block->bytes, bytes, size);
    return block;
}

void h5image_get(const struct h5image *image, uint64_t address, size_t size, void *bytes) {
    memset(bytes, 0, size);
    for (size_t i = first_behind(image, address);
         i < image->count && image->blocks[i].address < address + size; ++i) {
        const struct h5block *block = &image->blocks[i];
        const uint64_t from = block->address > address ? block->address : address;
        const uint64_t block_end = block->address + block->size, end = address + size;
        const uint64_t to = block_end < end ? block_end : end;
        memcpy((char *)bytes + (from - address), block->bytes + (from - block->address),
               (size_t)(to - from));
    }
}

/* ---- the file ---- */

static unsigned char *put_number(unsigned char *place, uint64_t number) {
    for (int i = 0; i < NUMBER_BYTES; ++i)
        *place++ = (unsigned char)(number >> 8 * i);
    return place;
}

static uint64_t get_number(const unsigned char *place) {
    uint64_t number = 0;
    for (int i = NUMBER_BYTES; i-- > 0;)
        number = number << 8 | place[i];
    return number;
}

static uint64_t checksum(const void *bytes, size_t size) {
    return crc32_z(0, bytes, size);
}

/* HDF5 does not say which blocks it has given up; those behind the end it has. */
static bool is_kept(const struct h5block *block, uint64_t end) {
    return block->address + block->size <= end;
}

bool h5image_write(const struct h5image *image, uint64_t end, const char *path,
                   struct problem *problem) {
    size_t size = sizeof MAGIC + 2 * NUMBER_BYTES;
    for (size_t i = 0; i < image->count; ++i)
        if (is_kept(&image->blocks[i], end))
            size += BLOCK_HEADER_BYTES + image->blocks[i].size;
    unsigned char *text = memory_allocate(size, 1, "HDF5 metadata"), *place = text;
    memcpy(place, MAGIC, sizeof MAGIC);
    place = put_number(place + sizeof MAGIC, end);
    for (size_t i = 0; i < image->count; ++i) {
        const struct h5block *block = &image->blocks[i];
        if (!is_kept(block, end))
            continue;
        place =
            put_number(put_number(put_number(place, block->address), block->size), block->place);
        memcpy(place, block->bytes, block->size);
        place += block->size;
    }
    put_number(place, checksum(text, (size_t)(place - text)));
    const bool is_good = file_write_atomically(path, (const char *)text, size, problem);
    memory_free(text);
    return is_good;
}

static bool is_whole(const unsigned char *bytes, size_t size) {
    return size >= sizeof MAGIC + 2 * NUMBER_BYTES && memcmp(bytes, MAGIC, sizeof MAGIC) == 0 &&
           get_number(bytes + size - NUMBER_BYTES) == checksum(bytes, size - NUMBER_BYTES);
}

/* The blocks, which rise by address, do not overlap and lie before the file's end. */
static bool take_blocks(struct h5image *image, const unsigned char *bytes, size_t size,
                        uint64_t end) {
    uint64_t behind = 0;
    while (size > 0) {
        if (size < BLOCK_HEADER_BYTES)
            return false;
        const uint64_t address = get_number(bytes), length = get_number(bytes + NUMBER_BYTES);
        const uint64_t place = get_number(bytes + 2 * NUMBER_BYTES);
        bytes += BLOCK_HEADER_BYTES;
        size -= BLOCK_HEADER_BYTES;
        if (length == 0 || length > size || address < behind || address > end ||
            length > end - address || place > UINT32_MAX)
            return false;
        struct h5block *block = h5image_put(image, address, (size_t)length, bytes);
        block->place = (uint32_t)place;
        block->is_flushed = true;
        behind = address + length;
        bytes += length;
        size -= (size_t)length;
    }
    return true;
}

bool h5image_read(struct h5image *image, const char *path, uint64_t *end, struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    if (text == NULL)
        return false;
    const unsigned char *bytes = (const unsigned char *)text;
    const size_t header = sizeof MAGIC + NUMBER_BYTES;
    bool is_good = is_whole(bytes, size);
    if (is_good) {
        *end = get_number(bytes + sizeof MAGIC);
        is_good = take_blocks(image, bytes + header, size - header - NUMBER_BYTES, *end);
    }
    memory_free(text);
    if (is_good)
        return true;
    h5image_free(image);
    return problem_set(problem, EXIT_DATA, "%s: is damaged: its checksum does not fit", path);
}
