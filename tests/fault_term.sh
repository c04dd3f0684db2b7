# ctest: timeout=120
# SIGTERM to one rank parks the whole job: every rank leaves with 75 and so does mpirun; run again,
# table and journals equal those of an undisturbed run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

write_sweep sweep.yaml "steps: 200, batch: 16, samples_per_step: 2, evaluate_every: 100" \
    "learning_rate: { values: [1e-5, 1e-4] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out calm
run 0 "$QZO" report calm --csv
mv stdout calm.csv

# Each rank says its process id and, at the end, its exit code.
cat >rank <<'RANK'
trap '' TERM
"$@" &
echo $! >"process-$OMPI_COMM_WORLD_RANK.tmp"
mv "process-$OMPI_COMM_WORLD_RANK.tmp" "process-$OMPI_COMM_WORLD_RANK"
wait $!
code=$?
echo $code >"code-$OMPI_COMM_WORLD_RANK"
exit $code
RANK

# park RANK RANKS_PER_TRIAL
park() {
    rm -rf out code-* process-*
    sed "s/^train:/ranks_per_trial: $2\ntrain:/" sweep.yaml >wide.yaml
    mpirun -n 2 bash rank "$QZO" run wide.yaml --out out >job.out 2>job.err &
    job_process=$!
    JOBS=("$job_process")
    until (($(steps_of out "$first") > 5)); do
        kill -0 "$job_process" 2>/dev/null || fail "the job ended early: $(tail -n 5 job.err)"
    done
    kill -TERM "$(<"process-$1")"
    wait "$job_process"
    code=$?
    JOBS=()
    ((code == 75)) || fail "mpirun left with $code, expected 75: $(tail -n 5 job.err)"
    for rank in 0 1; do
        [[ $(<"code-$rank") == 75 ]] || fail "rank $rank left with $(<"code-$rank"), expected 75"
    done
    (($(steps_of out "$first") < 200)) || fail "nothing was left to do: SIGTERM came too late"
    run 0 mpirun -n 2 "$QZO" run wide.yaml --out out
    run 0 "$QZO" report out --csv
    same calm.csv stdout "the table after SIGTERM to rank $1, $2 ranks per trial"
    same_journals calm out "the journals after SIGTERM to rank $1, $2 ranks per trial"
}

first=$(column calm.csv trial | head -n 1)
park 0 1
park 1 1
park 1 all
