# ctest: timeout=300
# Noise, updates and the project's own functions give the same bits with every compiler that this
# machine has and at every level of optimization, and the bits that are written down here: a change
# of the noise changes what old journals replay to, and must raise QZO_NOISE_VERSION.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"

# normals, signs, updates, functions
COMMITTED="e6a079f78c369849 395f89e8d87ffb4c 3f313902e70bbd3f 34f904ed88933ae1"

build() { # build PROGRAM COMPILER FLAGS...
    local program=$1 compiler=$2 name
    shift 2
    local base=$QZO_SOURCE/src/base objects=()
    for name in noise noise_avx2 noise_avx512 cpu status visible; do
        local flags=()
        [[ $(uname -m) == x86_64 || $name != *_avx* ]] || continue
        [[ $name == *_avx2 ]] && flags=(-mavx2 -mfma)
        [[ $name == *_avx512 ]] && flags=(-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma
            -mprefer-vector-width=512)
        "$compiler" -std=c17 -D_GNU_SOURCE "$@" "${flags[@]}" -I "$QZO_SOURCE/src" \
            -c "$base/$name.c" -o "$program.$name.o" || fail "$compiler $* does not compile $name.c"
        objects+=("$program.$name.o")
    done
    "$compiler" -std=c17 -D_GNU_SOURCE "$@" -I "$QZO_SOURCE/src" "$QZO_SOURCE/tests/noise_bits.c" \
        "${objects[@]}" -lm -o "$program" || fail "$compiler $* does not link noise_bits.c"
}

grep -q "QZO_NOISE_VERSION 1u" "$QZO_SOURCE/src/base/philox.h" ||
    fail "QZO_NOISE_VERSION changed: write the new digests down"

tried=0
for compiler in gcc clang; do
    command -v "$compiler" >/dev/null || continue
    for level in -O0 -O2 -O3 "-O3 -march=native"; do
        build bits "$compiler" $level -ffp-contract=off -fno-math-errno
        ./bits >digests || fail "$compiler $level: noise_bits ended with $?"
        while read -r line; do
            [[ $line == "$COMMITTED" ]] ||
                fail "$compiler $level gives $line, written down is $COMMITTED"
        done <digests
        printf '%s %s: %s instruction sets agree\n' "$compiler" "$level" "$(wc -l <digests)"
        tried=$((tried + 1))
    done
done
((tried > 0)) || skip "neither gcc nor clang"

# The comparison finds what it is there for: contraction, the default of gnu17.
if command -v gcc >/dev/null && grep -qw fma /proc/cpuinfo; then
    build contracted gcc -O2 -mfma -ffp-contract=fast
    ./contracted >digests
    grep -qvxF "$COMMITTED" digests || fail "contracted products and sums give the same digests"
fi
