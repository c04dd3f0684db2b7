# Sourced by tools/quickstart and tools/test: makes sure that what they need is installed, and sets
# what Open MPI needs in containers, for root and on machines with few cores. On Debian and Ubuntu
# missing packages are installed with apt; elsewhere, or without the right to do so, they are named
# and the caller ends with exit code 3. With everything there it only looks, in well under 0.3 s.

# say TEXT...: progress, on stderr, since stdout is for results.
say() { printf '%s\n' "qzo: $*" >&2; }

# die CODE TEXT...
die() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}

# The CUDA toolkit's images put its stub libraries on LIBRARY_PATH. A program linked against a stub
# does not start where there is no driver, so these entries go; others stay.
drop_stub_folders() {
    local kept="" folder
    local IFS=:
    for folder in ${LIBRARY_PATH:-}; do
        [[ $folder == */stubs || $folder == */stubs/ ]] || kept+="${kept:+:}$folder"
    done
    if [[ -n $kept ]]; then export LIBRARY_PATH=$kept; else unset LIBRARY_PATH; fi
}

# Root is normal in containers, more ranks than cores on laptops; threads of a rank must not
# be bound to one core. Without the single-copy setting an unprivileged container prints errors of
# process_vm_readv. pml and btl spare each start the search for fabrics that one machine lacks.
set_mpi_environment() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_btl_vader_single_copy_mechanism=none
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader HWLOC_HIDE_ERRORS=2
    if (($1 > $(nproc))); then export OMPI_MCA_mpi_yield_when_idle=1; fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# needs PACKAGE TEST...: adds PACKAGE to `missing` unless the command TEST succeeds.
needs() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

list_missing_for_build() {
    needs cmake has cmake
    has ninja || needs make has make
    needs gcc has gcc
    needs libc6-dev test -e /usr/include/stdio.h
    needs pkg-config has pkg-config
    needs libopenmpi-dev has mpicc
    needs openmpi-bin has mpirun
    if has pkg-config; then
        needs libyaml-dev pkg-config --exists yaml-0.1
        needs libsqlite3-dev pkg-config --exists sqlite3
        needs libjansson-dev pkg-config --exists jansson
        needs libxxhash-dev pkg-config --exists libxxhash
    else
        missing+=(libyaml-dev libsqlite3-dev libjansson-dev libxxhash-dev)
    fi
}

# libFuzzer and the sanitizers of clang come in a package of their own.
has_fuzzer() {
    compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.fuzzer*.a" >/dev/null
}

list_missing_for_tests() {
    if has pkg-config; then
        needs libcmocka-dev pkg-config --exists cmocka
    else
        missing+=(libcmocka-dev)
    fi
    needs python3 has python3
    [[ -e .venv/requirements.txt ]] || needs python3-venv python3 -c 'import ensurepip, venv'
    needs git has git
    needs g++ has g++ # the emulated device is compiled as C++
    needs clang has clang
    if ! has clang || ! has_fuzzer; then missing+=(libclang-rt-dev); fi
    # The format check wants version 14, which Debian 12 has, and is skipped with another one.
    needs clang-format has clang-format
    # The browser for the test of the HTML report; Ubuntu has it as a snap only.
    if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
        needs chromium has chromium
        needs chromium-driver has chromedriver
    fi
    # Slurm's daemons for the tests labelled slurm, which only root can run.
    if ((EUID == 0)); then
        needs slurmctld test -x /usr/sbin/slurmctld
        needs slurmd test -x /usr/sbin/slurmd
        needs munge test -x /usr/sbin/munged
        needs slurm-client has srun
        # srun loads a PMIx whose name only the development package has.
        needs libpmix-dev pkg-config --exists pmix
    fi
}

# Drops names that this distribution does not have: older ones hold libclang-rt in clang itself.
keep_known_packages() {
    local package known=()
    for package in "$@"; do
        if [[ -n $(apt-cache --names-only search "^${package//+/\\+}\$") ]]; then
            known+=("$package")
        fi
    done
    printf '%s\n' "${known[@]}"
}

install_packages() {
    local as_root=() wanted
    has apt-get || die 3 "please install what these Debian packages hold: ${missing[*]}"
    if ((EUID != 0)); then
        if ! has sudo; then
            die 3 "neither root nor sudo; missing: apt-get install ${missing[*]}"
        fi
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq >&2 || die 3 "apt-get update failed; missing: ${missing[*]}"
    mapfile -t wanted < <(keep_known_packages "${missing[@]}")
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends -o Dpkg::Use-Pty=0 "${wanted[@]}" >&2 ||
        die 3 "apt-get could not install: ${wanted[*]}"
}

# setup build|tests: returns with everything there, or exits 3 and says what is missing.
setup() {
    local missing=()
    drop_stub_folders
    list_missing_for_build
    if [[ $1 == tests ]]; then list_missing_for_tests; fi
    if ((${#missing[@]} > 0)); then install_packages; fi
}

# setup_python: the packages of tools/requirements-datasets.txt, and of the file that it names,
# in .venv; again when they change. Only tests of the Python tools need it; where it cannot be
# made they are skipped.
setup_python() {
    local wanted
    wanted=$(cat tools/requirements-datasets.txt tools/requirements.txt)
    [[ $wanted == "$(cat .venv/requirements.txt 2>/dev/null)" ]] && return
    say "making .venv from tools/requirements-datasets.txt"
    if python3 -m venv --clear .venv >&2 &&
        .venv/bin/python -m pip install -q --disable-pip-version-check --retries 1 \
            -r tools/requirements-datasets.txt >&2; then
        printf '%s\n' "$wanted" >.venv/requirements.txt
    else
        say "no .venv: tests of the Python tools will be skipped"
    fi
}

# build FOLDER CMAKE_ARGUMENT...: configures and builds, in silence unless it fails.
build() {
    local folder=$1 generator=() log
    shift
    mkdir -p "$folder"
    log=$folder/build.log
    if [[ ! -e $folder/CMakeCache.txt ]] && has ninja; then generator=(-G Ninja); fi
    if ! { cmake -S . -B "$folder" "${generator[@]}" "$@" &&
        cmake --build "$folder" -j "${QZO_JOBS:-$(nproc)}"; } >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        say "the build in $folder failed; all of its output: $log"
        return 1
    fi
}
