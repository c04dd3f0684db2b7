# Random draws, repeats and a file of Weights & Biases from the command line: the same table however
# many ranks run them, means over seeds that awk finds too, and what was ignored said.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures

write_sweep sweep.yaml "steps: 4, batch: 8" \
    "learning_rate: { min: 1e-6, max: 1e-3, distribution: log_uniform_values }" \
    "method: random
run_cap: 3
repeats: 4"
run 0 "$QZO" plan sweep.yaml
says stdout '12 trials'
says stdout 'learning_rate +1e-06 to 0.001, logarithmic'
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" report out --csv
mv stdout table.csv
run 0 "$QZO" report out --mean --csv
(($(wc -l <stdout) == 4)) || fail "not three settings: $(<stdout)"
mv stdout means.csv
# 3.182446 is t(0.95, 3) of the tables.
awk -F, -v t=3.182446 'NR > 1 { n[$11]++; s[$11] += $8; q[$11] += $8 * $8
        if (n[$11] == 1) order[++count] = $11 }
    END { for (i = 1; i <= count; i++) {
        k = order[i]; m = s[k] / n[k]
        printf "%s,%d,%d,%.5f,%.5f\n", k, n[k], n[k], m,
            t * sqrt((q[k] - n[k] * m * m) / (n[k] - 1)) / sqrt(n[k]) } }' table.csv >expected
awk -F, 'NR > 1 { printf "%s,%d,%d,%.5f,%.5f\n", $1, $2, $3, $6, $7 }' means.csv >found
same expected found "means and intervals of dev_loss"
run 0 "$QZO" report out --mean
says stdout 't\(0.95, n - 1\) s / sqrt\(n\)'
run 0 "$QZO" report out --mean --json
says stdout '"ci95"'

run 0 "$QZO" plan "$fixtures/wandb/copa_opt_13b_seeds.yml" --model "$fixtures/tiny-llama" \
    --task "$fixtures/tiny-task.qzt"
says stdout '6 trials, 120000 steps'
says stdout 'note: .*metric eval/acc is read as dev_score.*parameter model_name is ignored'
run 2 "$QZO" plan "$fixtures/wandb/copa_opt_13b_seeds.yml"
says stderr 'expected model .*, found none: .* or --model'
run 2 "$QZO" plan sweep.yaml --model "$fixtures/tiny-llama"
says stderr 'expected model either here or as --model, found both'
write_sweep short.yaml "steps: 2, batch: 4" "eps: { value: 1e-3 }"
sed "s|^model: .*|program: x.py|" short.yaml >foreign.yaml
run 0 "$QZO" run foreign.yaml --out foreign --model "$fixtures/tiny-llama" --threads 1
says stderr 'program is ignored'
