# ctest: timeout=300
# Groups of trainable values from the sweep file: each of them learns, ranks and threads change no
# byte, a window of steps opens and closes, replay and export follow, and bad settings are refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
skip_if_sanitized

setting="steps: 150, batch: 16, samples_per_step: 4, eps: 1e-3, evaluate_every: 0"
write_sweep weights.yaml "$setting, groups: { weights: {} }" \
    "learning_rate: { value: 3e-3 }; seed: { values: [0, 1] }"
sed -i "s/tiny-llama/tiny-llama-fp32/" weights.yaml
learns weights.yaml
write_sweep both.yaml "$setting, groups: { scales: {}, unquantized: { eps: 1e-2,
    learning_rate: 1e-3,
    exclude: [embed_tokens, lm_head] } }" \
    "learning_rate: { value: 1e-4 }; seed: { values: [0, 1] }"
learns both.yaml
write_sweep ends.yaml "$setting, groups: unquantized" "learning_rate: { value: 1e-3 }"
learns ends.yaml

# --- the same journals whatever the ranks and threads ---
setting="steps: 12, batch: 16, micro_batch: 8, samples_per_step: 3, evaluate_every: 6"
groups="groups: { scales: { after: 6 }, unquantized: { until: 6, learning_rate: 1e-3, eps: 2e-3 } }"
write_sweep ranks.yaml "$setting, $groups" "learning_rate: { value: 1e-4 }; eps: { value: 1e-3 }"
run 0 "$QZO" run ranks.yaml --out one --threads 3
run 0 mpirun -n 2 "$QZO" run ranks.yaml --out two --threads 1
sed 's/^name: test$/name: test\nranks_per_trial: all/' ranks.yaml >all.yaml
run 0 mpirun -n 5 "$QZO" run all.yaml --out five --threads 1
same_journals one two "1 and 2 ranks"
same_journals one five "1 and 5 ranks"
run 0 "$QZO" replay one 1 --check
run 0 "$QZO" journal one 1
says stdout 'groups=scales.unquantized'
says stdout 'groups.unquantized.until=6'
run 0 "$QZO" diff one 1 1

# --- a group that rests stays what it is ---
write_sweep rest.yaml "$setting, groups: { scales: { until: 6 } }" "learning_rate: { value: 1e-4 }"
run 0 "$QZO" run rest.yaml --out rest
run 0 "$QZO" replay rest 1 --step 6
cut -d' ' -f4 stdout >at_six
run 0 "$QZO" replay rest 1 --step 12
cut -d' ' -f4 stdout >at_twelve
same at_six at_twelve "scales after their last step"

# --- the plan counts what trains; wrong settings say where ---
run 0 "$QZO" inspect "$QZO_SOURCE/tests/fixtures/tiny-llama"
says stdout '^groups +scales 2560, unquantized [0-9]+, weights 0, lora 4096 \(rank 8\)$'
run 0 "$QZO" plan both.yaml
says stdout '2880 trainable values'
write_sweep wrong.yaml "$setting, groups: { scale: {} }" "learning_rate: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'did you mean scales'
write_sweep wrong.yaml "$setting, groups: { scales: { rate: 1 } }" "learning_rate: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'wrong.yaml:.*unknown key in scales'
write_sweep wrong.yaml "$setting, groups: { scales: { after: 50 } }" "eps: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'expected groups.scales.after below until and steps'
write_sweep wrong.yaml "$setting, groups: weights" "learning_rate: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'nothing to train'
