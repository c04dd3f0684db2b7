# ctest: timeout=120
# The headers that C and CUDA share compile for the device, into operations that ptxas may neither
# fuse nor flush nor approximate. A product and a sum without a rounding mode may be fused by nvcc
# itself, which leaves no trace but this: -fmad=false then gives other instructions.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
command -v nvcc >/dev/null || skip "no nvcc"

compile() { # compile OUT FLAGS...
    local out=$1
    shift
    run 0 nvcc -std=c++17 -arch=compute_80 -ptx -I "$QZO_SOURCE/src" "$@" \
        "$QZO_SOURCE/tests/ptx_noise.cu" -o all.ptx
    grep -E '^\s' all.ptx >"$out"
}
loose='(mul|add|sub|fma|mad|div|sqrt|rcp)\.(sat\.)?f(32|64)|\.ftz|\.approx|rsqrt|\.f64'

compile fused.ptx
compile separate.ptx -fmad=false
if grep -nE "$loose" fused.ptx; then fail "operations without a rounding mode"; fi
cmp fused.ptx separate.ptx || fail "-fmad changes the shared headers: a bare product meets a sum"
for wanted in fma.rn.f32 mul.rn.f32 add.rn.f32 sqrt.rn.f32; do
    grep -qF "$wanted" fused.ptx || fail "no $wanted: was anything compiled?"
done

# The comparison finds what it is there for.
compile bare_fused.ptx -DBARE
compile bare_separate.ptx -DBARE -fmad=false
cmp -s bare_fused.ptx bare_separate.ptx && fail "a bare product and sum went unnoticed"
printf '%s lines of PTX\n' "$(wc -l <fused.ptx)"
