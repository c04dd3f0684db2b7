# ctest: timeout=180
# Ranks with nothing to do hear what happens all the same. Rank 0 of a group without a unit of its
# own notices that its journal cannot be written; a rank of a group that waits for work parks the
# job; the last line names what stopped another group, not what this one did then.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

# --- two units for three ranks, every write of the run fails once ---------------------------------
write_sweep few.yaml "steps: 4, batch: 4, samples_per_step: 1, evaluate_every: 4" \
    "learning_rate: { value: 1e-4 }" "ranks_per_trial: all"
run 0 "$QZO" run few.yaml --out calm
for write in 8 9 10 11 12 13 14; do
    rm -rf out
    mpirun -n 3 "$QZO" run few.yaml --out out --inject-fault "write-error:0@$write" >job.out 2>&1
    code=$?
    ((code == 3)) || fail "write $write failed, and the run left with $code, expected 3"
    run 0 mpirun -n 3 "$QZO" run few.yaml --out out
    same_journals calm out "write $write failed"
done

# --- an error in one group, parking in the other --------------------------------------------------
write_sweep two.yaml "steps: 3000, batch: 4, samples_per_step: 4" \
    "learning_rate: { values: [1e-5, 1e-4] }"
run 3 mpirun -n 2 "$QZO" run two.yaml --out two --inject-fault write-error:1@20
says stderr '^qzo: .*qzj: cannot write'

# --- SIGTERM to the last rank of a group that has no trial ----------------------------------------
write_sweep one.yaml "steps: 20000, batch: 4, samples_per_step: 2" \
    "learning_rate: { value: 1e-4 }" "ranks_per_trial: 2"
cat >rank <<'RANK'
trap '' TERM
"$@" &
echo $! >"process-$OMPI_COMM_WORLD_RANK"
wait $!
RANK
mpirun -n 4 bash rank "$QZO" run one.yaml --out one >job.out 2>job.err &
job_process=$!
JOBS=("$job_process")
until (($(steps_of one 1) > 5)); do
    kill -0 "$job_process" 2>/dev/null || fail "the job ended early: $(tail -n 5 job.err)"
done
kill -TERM "$(<process-3)"
wait "$job_process"
code=$?
JOBS=()
((code == 75)) || fail "mpirun left with $code, expected 75: $(tail -n 5 job.err)"
(($(steps_of one 1) < 20000)) || fail "the trial ran to its end"
