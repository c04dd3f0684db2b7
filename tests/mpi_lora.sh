# ctest: timeout=300
# Adapters (groups: lora): they learn on a model of any format, alone and before the scales of the
# other layers; trials of several ranks share one loaded model and give the journals that each gives
# alone; ranks, threads and a kill change no byte; bad settings are refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
skip_if_sanitized

settings="steps: 200, batch: 16, samples_per_step: 4, eps: 1e-2, evaluate_every: 100, groups: lora"
write_sweep alone.yaml "$settings" \
    "learning_rate: { value: 3e-2 }; groups.lora.rank: { value: 4 }; seed: { values: [0, 1] }"
learns alone.yaml
sed 's/tiny-llama/tiny-llama-fp32/' alone.yaml >dense.yaml
learns dense.yaml
# The paper's two phases: adapters of q and v first, then the scales of the other layers.
phases="groups: { lora: { rank: 4, alpha: 8, eps: 1e-2, learning_rate: 3e-2, until: 100 },
    scales: { after: 100, exclude: [q_proj, v_proj] } }"
write_sweep phases.yaml "steps: 200, batch: 16, samples_per_step: 4, learning_rate: 1e-4,
    evaluate_every: 100, $phases" "seed: { values: [0, 1] }"
learns phases.yaml

# --- the same journals whatever the ranks and threads, alone or after other trials, or killed ---
settings="steps: 12, batch: 16, micro_batch: 8, samples_per_step: 3, evaluate_every: 6"
phases=$(sed 's/100/6/g' <<<"$phases")
write_sweep short.yaml "$settings, learning_rate: 1e-4, $phases, perturbation: relative" \
    "groups.lora.alpha: { values: [8, 12] }"
sed -i 's/rank: 4, alpha: 8, /targets: [q_proj, down_proj], /' short.yaml
run 0 "$QZO" run short.yaml --out one --threads 3
for ranks in 2 3 5; do
    sed 's/^name: test$/name: test\nranks_per_trial: all/' short.yaml >all.yaml
    run 0 mpirun -n $ranks "$QZO" run all.yaml --out on$ranks --threads 1
    same_journals one on$ranks "1 and $ranks ranks"
done
for phase in 1 2; do # a resume in either of them
    rm -rf cut
    cp -r one cut
    for journal in cut/trials/*.qzj; do
        truncate -s $((phase * $(stat -c %s "$journal") / 3)) "$journal"
    done
    run 0 mpirun -n 2 "$QZO" run short.yaml --out cut --threads 1
    same_journals one cut "resumed in phase $phase"
done
run 0 "$QZO" replay one 1 --check
run 0 "$QZO" journal one 1
says stdout 'groups=scales.lora'
says stdout 'groups.lora.targets=down_proj.q_proj'

write_sweep ranks.yaml "$settings, groups: lora" \
    "learning_rate: { value: 1e-2 }; groups.lora.rank: { values: [1, 3, 8] }"
run 0 "$QZO" run ranks.yaml --out ranks --threads 1
[[ $(grep -c 'mapped in' ranks/log/rank-0.log) -eq 1 ]] ||
    fail "the model was loaded $(grep -c 'mapped in' ranks/log/rank-0.log) times for three ranks"
for rank in 1 3 8; do
    sed "s/values: \[1, 3, 8\]/value: $rank/" ranks.yaml >rank.yaml
    run 0 "$QZO" run rank.yaml --out "rank$rank" --threads 1
    journal=$(basename "rank$rank"/trials/*.qzj)
    same "rank$rank/trials/$journal" "ranks/trials/$journal" "rank $rank alone and among others"
done

# --- adapters at rest stay what they are ---
write_sweep rest.yaml "$settings, groups: { lora: { until: 6 } }" "learning_rate: { value: 1e-2 }"
run 0 "$QZO" run rest.yaml --out rest
run 0 "$QZO" replay rest 1 --step 6
cut -d' ' -f4 stdout >at_six
run 0 "$QZO" replay rest 1 --step 12
cut -d' ' -f4 stdout >at_twelve
same at_six at_twelve "adapters after their last step"

# --- the plan counts them; what does not train them is the same trial; bad input ---
run 0 "$QZO" plan alone.yaml
says stdout 'adapters beside 4 linear layers: 2048 values'
write_sweep unused.yaml "$settings" "groups.lora.rank: { values: [2, 4] }; eps: { value: 1e-3 }"
run 0 "$QZO" plan unused.yaml
says stdout '1 trial,'
write_sweep wrong.yaml "$settings, groups: { lora: { targets: [query] } }" "eps: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'groups.lora.targets: expected names of linear layers \(q_proj, .*found "query"'
write_sweep wrong.yaml "$settings, groups: { lora: { rank: 100 } }" "eps: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'groups.lora.rank: .*expected a rank of at most'
write_sweep wrong.yaml "$settings, groups: { lora: { rank: 0 } }" "eps: { value: 1e-4 }"
run 2 "$QZO" plan wrong.yaml
says stderr 'expected an integer from 1 to 65536'
