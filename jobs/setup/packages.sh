#!/bin/sh
# Installs what the build needs and does not find (Debian's packages, as root or with passwordless
# sudo); else says what is missing and how a cluster's own libraries are named. What is missing is
# found by compiling, not by asking the package manager, so that modules and Spack count too.

list_missing() {
    if ! command -v gcc > /dev/null && ! command -v "${CC:-mpicc}" > /dev/null; then
        echo compiler
    fi
    $MAKE --no-print-directory -s probe NEEDS="$NEEDS"
}

packages_for() { # names on standard input, packages on standard output
    while read -r name; do
        case $name in
        compiler) echo gcc libc6-dev ;;
        mpi) echo libopenmpi-dev openmpi-bin ;;
        mpirun) echo openmpi-bin ;;
        hdf5) echo libhdf5-openmpi-dev ;;
        cjson) echo libcjson-dev ;;
        utf8proc) echo libutf8proc-dev ;;
        blis) echo libblis-openmp-dev ;;
        scalapack) echo libscalapack-openmpi-dev ;;
        lapack) echo liblapack-dev ;;
        cmocka) echo libcmocka-dev ;;
        python) echo python3 ;;
        pip) echo python3-pip ;;
        venv) echo python3-venv ;;
        esac
    done | tr ' ' '\n' | sort -u | tr '\n' ' '
}

explain() { # MISSING PACKAGES
    cat << END
autolora: missing: $(echo $1)

On Debian 12 an administrator installs it with

    apt-get install $2pkg-config

On a cluster load the modules (or spack load) of Open MPI, HDF5, BLIS, ScaLAPACK, LAPACK, cJSON,
utf8proc and cmocka, and say where they are, once, with

    make configure CC=mpicc BLIS_INCLUDE=DIR BLIS_LIBDIR=DIR HDF5_CFLAGS=-IDIR HDF5_LIBS="-LDIR -lhdf5" \\
        SCALAPACK_LIBS="-LDIR -lscalapack -llapack" CJSON_CFLAGS=-IDIR CJSON_LIBS="-LDIR -lcjson" \\
        UTF8_CFLAGS=-IDIR UTF8_LIBS="-LDIR -lutf8proc" CMOCKA_CFLAGS=-IDIR CMOCKA_LIBS="-LDIR -lcmocka"

What the compiler said is in build/probe/*.log; make info prints the present values.
END
}

install_packages() { # PACKAGES
    echo "installing: $1"
    mkdir -p build/probe
    install="$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
    [ -n "$is_updated" ] || $install update > /dev/null ||
        echo "autolora: apt-get update failed, trying with the old package lists" >&2
    is_updated=yes
    # Always with pkg-config, which tells the Makefile where the libraries are.
    $install install -y --no-install-recommends $1 pkg-config ca-certificates > build/probe/apt.log 2>&1 || {
        echo "autolora: apt-get install failed:" >&2
        tail -20 build/probe/apt.log >&2
        exit 1
    }
}

root=
[ "$(id -u)" = 0 ] || root="sudo -n"
is_updated=
before=
while missing=$(list_missing) && [ -n "$missing" ]; do
    if [ "$missing" = link ]; then
        echo "autolora: every library is there, but the program does not link, or sgemm_ does not come from BLIS:" >&2
        cat build/probe/all.log >&2
        exit 1
    fi
    packages=$(echo "$missing" | packages_for)
    # What one round brings may show what else is missing (pip needs Python); the same again is a failure.
    if [ "$missing" = "$before" ] || ! command -v apt-get > /dev/null || ! $root true 2> /dev/null; then
        explain "$missing" "$packages" >&2
        exit 1
    fi
    install_packages "$packages"
    before=$missing
done
