/* autolora info: what this program was built with, and what it runs with here. Libraries are asked
 * for where they were loaded from, as the linker's wishes and the loader's choice may differ. */
#include "commands.h"

#include "base/memory.h"
#include "base/report.h"
#include "io/h5file.h"
#include "io/json.h"
#include "math/dist_matrix.h"
#include "math/gemm.h"

#include <ctype.h>
#include <dlfcn.h>
#include <link.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#ifndef AUTOLORA_VERSION
#define AUTOLORA_VERSION "unknown"
#endif
#ifndef AUTOLORA_FLAGS
#define AUTOLORA_FLAGS "unknown"
#endif

const char *cmd_info_version(void) {
    return AUTOLORA_VERSION;
}

static void print_line(const char *name, const char *value) {
    printf("%-14s %s\n", name, value);
}

/* A library by the path that it was loaded from, links resolved: the file's name then carries the
 * full version. */
static void print_library(const char *name, const char *version, const char *path) {
    char *resolved = realpath(path, NULL);
    printf("%-14s %s  %s\n", name, version, resolved != NULL ? resolved : path);
    free(resolved);
}

/* Path of the library that holds a function. */
static const char *library_of(const char *function) {
    Dl_info place;
    void *symbol = dlsym(RTLD_DEFAULT, function);
    if (symbol == NULL || dladdr(symbol, &place) == 0 || place.dli_fname == NULL)
        return "?";
    return place.dli_fname;
}

static void print_mpi(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, "\n")] = '\0';
    print_library("MPI", version, library_of("MPI_Get_library_version"));
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* ScaLAPACK and LAPACK bring another BLAS in where the linker names that one first. */
static void print_blas(void) {
    const char *blis = library_of("bli_info_get_version_str");
    const char *fortran = gemm_fortran_library();
    char *version = memory_format("%s, kernels %s", gemm_library_version(), gemm_kernel_name());
    print_library("BLIS", version, blis);
    memory_free(version);
    print_library("Fortran BLAS", "sgemm_ in", fortran);
    if (strcmp(fortran, blis) != 0)
        printf("WARNING: ScaLAPACK and LAPACK do not use this BLIS: link it before them\n");
}

static int print_algebra_library(struct dl_phdr_info *object, size_t size, void *unused) {
    static const char *const words[] = {"blas", "blis", "lapack", "mkl"};
    (void)size;
    (void)unused;
    char name[256];
    snprintf(name, sizeof name, "%s", file_name(object->dlpi_name));
    for (char *at = name; *at != '\0'; ++at)
        *at = (char)tolower((unsigned char)*at);
    for (size_t i = 0; i < sizeof words / sizeof *words; ++i)
        if (strstr(name, words[i]) != NULL) {
            print_library("  loaded", file_name(object->dlpi_name), object->dlpi_name);
            break;
        }
    return 0;
}

static void print_scalapack(void) {
    size_t sum = 0;
    for (size_t process = 0; process < 3; ++process)
        sum += dist_matrix_local_size(10, 2, process, 3);
    print_library("ScaLAPACK", sum == 10 ? "answers" : "ANSWERS WRONGLY", dist_matrix_library());
}

/* Cores that this process may use, which a batch system may have cut down; 0 if unknown. */
static int count_cores(void) {
    enum { MOST_CORES = 1 << 16 };
    cpu_set_t *set = CPU_ALLOC(MOST_CORES);
    const size_t bytes = CPU_ALLOC_SIZE(MOST_CORES);
    const bool is_known = set != NULL && sched_getaffinity(0, bytes, set) == 0;
    const int count = is_known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    return count;
}

static void print_processor(void) {
    char line[512] = "";
    const char *model = NULL;
    FILE *stream = fopen("/proc/cpuinfo", "r");
    while (stream != NULL && model == NULL && fgets(line, sizeof line, stream) != NULL)
        if (strncmp(line, "model name", strlen("model name")) == 0)
            model = strchr(line, ':');
    if (stream != NULL)
        fclose(stream);
    line[strcspn(line, "\n")] = '\0';
    print_line("processor", model != NULL ? model + strspn(model, ": ") : "unknown");
    char *threads =
        memory_format("%d OpenMP threads, %d of %ld cores may be used", omp_get_max_threads(),
                      count_cores(), sysconf(_SC_NPROCESSORS_ONLN));
    print_line("threads", threads);
    memory_free(threads);
}

void cmd_info(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    int mpi_rank;
    MPI_Comm_rank(world, &mpi_rank);
    if (argc > 1) {
        problem_set(problem, EXIT_USAGE, "%s takes no arguments, found %s", argv[0], argv[1]);
        return;
    }
    if (mpi_rank != 0)
        return;
    print_line("autolora", cmd_info_version());
    print_line("compiler", __VERSION__);
    print_line("flags", AUTOLORA_FLAGS);
    print_mpi();
    print_blas();
    print_scalapack();
    dl_iterate_phdr(print_algebra_library, NULL);
    print_library("HDF5", h5file_library_version(), library_of("H5get_libversion"));
    print_library("cJSON", json_library_version(), library_of("cJSON_Version"));
    print_library("utf8proc", utf8proc_version(), library_of("utf8proc_version"));
    print_processor();
}
