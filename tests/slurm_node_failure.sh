# ctest: timeout=300
# A node is lost: Slurm requeues the job, and the rank that still lives there does no harm. Table
# and journals equal those of an undisturbed run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 500, batch: 16, samples_per_step: 2, evaluate_every: 250" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run_calm
start_cluster 3
use_site_settings

# The daemon of the second node dies and its rank lives on; the controller gives the node up.
submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out --threads 1
wait_for 30 "the first steps" stepping 20
kill_node_daemon 2
run 0 scontrol update nodename=n2 state=down reason=test
ends_with COMPLETED 0 60
restarts 1
says "$job_log" 'on n\[1,3\], start 2'
same_as_calm "after the loss of a node"
