# ctest: timeout=110
# A job with a time limit: --signal=USR2@N parks it in time, the batch script requeues it, and the
# sweep ends in a second start.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 1500, batch: 16, samples_per_step: 2, evaluate_every: 750" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
start_cluster 2
use_site_settings
run_calm

# The controller looks at time limits every 30 seconds and sends the signal up to 30 seconds early:
# a job of one minute that starts a moment before such a look has it within that moment.
look_seconds=30 moment_seconds=$(calculate "($calm_seconds < 15 ? $calm_seconds : 15) / 3")
wait_for 31 "the controller's next look" \
    eval '(((SECONDS - controller_started) % look_seconds >= look_seconds - ${moment_seconds%.*}))'
submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 --time=1 --signal=USR2@30 -- \
    sweep.yaml out --threads 1
wait_for 45 "parking before the time limit" grep -qs 'parked with work left' "$job_log"
stepping 1 || fail "the job was parked before its first step"
ends_with COMPLETED 0 60
restarts 1
same_as_calm "after a time limit"
