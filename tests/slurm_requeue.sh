# ctest: timeout=480
# Parking by signal and by Slurm itself: the job is requeued, goes on where it was and ends with the
# table and the journals of an undisturbed run. A cancelled job stays cancelled, and the same sbatch
# line continues it.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 500, batch: 16, samples_per_step: 2, evaluate_every: 250" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run_calm
start_cluster 2
use_site_settings
start_job() {
    rm -rf out "$job_log"
    submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 "$@" -- sweep.yaml out --threads 1
    wait_for 30 "the first steps" stepping 20
}

# Two parks in one job.
start_job
scancel --signal=USR2 "$job"
wait_for 20 "parking" grep -qs 'parked with work left' "$job_log"
says "$job_log" 'parked: run the same command again'
wait_for 30 "the second start" grep -qs 'start 2' "$job_log"
wait_for 30 "steps of the second start" stepping 100
scancel --signal=TERM "$job"
ends_with COMPLETED 0 60
restarts 2
same_as_calm "after USR2 and TERM"

# A job of a partition with a higher priority wants the nodes.
start_job
printf '#!/bin/sh\nsleep 1\n' >urgent
run 0 sbatch --partition=urgent --nodes=2 --ntasks-per-node=2 --output=urgent.log urgent
wait_for 20 "preemption" grep -qs 'Slurm ended the job before its time' "$job_log"
ends_with COMPLETED 0 60
restarts 1
same_as_calm "after preemption"

# What an administrator does.
start_job
run 0 scontrol requeue "$job"
ends_with COMPLETED 0 60
restarts 1
same_as_calm "after scontrol requeue"

start_job
scancel "$job"
ends_with CANCELLED 75 30
sleep 4
[[ $(job_field JobState) == CANCELLED ]] || fail "a cancelled job came back: $(job_field JobState)"
[[ -z $(rank_processes) ]] || fail "ranks outlive their cancelled job: $(rank_processes)"
submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out --threads 1
ends_with COMPLETED 0 60
same_as_calm "after scancel and the same sbatch line"
