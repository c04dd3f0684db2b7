# ctest: timeout=120
# A live lock refuses a second run; a stale one, left by a job that was killed, is taken over with a
# line in the log.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

write_sweep sweep.yaml "steps: 2000, batch: 16, samples_per_step: 2" \
    "learning_rate: { values: [1e-5] }"
"$QZO" run sweep.yaml --out out >job.out 2>job.err &
job=$!
JOBS=("$job")
until (($(steps_of out 1) > 5)); do
    kill -0 "$job" 2>/dev/null || fail "the job ended early: $(tail -n 5 job.err)"
done
run 3 "$QZO" run sweep.yaml --out out
says stderr "$job"
# Reading is allowed all the same.
run 0 "$QZO" report out --csv
kill -0 "$job" 2>/dev/null || fail "the job ended before the second run was tried"

kill_job "$job"
JOBS=()
[[ -e out/lock ]] || fail "a killed job leaves no lock: this test shows nothing"
# A shorter sweep, so that the test does not wait for the long one.
write_sweep sweep.yaml "steps: 5, batch: 16, samples_per_step: 2" \
    "learning_rate: { values: [1e-5] }"
run 0 "$QZO" run sweep.yaml --out out
cat stderr out/log/*.log >said
says said 'lock'
[[ ! -e out/lock ]] || fail "the lock outlives a finished run"
