/* What is kept of a trace's metadata, with the right magic number and checksum around the input.
 * What was read is written, and is the same. */
#include "fuzz.h"

#include "io/file.h"
#include "io/h5image.h"

#include <zlib.h>

enum { MAGIC_BYTES = 8, CHECKSUM_BYTES = 8 };

void fuzz_prepare(void) {
}

static void read_back(const struct h5image *image, uint64_t end, const char *bytes, size_t size) {
    struct problem problem = {0};
    const char *path = fuzz_path("again.meta");
    FAULT_UNLESS(h5image_write(image, end, path, &problem), "%s", problem.text);
    size_t again_size = 0;
    char *again = file_read(path, &again_size, &problem);
    FAULT_UNLESS(again_size == size && memcmp(again, bytes, size) == 0, "it is another one");
    memory_free(again);
}

void fuzz_one(const char *bytes, size_t size) {
    char *whole = memory_allocate(MAGIC_BYTES + size + CHECKSUM_BYTES, 1, "an image");
    memcpy(whole, "alh5img1", MAGIC_BYTES);
    memcpy(whole + MAGIC_BYTES, bytes, size);
    const uint64_t checksum = crc32_z(0, (const unsigned char *)whole, MAGIC_BYTES + size);
    for (int i = 0; i < CHECKSUM_BYTES; ++i)
        whole[MAGIC_BYTES + size + (size_t)i] = (char)(checksum >> 8 * i);
    const size_t whole_size = MAGIC_BYTES + size + CHECKSUM_BYTES;
    struct h5image image = {0};
    struct problem problem = {0};
    uint64_t end = 0;
    const bool is_good = h5image_read(
        &image, fuzz_put("image.meta", (struct part){whole, whole_size}), &end, &problem);
    fuzz_check(is_good, &problem);
    if (is_good) {
        char some[64];
        h5image_get(&image, end / 2, sizeof some, some);
        read_back(&image, end, whole, whole_size);
        h5image_put(&image, end / 3, sizeof some, some);
    }
    h5image_free(&image);
    memory_free(whole);
}
