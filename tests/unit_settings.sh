# Every number and word of a trial's settings acts: another value gives other scales, from one step
# to the next. (How examples are cut into forward passes, and when they are scored, must not.)
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

# digest_with NAME "KEY: VALUE": digest of the scales after three steps with that setting.
digest_with() {
    {
        printf 'model: %s/tests/fixtures/tiny-llama\n' "$QZO_SOURCE"
        printf 'task: %s/tests/fixtures/tiny-task.qzt\n' "$QZO_SOURCE"
        printf 'train:\n  steps: 3\n  batch: 4\n  samples_per_step: 2\n  learning_rate: 1e-4\n'
        printf 'parameters:\n  %s\n' "$2"
    } | awk -v key="${2%%:*}" '!/^  / || $1 != key ":" || /value/' >"$1.yaml"
    run 0 "$QZO" run "$1.yaml" --out "$1" --threads 1
    run 0 "$QZO" replay "$1" 1 --check
    digest=$(cat stdout)
}

digest_with plain "eps: { value: 1e-3 }"
plain=$digest
for setting in "batch: 5" "samples_per_step: 3" "learning_rate: 2e-4" "schedule: linear" \
    "warmup_steps: 1" "eps: 2e-3" "clip: 0.01" "floor: 0.05" "directions: rademacher" "seed: 1" \
    "data_seed: 1" "noise_seed: 1"; do
    digest_with "${setting%%:*}" "${setting%%:*}: { value: ${setting#*: } }"
    [[ $digest != "$plain" ]] || fail "$setting leaves the scales as they are without it: $digest"
done
for setting in "eval_batch: 7" "evaluate_every: 1"; do
    digest_with "${setting%%:*}" "${setting%%:*}: { value: ${setting#*: } }"
    [[ $digest == "$plain" ]] || fail "$setting changes the scales: $digest, $plain without it"
done
