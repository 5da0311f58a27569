/* A checkpoint with changes. */
#include "patch_harness.h"

#include "io/checkpoint.h"

enum { ROWS = 2, COLUMNS = 3 };

static struct original original;

void fuzz_prepare(void) {
    static const float values[ROWS * COLUMNS] = {1, 2, 3, 4, 5, 6};
    struct problem problem = {0};
    struct checkpoint_writer *writer =
        checkpoint_writer_create(fuzz_path("checkpoint.h5"), &problem);
    checkpoint_write_text(writer, "state", "{\"phase\": \"search\"}", &problem);
    checkpoint_write_tensor(writer, "factors", "a", values, ROWS, COLUMNS, &problem);
    FAULT_UNLESS(checkpoint_writer_finish(&writer, &problem), "%s", problem.text);
    original = read_original(fuzz_path("checkpoint.h5"));
}

void fuzz_one(const char *bytes, size_t size) {
    const char *path = put_changed("checkpoint.h5", &original, (struct part){bytes, size});
    struct problem problem = {0};
    struct checkpoint *checkpoint = checkpoint_open(path, &problem);
    fuzz_check(checkpoint != NULL, &problem);
    if (checkpoint == NULL)
        return;
    float values[ROWS * COLUMNS];
    char *text = checkpoint_text(checkpoint, "state", &problem);
    fuzz_check(text != NULL && checkpoint_read_tensor(checkpoint, "factors", "a", ROWS, COLUMNS,
                                                      values, &problem),
               &problem);
    memory_free(text);
    checkpoint_close(&checkpoint);
}
