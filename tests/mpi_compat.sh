# ctest: timeout=300
# compat: paper as a user sees it: one journal over any ranks and after a kill, which replays to the
# recorded digest; scales that drift at learning rate 0, and do not without it; what the paper's
# program does not have is refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

settings="steps: 30, batch: 16, micro_batch: 6, evaluate_every: 10, learning_rate: 1e-3"
write_sweep paper.yaml "$settings, compat: paper" "seed: { values: [0] }" "ranks_per_trial: all"
run 0 "$QZO" run paper.yaml --out alone --threads 1
for count in 2 3; do
    run 0 mpirun -n "$count" "$QZO" run paper.yaml --out "ranks-$count" --threads 1
    same_journals alone "ranks-$count" "alone and $count ranks"
done
run 137 "$QZO" run paper.yaml --out killed --threads 1 --inject-fault kill:0@17
run 0 "$QZO" run paper.yaml --out killed --threads 2
same_journals alone killed "undisturbed and killed in step 17"
# A value that changes behind the program's back is found and repaired, as without compat.
run 0 mpirun -n 2 "$QZO" run paper.yaml --out repaired --threads 1 --inject-fault corrupt:1@9
same_journals alone repaired "undisturbed and repaired in step 9"
run 0 "$QZO" replay alone 1 --check

# digest_after SETTINGS STEP: of the scales at that step.
digest_after() {
    write_sweep drift.yaml "steps: 20, batch: 4, learning_rate: 0, $1" "seed: { values: [0] }"
    rm -rf drift
    run 0 "$QZO" run drift.yaml --out drift --threads 1
    run 0 "$QZO" replay drift 1 --step "$2"
    digest=$(awk '{ print $4 }' stdout)
}
digest_after "compat: paper" 0
start=$digest
digest_after "compat: paper" 20
[[ $digest != "$start" ]] || fail "compat: paper does not drift"
# The checkpoint's scales are fp16 numbers: both start from the same.
for step in 0 20; do
    digest_after "compat: none" "$step"
    [[ $digest == "$start" ]] || fail "scales moved at learning rate 0: $digest, at first $start"
done

# refused SETTINGS TEXT
refused() {
    write_sweep refused.yaml "steps: 20, compat: paper, $1" "seed: { values: [0] }"
    run 2 "$QZO" plan refused.yaml
    says stderr "$2"
}
refused "samples_per_step: 2" "expected samples_per_step 1, found 2"
refused "perturbation: relative" "perturbation absolute alone, found relative"
refused "directions: rademacher" "directions gaussian alone, found rademacher"
refused "update_rule: meazo" "update_rule plain alone, found meazo"
refused "groups: { scales: { eps: 1e-2 } }" "groups.scales"
refused "groups: [scales, lora]" "compat: paper has no adapters"
refused "compat: papers" "compat"
