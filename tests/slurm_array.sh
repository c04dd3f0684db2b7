# ctest: timeout=300
# A job array over two nodes, each task one slice; one task is parked and requeued while the others
# run. Table and journals equal those of an undisturbed run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster_support.sh"
need_program
need_mpi
need_slurm

write_sweep sweep.yaml "steps: 300, batch: 16, samples_per_step: 2, evaluate_every: 150" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run_calm
start_cluster 2
use_site_settings
job_log=job-%a.log
submit run_array.sbatch --array=5-7 -- sweep.yaml out --threads 1
array=$job job_log=job-5.log
wait_for 30 "the first steps" stepping 20
job=${array}_5
scancel --signal=USR2 "$job"
wait_for 20 "parking" grep -qs 'parked with work left' "$job_log"
array_ended() { [[ -z $(squeue --noheader --jobs="$array" 2>/dev/null) ]]; }
wait_for 60 "the end of the array" array_ended
for task in 5 6 7; do
    says "job-$task.log" 'the sweep ended with exit code 0'
done
says job-5.log 'start 2'
same_as_calm "of a job array"
# The work that it counts is its own: the journal of its first trial, as long as it was then.
read -r _ bytes <<<"$(cat out/log/slurm-*.stalls)"
first=$("$QZO" report out --csv | awk -F, '$1 == 1 { print $2 }')
step=$(grep '"event": "parked"' "out/timing/$first.jsonl" | grep -oE '"step": [0-9]+' | tr -dc 0-9)
step_bytes=108 around=4000 # two records; header and evaluations
((bytes > step * step_bytes && bytes < step * step_bytes + around)) ||
    fail "a parked slice counts $bytes bytes of journal at step $step"
[[ -s out/store.sqlite ]] || fail "qzo report did not build the view"

job_log=job-%a.log
submit run_array.sbatch --array=1-5:2 -- sweep.yaml out
job_log=job-1.log array=$job
wait_for 30 "the end of the array with gaps" array_ended
says job-1.log 'expected an array without gaps'
