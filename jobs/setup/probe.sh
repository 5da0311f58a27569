#!/bin/sh
# Prints the names of what the build needs and does not find, one a line; nothing if all is there.
# A library is there if a small program compiles, links and runs with the settings that `make probe`
# passes in the environment. Arguments name what is wanted besides: h5dump, venv, valgrind, slurm, qsub, ip, fuzzer, clang-tidy, cppcheck, gcovr.
# What the compiler said about NAME is left in build/probe/NAME.log.

folder=build/probe
mkdir -p "$folder" || exit 1

compiles() { # NAME COMPILER FLAGS...: the program on standard input compiles and runs
    name=$1
    shift
    cat > "$folder/$name.c"
    "$@" -D_GNU_SOURCE -o "$folder/$name" "$folder/$name.c" $tail > "$folder/$name.log" 2>&1 &&
        "$folder/$name" >> "$folder/$name.log" 2>&1
}

# All libraries at once, as the program is linked. sgemm_ has to come from BLIS: ScaLAPACK and
# LAPACK would bring in another BLAS where the linker names that one first.
all_libraries() {
    tail="$LDLIBS $CMOCKA_LIBS" compiles all $CC $CPPFLAGS $CMOCKA_CFLAGS -fopenmp << 'END'
#include <mpi.h>
#include <blis.h>
#include <cjson/cJSON.h>
#include <hdf5.h>
#include <utf8proc.h>
#include <zlib.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
int numroc_(const int *, const int *, const int *, const int *, const int *);
void spotrf_(const char *, const int *, float *, const int *, int *);
void fortran_sgemm(void) __asm__("sgemm_"); /* BLIS may declare it by its own types */
static const char *library(void *symbol) {
    Dl_info place;
    return symbol != NULL && dladdr(symbol, &place) != 0 ? place.dli_fname : "?";
}
int main(int argc, char **argv) {
    unsigned major, minor, release;
    int length;
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    if (argc > 9) /* linked, not called */
        return print_message("%p %p", (void *)numroc_, (void *)spotrf_), 0;
    MPI_Get_library_version(version, &length);
    H5get_libversion(&major, &minor, &release);
    cJSON_Delete(cJSON_Parse("{}"));
    utf8proc_version();
    zlibVersion();
    printf("BLIS %s\n", bli_info_get_version_str());
    const char *blis = library(dlsym(RTLD_DEFAULT, "bli_info_get_version_str"));
    const char *blas = library((void *)fortran_sgemm);
    if (strcmp(blis, blas) == 0)
        return 0;
    printf("BLIS is %s, but sgemm_ comes from %s: name BLIS first\n", blis, blas);
    return 3;
}
END
}

# One library: NAME HEADER FUNCTION FLAGS LIBS. An empty header: the function is Fortran's.
library() {
    tail=$5 compiles "$1" $compiler $4 << END || echo "$1"
${2:+#include <$2>}
$([ -n "$2" ] || echo "int $3();")
int main(int argc, char **argv) {
    return argc > 9 && argv[0] == (char *)$3;
}
END
}

each_library() {
    if tail=$MPI_LIBS compiles mpi $CC $MPI_CFLAGS << 'END'
#include <mpi.h>
int main(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    return MPI_Get_library_version(version, &length) != MPI_SUCCESS;
}
END
    then
        compiler=$CC
    else
        echo mpi
        compiler=cc
    fi
    library hdf5 hdf5.h H5get_libversion "$MPI_CFLAGS $HDF5_CFLAGS" "$HDF5_LIBS $MPI_LIBS"
    library cjson cjson/cJSON.h cJSON_Parse "$CJSON_CFLAGS" "$CJSON_LIBS"
    library utf8proc utf8proc.h utf8proc_version "$UTF8_CFLAGS" "$UTF8_LIBS"
    library zlib zlib.h zlibVersion "$ZLIB_CFLAGS" "$ZLIB_LIBS"
    library blis blis.h bli_info_get_version_str "$BLIS_CFLAGS -fopenmp" "$BLIS_LIBS -lm"
    library scalapack "" numroc_ "" "$SCALAPACK_LIBS $MPI_LIBS"
    library lapack "" spotrf_ "" "$SCALAPACK_LIBS $MPI_LIBS"
    printf '#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n' > "$folder/cm.h"
    library cmocka cmocka.h print_message "-include $folder/cm.h $CMOCKA_CFLAGS" "$CMOCKA_LIBS"
}

# The same settings found everything before: running the program again is enough.
settings="$CC $CPPFLAGS $LDLIBS $CMOCKA_CFLAGS $CMOCKA_LIBS"
if ! { [ "$settings" = "$(cat $folder/passed 2> /dev/null)" ] && $folder/all > /dev/null 2>&1; }; then
    if all_libraries; then
        echo "$settings" > $folder/passed
    elif [ $? -eq 3 ]; then
        echo blas
    else
        missing=$(each_library)
        echo "${missing:-all}"
    fi
fi
command -v "${MPIRUN%% *}" > /dev/null || echo mpirun
has_python() { "$PYTHON" -c "$1" 2> /dev/null; }
has_python 'import sys; sys.exit(sys.version_info < (3, 9))' || echo python
[ -e "$MODEL/model.safetensors" ] || has_python 'import pip' || echo pip
has_programs() {
    for program; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" > /dev/null || return 1
    done
}
for need; do
    case $need in
    h5dump) command -v h5dump > /dev/null || echo h5dump ;;
    slurm) has_programs munged slurmctld slurmd sbatch srun || echo slurm ;;
    fuzzer)
        tail= compiles fuzzer clang -fopenmp -fsanitize=fuzzer,address << 'END' || echo fuzzer
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    _Exit(0);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return data == NULL || size == 0;
}
END
        ;;
    qsub | ip | valgrind | clang-tidy | cppcheck | gcovr) has_programs $need || echo $need ;;
    venv) has_python 'import ensurepip, venv' || echo venv ;;
    esac
done
