# ctest: timeout=480
# A job with a time limit: --signal=USR2@N parks it in time, the batch script requeues it, and the
# sweep ends in a later start.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

# Two seconds of delay before each of so many steps: whatever the machine, a start is not through
# with them before the controller has looked at time limits, every 30 seconds. It sends the signal
# up to 30 seconds early, so the first look at a job of one minute does.
delays=20 delay_every=10
write_sweep sweep.yaml \
    "steps: $((delays * delay_every)), batch: 16, samples_per_step: 2, evaluate_every: 100" \
    "learning_rate: { values: [1e-5, 1e-4] }" "ranks_per_trial: all"
run_calm
start_cluster 2
use_site_settings

faults=""
for ((i = 1; i <= delays; i++)); do faults+=,delay:$((i % 2))@$((i * delay_every)); done
submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 --time=1 --signal=USR2@30 -- \
    sweep.yaml out --threads 1 --inject-fault "${faults#,}"
wait_for 60 "parking before the time limit" grep -qs 'parked with work left' "$job_log"
stepping 1 || fail "the job was parked before its first step"
# What is left of the delays may last until another look: then the second start is parked, too.
ends_with COMPLETED 0 90
(($(job_field Restarts) >= 1)) || fail "the job ended without another start"
same_as_calm "after a time limit"
