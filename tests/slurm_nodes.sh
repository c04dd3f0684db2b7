# ctest: timeout=300
# A sweep over two nodes gives the table and the journals of a local run; a start without PMIx is
# refused with a hint.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 40, batch: 16, samples_per_step: 2, evaluate_every: 20" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run_calm
start_cluster 2
use_site_settings

submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out --threads 1
ends_with COMPLETED 0 60
says "$job_log" '2 ranks, 1 threads each'
same_as_calm "of two nodes"
rm -rf out

# The same sweep, every trial on both ranks of one node, and cores given by Slurm.
sed 's/^train:/ranks_per_trial: all\ntrain:/' sweep.yaml >wide.yaml
submit run_one_node.sbatch --ntasks-per-node=2 --cpus-per-task=1 -- wide.yaml out
ends_with COMPLETED 0 60
says "$job_log" '2 ranks, 1 threads each'
same_as_calm "of two ranks on one node"

# The same line again has nothing to do.
submit run_one_node.sbatch --ntasks-per-node=2 -- wide.yaml out --threads 1
ends_with COMPLETED 0 60
says "$job_log" 'nothing to do'
rm -rf out

# Each task would be a world of its own and run the whole sweep: all of them refuse.
# Slurm would end the slower task before it says so itself.
run 3 srun --nodes=2 --ntasks=2 --mpi=none --kill-on-bad-exit=0 \
    "$QZO" run sweep.yaml --out out
says stderr 'srun --mpi=pmix'
[[ ! -e out ]] || fail "a refused start made an output folder"
use_site_settings 'export QZO_SRUN_MPI=none'
submit run_many_nodes.sbatch --nodes=2 --ntasks-per-node=1 -- sweep.yaml out
ends_with FAILED 3 60
restarts 0
