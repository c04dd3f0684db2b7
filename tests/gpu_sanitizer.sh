# ctest: timeout=1500
# compute-sanitizer's four tools find nothing in the kernels: every operation under memcheck and
# synccheck, tiny models under racecheck and initcheck. Where the tool refuses the device, its
# message stands in the output and the test is skipped: a build with QZO_CUDA_CHECKS says the rest.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
command -v compute-sanitizer >/dev/null || skip "no compute-sanitizer"
found_error=9

# Our own kernels alone, whose names end so: the libraries' are NVIDIA's affair. The option's name
# changed between versions.
only=()
case $(compute-sanitizer --help 2>&1) in
*--kernel-name*) only=(--kernel-name kernel_substring=_kernel) ;;
*--kernel-regex*) only=(--kernel-regex kns=_kernel) ;;
esac

# check TOOL PROGRAM
check() {
    local code=0
    [[ -x $QZO_BUILD/tests/$2 ]] || fail "$2 is not built"
    compute-sanitizer --tool "$1" --error-exitcode $found_error "${only[@]}" \
        "$QZO_BUILD/tests/$2" >"$1.log" 2>&1 || code=$?
    tail -n 5 "$1.log"
    if grep -m 1 'Device not supported' "$1.log" >refusal; then skip "$(<refusal)"; fi
    ((code != 77)) || skip "no device"
    ((code == 0)) || { cat "$1.log"; fail "$1 of $2: exit code $code"; }
    grep -qE 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' "$1.log" ||
        fail "$1 of $2: no summary: it checked nothing"
}
check memcheck test_backend_cuda
check memcheck test_backend_cuda_rows
check memcheck test_attention_cuda
check synccheck test_backend_cuda
check synccheck test_backend_cuda_rows
check synccheck test_attention_cuda
check racecheck test_attention_cuda
check racecheck test_forward_cuda
check initcheck test_forward_cuda
