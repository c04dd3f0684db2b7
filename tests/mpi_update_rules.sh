# ctest: timeout=600
# Every kind of perturbation, batches per sample, evaluations cut by tokens and every update rule,
# as sweeps/README.md lists them: the journals are equal byte for byte alone, over 2 and 3 ranks and
# after a kill, and replay to the recorded digest; and each of them trains.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
need_mpi

# choices SETTING: its names, from the table that test_sweep_spec compares with the program's.
choices() {
    local found
    found=$(sed -n "s/^| \`$1\` | \([^|]*\) |.*/\1/p" "$QZO_SOURCE/sweeps/README.md")
    found=${found//,/ }
    printf '%s\n' "${found// or / }"
}

# check NAME SETTINGS: SETTINGS beside those that all trials here share.
check() {
    local name=$1 count
    write_sweep "$name.yaml" "steps: 30, batch: 16, micro_batch: 8, samples_per_step: 4, \
evaluate_every: 10, $2" "seed: { values: [0] }" "ranks_per_trial: all"
    run 0 "$QZO" run "$name.yaml" --out "$name-alone" --threads 1
    for count in 2 3; do
        run 0 mpirun -n "$count" "$QZO" run "$name.yaml" --out "$name-$count" --threads 1
        same_journals "$name-alone" "$name-$count" "$name: alone and $count ranks"
    done
    run 137 "$QZO" run "$name.yaml" --out "$name-killed" --threads 1 --inject-fault kill:0@17
    run 0 "$QZO" run "$name.yaml" --out "$name-killed" --threads 2
    same_journals "$name-alone" "$name-killed" "$name: undisturbed and killed in step 17"
    run 0 "$QZO" replay "$name-alone" 1 --check
    run 0 "$QZO" report "$name-alone" --csv
    cp stdout "$name.csv"
    python3 - "$name.csv" <<'PY' || fail "$name: the dev loss did not fall"
import csv, sys
row, = csv.DictReader(open(sys.argv[1], newline=""))
assert row["status"] == "finished" and int(row["best_step"]) > 0, row
PY
}

for kind in $(choices perturbation); do
    # Relative steps are in units of the scales, which are about 0.1 here.
    case $kind in
    relative) check "$kind" "perturbation: $kind, eps: 1e-2, learning_rate: 1e-2" ;;
    *) check "$kind" "perturbation: $kind, learning_rate: 1e-4" ;;
    esac
done

check eval_tokens "eval_tokens: 300, learning_rate: 1e-4"
check per_sample "batches: per_sample, learning_rate: 1e-4"

for rule in $(choices update_rule); do
    # A low bound and a short memory, so that the state shows in most steps.
    case $rule in
    mean_clip) check "$rule" "update_rule: $rule, clip_factor: 1.5, clip_memory: 10, \
learning_rate: 2e-4" ;;
    quantile_clip) check "$rule" "update_rule: $rule, clip_quantile: 0.5, clip_memory: 10, \
learning_rate: 2e-4" ;;
    fzoo) check "$rule" "update_rule: $rule, learning_rate: 5e-4" ;;
    spsa_1_5) check "$rule" "update_rule: $rule, learning_rate: 2e-4" ;;
    momentum) check "$rule" "update_rule: $rule, momentum: 0.8, learning_rate: 2e-5" ;;
    meazo) check "$rule" "update_rule: $rule, moment_memory: 5, learning_rate: 5e-4" ;;
    *) check "$rule" "update_rule: $rule, learning_rate: 1e-4" ;;
    esac
done
# Factor 1.5 clips many of the records; what the rule did stands in the journal.
run 0 "$QZO" journal mean_clip-alone 1 --csv
python3 - <<'PY' || fail "the journal of mean_clip"
import csv
rows = [row for row in csv.DictReader(open("stdout", newline="")) if row["flags"] is not None]
seen, mean, clipped = 0, 0.0, 0
for first in range(0, len(rows), 4):
    step = rows[first:first + 4]
    bound = min(100.0, 1.5 * mean) if seen else 100.0
    for row in step:
        gradient = float(row["gradient"])
        expected = 2e-4 / 4 * max(-bound, min(bound, gradient))
        assert abs(float(row["k"]) - expected) <= 1e-6 * abs(expected), (row, expected)
        clipped += abs(gradient) > bound
    for row in step:
        size = min(abs(float(row["gradient"])), bound)
        seen = min(seen + 1, 10)
        mean += (size - mean) / seen
assert len(rows) == 120 and 30 <= clipped <= 90, (len(rows), clipped)
PY

run 0 "$QZO" journal meazo-alone 1 --csv
python3 - <<'PY' || fail "the journal of meazo"
import csv, math, statistics
rows = list(csv.DictReader(open("stdout", newline="")))
decay, moment = 1 - 1 / 5, 0.0
for number, first in enumerate(range(0, len(rows), 4), start=1):
    gradients = [max(-100.0, min(100.0, float(row["gradient"]))) for row in rows[first:first + 4]]
    moment = decay * moment + (1 - decay) * statistics.mean(gradients) ** 2
    root = math.sqrt(moment / (1 - decay ** number)) + 1e-8
    for row, gradient in zip(rows[first:first + 4], gradients):
        expected = 5e-4 / 4 * gradient / root
        assert abs(float(row["k"]) - expected) <= 1e-6 * abs(expected), (row, expected)
assert len(rows) == 120, len(rows)
PY
