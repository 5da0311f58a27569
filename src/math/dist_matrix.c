/* ScaLAPACK has no C header; its routines take every argument by address. */
#include "math/dist_matrix.h"

#include "base/report.h"

#include <dlfcn.h>
#include <limits.h>

int numroc_(const int *global_size, const int *block_size, const int *process,
            const int *source_process, const int *num_processes);

static int to_int(size_t size) {
    FAULT_UNLESS(size <= INT_MAX, "%zu is too large for ScaLAPACK", size);
    return (int)size;
}

size_t dist_matrix_local_size(size_t global_size, size_t block_size, size_t process,
                              size_t num_processes) {
    FAULT_UNLESS(block_size > 0 && process < num_processes, "process %zu of %zu, blocks of %zu",
                 process, num_processes, block_size);
    const int global = to_int(global_size), block = to_int(block_size), at = to_int(process),
              source = 0, processes = to_int(num_processes);
    return (size_t)numroc_(&global, &block, &at, &source, &processes);
}

const char *dist_matrix_library(void) {
    Dl_info place;
    void *symbol = dlsym(RTLD_DEFAULT, "numroc_");
    if (symbol == NULL || dladdr(symbol, &place) == 0 || place.dli_fname == NULL)
        return "?";
    return place.dli_fname;
}
