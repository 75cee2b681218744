#!/bin/sh
# Builds one wheel of llama-cpp-python for a class of boards: on such a board, or in a container of
# its architecture. The wheel serves every Python 3; what differs is the code for the processor.
set -eu

VERSION=${LLAMA_CPP_PYTHON:-0.3.36}
CLASSES='pi4 pi5 orin arm64 x86_64'

usage() {
    cat <<'USAGE'
usage: build.sh CLASS [options]

  pi4      Raspberry Pi 4: armv8-a; with dotprod the program would end there
  pi5      Raspberry Pi 5: armv8.2-a with dotprod and fp16
  orin     Jetson Orin: as pi5, and CUDA for its GPU
  arm64    any 64-bit Arm, as slow as a Pi 4's
  x86_64   any x86-64 with AVX2

  --output DIR     where the wheel goes, below it DIR/CLASS (by default ./wheelhouse)
  --python PYTHON  whose pip builds (by default python3)
  --dry-run        say what would be run, and run nothing
  -h, --help       show this

LLAMA_CPP_PYTHON=0.3.36 in the environment chooses the version.
Then: devices/install.sh agent --offline DIR/CLASS, with goodspeed's own wheel beside it, or
pip install --find-links DIR/CLASS 'goodspeed[agent]'.
USAGE
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

parse() {
    CLASS='' OUTPUT=wheelhouse PYTHON=python3 DRY_RUN=no
    while [ $# -gt 0 ]; do
        case $1 in
            --output | --python)
                case ${2:-} in '' | -*) fail "$1 needs a value" ;; esac
                case $1 in
                    --output) OUTPUT=$2 ;;
                    --python) PYTHON=$2 ;;
                esac
                shift
                ;;
            --dry-run) DRY_RUN=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            -*) fail "unknown option $1; --help lists them" ;;
            *)
                [ -z "$CLASS" ] || fail "one class at a time"
                CLASS=$1
                ;;
        esac
        shift
    done
    [ -n "$CLASS" ] || fail "which class? one of: $CLASSES"
}

# Without GGML_NATIVE=OFF the compiler takes what this very machine can, and with SOURCE_DATE_EPOCH
# in the environment it silently does not. The vision part is never used.
flags() {
    common='-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF'
    armv82='-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16'
    case $CLASS in
        pi4 | arm64) say "$common -DGGML_CPU_ARM_ARCH=armv8-a" ;;
        pi5) say "$common $armv82" ;;
        # Memory of its own is what the GPU of an Orin does not have.
        orin) say "$common $armv82 -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=87" \
            "-DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_FORCE_MMQ=ON" ;;
        x86_64) say "$common -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \
            "-DGGML_BMI2=ON" ;;
        *) fail "unknown class $CLASS; one of: $CLASSES" ;;
    esac
}

architecture() {
    case $CLASS in
        x86_64) say x86_64 ;;
        *) say aarch64 ;;
    esac
}

# As containers name it.
platform() {
    case $CLASS in
        x86_64) say amd64 ;;
        *) say arm64 ;;
    esac
}

# A compiler takes up to 1.5 GB: more of them at once end a small board by the kernel's hand.
jobs_at_once() {
    cores=$(getconf _NPROCESSORS_ONLN)
    megabytes=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
    megabytes=$((${megabytes:-1500000} / 1000))
    jobs=$((megabytes / 1500))
    [ "$jobs" -ge 1 ] || jobs=1
    [ "$jobs" -le "$cores" ] || jobs=$cores
    say "$jobs"
}

check_machine() {
    wanted=$(architecture)
    machine=$(uname -m)
    [ "$machine" = "$wanted" ] ||
        fail "$CLASS needs a machine of $wanted, this is $machine: build on the board, or in a" \
            "container (podman run --platform linux/$(platform))"
    command -v "$PYTHON" > /dev/null || fail "there is no $PYTHON; --python names another"
    if [ "$CLASS" = orin ]; then
        CUDACXX=${CUDACXX:-/usr/local/cuda/bin/nvcc}
        [ -x "$CUDACXX" ] || fail "there is no compiler for the GPU at $CUDACXX: install JetPack's" \
            "CUDA, or set CUDACXX"
        export CUDACXX
    fi
}

build() {
    CMAKE_ARGS=$(flags)
    CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(jobs_at_once)}
    unset SOURCE_DATE_EPOCH
    # pip's cache knows versions, not flags: without --no-cache-dir it gives another class's wheel.
    set -- "$PYTHON" -m pip wheel --no-cache-dir --no-deps --no-binary llama-cpp-python \
        --wheel-dir "$OUTPUT/$CLASS" "llama-cpp-python==$VERSION"
    if [ "$DRY_RUN" = yes ]; then
        say "would run: CMAKE_ARGS='$CMAKE_ARGS'" \
            "CMAKE_BUILD_PARALLEL_LEVEL=$CMAKE_BUILD_PARALLEL_LEVEL $*"
        return
    fi
    check_machine
    export CMAKE_ARGS CMAKE_BUILD_PARALLEL_LEVEL
    "$@"
    say "the wheel of $CLASS is in $OUTPUT/$CLASS"
}

parse "$@"
build
