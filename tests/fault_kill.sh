# ctest: timeout=600
# `kill -9` of the whole job at 20 moments spread over the length of an undisturbed run, then inside
# an evaluation and in the last trial; run again each time, the table and the journals must equal
# those of the undisturbed run, byte for byte.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
moment_count=20
after_first_step_min=12
evaluate_every=20 samples=2

write_sweep sweep.yaml "steps: 60, batch: 16, samples_per_step: $samples, \
evaluate_every: $evaluate_every" "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
job=(mpirun -n 2 "$QZO" run sweep.yaml --out)

started=$(seconds_now)
run 0 "${job[@]}" calm
length=$(calculate "$(seconds_now) - $started")
run 0 "$QZO" report calm --csv
mv stdout calm.csv
printf 'the undisturbed run: %s s\n' "$length"

start_job() {
    "${job[@]}" "$1" >job.out 2>job.err &
    job_process=$!
    JOBS=("$job_process")
}

# finish OUT WHAT: kills the job, runs it again and compares.
finish() {
    kill_job "$job_process"
    JOBS=()
    steps_left=0
    for trial in $(column calm.csv trial); do
        steps_left=$((steps_left + $(steps_of "$1" "$trial")))
    done
    run 0 "${job[@]}" "$1"
    run 0 "$QZO" report "$1" --csv
    same calm.csv stdout "the table after $2"
    same_journals calm "$1" "the journals after $2"
    rm -rf "$1"
}

after_first_step=0
for ((moment = 0; moment < moment_count; moment++)); do
    seconds=$(calculate "$length * ($moment + 0.5) / $moment_count")
    start_job out
    sleep "$seconds"
    finish out "a kill at $seconds s"
    printf 'killed at %s s with %s steps journaled\n' "$seconds" "$steps_left"
    if ((steps_left > 0)); then after_first_step=$((after_first_step + 1)); fi
done
((after_first_step >= after_first_step_min)) ||
    fail "only $after_first_step kills after the first journaled step, $after_first_step_min wanted"

# wait_until WHAT COMMAND...: until the command succeeds, while the job runs.
wait_until() {
    local what=$1
    shift
    until "$@"; do
        kill -0 "$job_process" 2>/dev/null ||
            fail "the job ended before $what: $(tail -n 5 job.err)"
    done
}

# The step before an evaluation is in the journal, the next one is not.
first=$(column calm.csv trial | head -n 1)
evaluating() { (($(steps_of out "$first") == evaluate_every)); }
start_job out
wait_until "the evaluation" evaluating
finish out "a kill inside an evaluation"

last=$(column calm.csv trial | tail -n 1)
in_last_trial() { (($(steps_of out "$last") > 1)); }
start_job out
wait_until "the last trial" in_last_trial
finish out "a kill in the last trial"

# One rank alone: mpirun ends the others.
stepping() { (($(steps_of out "$first") > 1)); }
start_job out
wait_until "its second step" stepping
kill -KILL "$(children_of "$job_process" | head -n 1)"
wait "$job_process" && fail "mpirun left with 0 although a rank was killed"
finish out "a kill of one rank"
