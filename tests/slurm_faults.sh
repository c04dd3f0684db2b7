# ctest: timeout=480
# Every kind of --inject-fault that a trial may have, in a job over two nodes: how the job ends, and
# that what is left to do after it gives the table and the journals of an undisturbed run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 12, batch: 8, samples_per_step: 3, evaluate_every: 4" \
    "learning_rate: { values: [1e-5, 1e-4] }" "ranks_per_trial: all"
run_calm
start_cluster 2

# The fault happens in the first start of a job alone: those that follow must go on.
cat >faulty <<'SH'
#!/bin/sh
if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] && [ -s fault ]; then
    set -- "$@" --inject-fault "$(cat fault)"
fi
exec "$REAL_QZO" "$@"
SH
chmod +x faulty
use_site_settings "export REAL_QZO=$QZO QZO_PROGRAM=$WORK/faulty"

# with_fault FAULT STATE CODE RESTARTS: one job.
with_fault() {
    printf '%s' "$1" >fault
    rm -f "$job_log"
    submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out --threads 1
    ends_with "$2" "$3" 60
    restarts "$4"
}
tried=""
# ends_calm FAULT: nothing is left to do. goes_on FAULT: the same line does the rest.
ends_calm() {
    tried+=" ${1%%:*}"
    same_as_calm "after $1"
    rm -rf out
}
goes_on() {
    with_fault "" COMPLETED 0 0
    ends_calm "$1"
}

for fault in delay:1@3 corrupt:0@5 corrupt:1@5; do
    with_fault $fault COMPLETED 0 0
    if [[ $fault == corrupt* ]]; then
        says "$job_log" "the scales of rank ${fault:8:1} are not those that the last update left"
    fi
    ends_calm $fault
done

with_fault kill:1@6 COMPLETED 0 1
says "$job_log" 'a rank died: srun left with exit code 137'
ends_calm kill:1@6

# The environment is at fault: the job ends with 3 and is not requeued, and the same line goes on.
for fault in update-error:1@5 write-error:0@20; do
    with_fault $fault FAILED 3 0
    says "$job_log" 'update of step 5 failed|No space left'
    goes_on $fault
done

# Half of a file, when the sweep had ended: nothing is written that is not true.
with_fault "" COMPLETED 0 0
with_fault short-read:0@6 COMPLETED 0 0
ends_calm short-read:0@6

# The loss itself: that trial diverged, the other finished, the same again at the next start.
for fault in nan-loss:1@4 zero-loss:1@4; do
    with_fault $fault FAILED 1 0
    run 0 "$QZO" report out --csv
    [[ $(column stdout status | tr '\n' ' ') == "diverged finished " ]] || fail "$fault: $(<stdout)"
    mv stdout table.csv
    with_fault "" FAILED 1 0
    run 0 "$QZO" report out --csv
    same table.csv stdout "the table after $fault and another start"
    tried+=" ${fault%%:*}"
    rm -rf out
done

run 2 "$QZO" run sweep.yaml --out out --inject-fault explode:0@1
kinds=$(sed -n 's/.*KIND one of \(.*\), RANK .*/\1/p' stderr)
[[ $kinds == *kill* ]] || fail "which kinds are there? $(<stderr)"
for kind in ${kinds//,/}; do
    if [[ $kind == fork-error ]]; then continue; fi # no trial has it: fault_forks.sh
    [[ " $tried " == *" $kind "* ]] || fail "no job had the fault $kind"
done
