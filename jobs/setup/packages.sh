#!/bin/sh
# make setup: installs what `make probe` misses, on Debian as root or with passwordless sudo; otherwise
# says what is missing, for an administrator and for a cluster with modules or Spack. What is there
# already, from wherever, is left alone.

table() { # what probe.sh may miss | Debian packages | meaning | settings that locate it
    cat << 'END'
mpi      | gcc libc6-dev libopenmpi-dev openmpi-bin | C compiler mpicc of an MPI library | CC MPI_CFLAGS MPI_LIBS
mpirun   | openmpi-bin | program that starts MPI jobs | MPIRUN MPIRUN_FLAGS
hdf5     | pkg-config libhdf5-openmpi-dev | HDF5 1.10 or later | HDF5_CFLAGS HDF5_LIBS
cjson    | pkg-config libcjson-dev | cJSON | CJSON_CFLAGS CJSON_LIBS
utf8proc | pkg-config libutf8proc-dev | utf8proc | UTF8_CFLAGS UTF8_LIBS
zlib     | pkg-config zlib1g-dev | zlib | ZLIB_CFLAGS ZLIB_LIBS
blis     | libblis-openmp-dev | BLIS with OpenMP | BLIS_INCLUDE BLIS_LIBDIR
scalapack| libscalapack-openmpi-dev | ScaLAPACK | SCALAPACK_LIBS
lapack   | liblapack-dev | LAPACK | SCALAPACK_LIBS
cmocka   | pkg-config libcmocka-dev | cmocka, for the unit tests | CMOCKA_CFLAGS CMOCKA_LIBS
python   | python3 | Python 3.9 or later | PYTHON
pip      | python3-pip | pip of that Python, to fetch the base model | PYTHON
h5dump   | hdf5-tools | HDF5's h5dump, for the tests | PATH
venv     | python3-venv | venv of that Python, for make check-peers | PYTHON
valgrind | valgrind | valgrind, for make bench-check, check-valgrind | PATH
slurm    | slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge | Slurm, for make check-scheduler | PATH
qsub     | slurm-wlm-torque | qsub of Slurm, for make check-scheduler | PATH
clang-tidy | clang-tidy | clang-tidy, for make lint | PATH
cppcheck | cppcheck | cppcheck, for make lint | PATH
gcovr    | gcovr | gcovr, for make coverage | PATH
fuzzer   | clang libclang-rt-dev libomp-dev llvm | clang with libFuzzer and OpenMP, for make fuzz | PATH
ip       | iproute2 | ip, for make check-scheduler | PATH
blas     | | BLIS as the BLAS of ScaLAPACK and LAPACK | BLIS_LIBS SCALAPACK_LIBS
all      | | libraries that work together; each alone does | all of these
END
}

column() { # COLUMN: of the missing lines
    table | while IFS='|' read -r name debian meaning settings; do
        case " $missing " in
        *" $(echo $name) "*)
            case $1 in
            packages) echo $debian ;;
            message) printf '  %-10s %-45s %s\n' $name "$(echo $meaning)" "$(echo $settings)" ;;
            esac ;;
        esac
    done
}

complain() {
    {
        echo "Missing here, and the settings that say where it is:"
        column message
        case " $missing " in
        *" mpi "*) echo "(Without an MPI compiler not all of the others can be tried.)" ;;
        *" blas "* | *" all "*) sed 's/^/  /' build/probe/all.log ;;
        esac
        if [ -n "$packages" ]; then
            echo "An administrator of a Debian 12 machine installs it with"
            echo "  apt-get install --no-install-recommends $packages"
        fi
        echo "On a cluster load the modules (or spack load) of Open MPI, HDF5, BLIS, ScaLAPACK, cJSON and the others, then say"
        echo "once where those are that pkg-config does not find, for example"
        echo "  make configure CC=mpicc HDF5_CFLAGS=-I/.../include HDF5_LIBS='-L/.../lib -lhdf5' BLIS_INCLUDE=/.../include/blis"
        echo "make info prints what is used, build/probe/*.log what the compiler said."
    } >&2
    exit 1
}

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@"
}

install_packages() {
    echo "installing $packages"
    log=build/probe/apt.log
    if apt-cache show $packages > /dev/null 2>&1 && apt install --no-install-recommends $packages > $log 2>&1; then
        return
    fi
    # Lists of packages that are not there yet, or old.
    apt update > $log 2>&1
    apt install --no-install-recommends $packages >> $log 2>&1 || {
        echo "apt-get failed:" >&2
        tail -n 20 $log >&2
        complain
    }
}

case ${MAKEFLAGS%% *} in
*n*) exit 0 ;; # make -n
esac
if [ "$(id -u)" -eq 0 ]; then as_root=; else as_root="sudo -n"; fi
# What one round brings can show what else is missing. A package is tried once: installed, it is no remedy.
while :; do
    missing=$($MAKE -s --no-print-directory probe) || exit 1
    missing=$(echo $missing)
    [ -n "$missing" ] || exit 0
    packages=$(for package in $(column packages | tr ' ' '\n' | sort -u); do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || echo "$package"
    done)
    packages=$(echo $packages)
    [ -n "$packages" ] && command -v apt-get > /dev/null && $as_root true 2> /dev/null || complain
    install_packages
done
