# ctest: timeout=300 emulated
# --backend cuda: a clear refusal without a device; with one, a trial twice gives equal journals,
# and the CPU replays them to the recorded digest.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
tiny=$QZO_SOURCE/tests/fixtures/tiny-llama
printf '1 5 9\n' >ids

"$QZO" generate "$tiny" --ids ids --max-new 4 --backend cuda >answer 2>refusal
code=$?
if ! "$QZO" --version | grep -qE '^backends .*\bcuda\b'; then
    if ((code != 0)); then
        ((code == 3)) || fail "exit code $code of --backend cuda, expected 3"
        says refusal 'built without CUDA'
        exit 0
    fi
# The program itself needs no CUDA library.
elif command -v readelf >/dev/null; then
    run 0 readelf -d "$QZO"
    says_not stdout 'NEEDED.*(cuda|cublas|nccl|stdc)'
    run 0 readelf -d "$QZO_BUILD/libqzo_cuda.so"
    says stdout 'NEEDED.*libcublas'
    says_not stdout 'NEEDED.*(libcuda\.so|libcudart)'
fi
if ((code != 0)); then
    ((code == 3)) || fail "exit code $code of --backend cuda, expected 3"
    says refusal 'NVIDIA|CUDA'
    [[ $(wc -l <refusal) == 1 ]] || fail "more than one line: $(<refusal)"
    run 0 "$QZO" generate "$tiny" --ids ids --max-new 4
    says stderr 'no CUDA device, using the CPU: .*NVIDIA|CUDA'
    printf 'no device: the rest is not run\n'
    exit 0
fi

write_sweep sweep.yaml "steps: 10, batch: 8, samples_per_step: 2, evaluate_every: 5" \
    "learning_rate: { value: 1e-4 }; seed: { values: [0, 1] }"
for out in first second; do
    run 0 "$QZO" run sweep.yaml --out $out --backend cuda --quiet
done
same_journals first second "a trial on a device, twice"
run 0 "$QZO" journal first 1
says stdout 'cuda .*fp16'
for backend in cuda cpu; do
    run 0 "$QZO" replay first 1 --check --backend $backend
    mv stdout "$backend.digest"
done
same cuda.digest cpu.digest "a device's journal, replayed on both"
