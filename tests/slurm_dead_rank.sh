# ctest: timeout=300
# A rank that dies by SIGKILL ends the step; the job is requeued and ends with the table and the
# journals of an undisturbed run. A job whose ranks die at once is requeued three times, no more.
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

submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out --threads 1
wait_for 30 "the first steps" stepping 20
mapfile -t ranks < <(rank_processes)
((${#ranks[@]} == 2)) || fail "found ${#ranks[@]} ranks, expected 2"
kill -KILL "${ranks[1]}"
ends_with COMPLETED 0 70
says "$job_log" 'a rank died: srun left with exit code 137'
restarts 1
same_as_calm "after the death of a rank"

# Ranks that die before they have done anything.
rm -rf out "$job_log"
printf '#!/bin/sh\nkill -KILL $$\n' >dying
chmod +x dying
use_site_settings "export QZO_PROGRAM=$WORK/dying"
submit run_one_node.sbatch --ntasks-per-node=2 -- sweep.yaml out
ends_with FAILED 137 60
restarts 3
says "$job_log" 'given up after 3 restarts without progress'
