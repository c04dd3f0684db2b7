# ctest: timeout=400
# `kill -9` of a scheduled sweep at moments spread over its run, several in one run: afterwards
# hyperband's table and journals equal those of an undisturbed run, and the decisions of every
# scheduler agree with the journals, none taken twice, none reversed.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
moment_count=6

start_job() {
    mpirun -n 2 "$QZO" run $scheduler.yaml --out out --threads 1 >job.out 2>job.err &
    job_process=$!
    JOBS=("$job_process")
}

kill_after() {
    start_job
    sleep "$1"
    kill_job "$job_process"
    JOBS=()
    if [[ -e out/decisions.qzj ]]; then
        run 0 "$QZO" report out --csv --check # also between two starts
        # What was stopped or finished stays so.
        grep -E ',(stopped|finished),' stdout | cut -d, -f1-4 >ended.now
        if [[ -e ended ]]; then
            [[ -z $(comm -23 <(sort ended) <(sort ended.now)) ]] || fail "a decision was reversed"
        fi
        mv ended.now ended
    fi
}

for scheduler in hyperband asha median; do
    write_sweep $scheduler.yaml "steps: 40, batch: 8, evaluate_every: 4" \
        "learning_rate: { values: [1e-6, 1e-5, 1e-4, 1e-3] }; seed: { values: [0, 1, 2] }" \
        "scheduler: { name: $scheduler, min_steps: 4, eta: 3, min_trials: 2 }"
    started=$(seconds_now)
    run 0 mpirun -n 2 "$QZO" run $scheduler.yaml --out calm-$scheduler --threads 1
    length=$(calculate "$(seconds_now) - $started")
    run 0 "$QZO" report calm-$scheduler --csv
    mv stdout calm.csv
    for ((moment = 0; moment < moment_count; moment++)); do
        rm -rf out ended
        kill_after "$(calculate "$length * ($moment + 0.5) / $moment_count")"
        kill_after "$(calculate "$length * 0.4")"
        run 0 mpirun -n 2 "$QZO" run $scheduler.yaml --out out --threads 1
        run 0 "$QZO" report out --csv --check
        says_not stdout 'waiting|running'
        if [[ $scheduler == hyperband ]]; then
            same calm.csv stdout "hyperband's table after kills"
            same_journals calm-hyperband out "hyperband's journals after kills"
        fi
    done
    printf '%s: %s kills survived\n' $scheduler $((2 * moment_count))
done
