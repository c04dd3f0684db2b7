# ctest: timeout=300
# The method learns, end to end: the real program over MPI on the tiny quantized model, against a
# learning rate of 0, against labels that tell nothing, with each kind of direction and schedule.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
skip_if_sanitized

TEST_EXAMPLES=1000       # of tiny-task.qzt, tests/fixtures/README.md
GAIN_LEAST_SE=5          # accuracy over zero-shot, in standard errors
CONTROL_SEEDS=16         # their spread is the yardstick of the control
CONTROL_MOST_SE=3        # of the control's mean over seeds
CONTROL_MOST_LEARNT=0.05 # of the nats per example that true labels teach
SETTING="steps: 150, batch: 16, samples_per_step: 4, eps: 1e-3"

# dev_at DIR TRIAL STEP: score and loss of the dev split at that step.
dev_at() {
    run 0 "$QZO" journal "$1" "$2"
    awk -v step="$3" '$1 == "EVAL" && $2 == step && $3 == "dev" { print $5, $7 }' stdout
}

# holds CONDITION TEXT: prints the numbers in TEXT and fails unless awk finds the condition true.
holds() {
    printf '%s\n' "$2"
    awk "BEGIN { exit !($1) }" || fail "$2: expected $1"
}

# above SCORE ZERO_SHOT WHAT: at least GAIN_LEAST_SE standard errors of a difference of proportions.
above() {
    local errors
    errors=$(awk -v p="$1" -v q="$2" -v n=$TEST_EXAMPLES 'BEGIN {
        printf "%.1f", (p - q) / sqrt((p * (1 - p) + q * (1 - q)) / n) }')
    holds "$errors >= $GAIN_LEAST_SE" "$3: test $1, zero-shot $2, $errors standard errors above"
}

# --- the best of a small sweep, against the learning rate 0 --------------------------------------
write_sweep sweep.yaml "$SETTING, evaluate_every: 50" \
    "learning_rate: { values: [0, 3e-5, 1e-4] }; seed: { values: [0, 1, 2] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
cp stdout table.csv

# rows RATE COLUMN: that column of the trials with that learning rate, in the order of seeds.
rows() {
    paste -d' ' <(column table.csv learning_rate) <(column table.csv "$2") |
        awk -v rate="$1" '$1 == rate { print $2 }'
}
best=$(paste -d' ' <(column table.csv learning_rate) <(column table.csv dev_loss) |
    awk '{ loss[$1] += $2 } END { for (rate in loss) print loss[rate], rate }' |
    sort -g | awk 'NR == 1 { print $2 }')
zero_shot=$(rows 0 test_score | head -n 1)
mapfile -t scores < <(rows "$best" test_score)
for seed in 0 1 2; do above "${scores[seed]}" "$zero_shot" "learning rate $best, seed $seed"; done

# --- a learning rate of 0 changes nothing ---------------------------------------------------------
# The sums of an evaluation do not depend on what ran before, so the scores are equal, not close.
for seed in 0 1 2; do
    trial=$((seed + 1))
    before=$(dev_at out "$trial" 0)
    after=$(dev_at out "$trial" 150)
    [[ -n $before && $before == "$after" ]] ||
        fail "learning rate 0, seed $seed: dev '$before' became '$after'"
    run 0 "$QZO" replay out "$trial" --step 0
    cut -d' ' -f4 stdout >first
    run 0 "$QZO" replay out "$trial" --check
    cut -d' ' -f4 stdout >last
    same first last "scales after 150 steps with a learning rate of 0, seed $seed"
done
for name in zero_shot_dev test_score test_loss; do
    (($(rows 0 $name | sort -u | wc -l) == 1)) ||
        fail "learning rate 0: $name differs between seeds: $(rows 0 $name | tr '\n' ' ')"
done
holds "($zero_shot - 0.5) ^ 2 <= 9 * 0.25 / $TEST_EXAMPLES" \
    "zero-shot $zero_shot: the answer is not known, 0.5 within 3 standard errors"

# --- control: labels that tell nothing ------------------------------------------------------------
# What may be compared with chance? Not the score at the best step: it is chosen by the dev split,
# whose labels are true. Not one seed by the standard error of a proportion: the answers turn on one
# direction of the features, noise moves the model along it, and all answers flip together. So: the
# score at the last step, its mean over seeds, and the spread over seeds as the error of that mean.
# Accuracy counts a margin of any size, so that a tilt of next to nothing scores; the second
# criterion takes the loss, in nats below those of an answer by the toss of a coin.
write_sweep control.yaml "$SETTING, evaluate_every: 0" \
    "learning_rate: { value: $best }; seed: { values: [$(seq -s, 0 $((CONTROL_SEEDS - 1)))] }"
sed -i "s/tiny-task/tiny-task-shuffled/" control.yaml
run 0 mpirun -n 2 "$QZO" run control.yaml --out control
for ((trial = 1; trial <= CONTROL_SEEDS; trial++)); do
    dev_at control "$trial" 150
done >control.txt
paste -d' ' <(column table.csv trial) <(column table.csv learning_rate) |
    awk -v rate="$best" '$2 == rate { print $1 }' >chosen
for trial in $(<chosen); do dev_at out "$trial" 150; done >true.txt
before=$(dev_at control 1 0 | cut -d' ' -f1)
read -r mean error gain < <(awk '{ s += $1; q += $1 * $1; loss += $2 } END { m = s / NR
    print m, sqrt((q / NR - m * m) / (NR - 1)), log(2) - loss / NR }' control.txt)
read -r true_gain < <(awk '{ loss += $2 } END { print log(2) - loss / NR }' true.txt)
printf 'shuffled labels, dev scores: %s\n' "$(cut -d' ' -f1 control.txt | tr '\n' ' ')"
holds "($mean - $before) ^ 2 <= ($CONTROL_MOST_SE * $error) ^ 2" \
    "shuffled labels: mean $mean +- $error over $CONTROL_SEEDS seeds, zero-shot $before"
holds "$gain < $CONTROL_MOST_LEARNT * $true_gain" \
    "shuffled labels: $gain nats per example learnt, with true labels $true_gain"

# --- other directions and schedules learn too -----------------------------------------------------
for kind in "directions: rademacher" "schedule: linear, warmup_steps: 15" \
    "schedule: cosine, warmup_steps: 15"; do
    rm -rf other
    write_sweep other.yaml "$SETTING, evaluate_every: 0, $kind" \
        "learning_rate: { value: 1e-4 }; seed: { values: [0, 1] }"
    run 0 mpirun -n 2 "$QZO" run other.yaml --out other
    run 0 "$QZO" report other --csv
    cp stdout other.csv
    for trial in 1 2; do
        above "$(column other.csv test_score | sed -n ${trial}p)" "$zero_shot" \
            "$kind, seed $((trial - 1))"
    done
done
# The cosine schedule ends near 0: what a gradient moves in the last step, and in the middle.
run 0 "$QZO" journal other 1 --csv
awk -F, '$6 != 0 && $1 == 75 { middle = $7 / $6 }
    $6 != 0 && $1 == 150 { last = $7 / $6 }
    END { printf "cosine: k per gradient %g in the middle, %g at the end\n", middle, last
          exit !(middle > 0 && last >= 0 && last < middle / 100) }' stdout ||
    fail "the cosine schedule does not end near 0"
