# ctest: timeout=900
# Every scheduler on real trials: the decisions agree with the journals, hyperband's table and
# journals are the same for any number of ranks, survivors have the journals of an unscheduled
# sweep up to their end, and what would mix decisions is refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

parameters="learning_rate: { values: [1e-6, 1e-5, 1e-4, 1e-3] }; seed: { values: [0, 1, 2] }"
train="steps: 18, batch: 8, evaluate_every: 2, schedule: cosine"
write_sweep fifo.yaml "$train" "$parameters"
run 0 "$QZO" run fifo.yaml --out fifo --threads 1
run 0 "$QZO" report fifo --check

# A stopped trial's journal is that of the whole trial up to its rung, but for its END: the learning
# rate counts the trial's own steps.
prefixes_of_fifo() {
    local trial
    for trial in $(column "$1.csv" trial); do
        "$QZO" journal "$1" "$trial" --csv >part.csv || fail "no journal of trial $trial"
        "$QZO" journal fifo "$trial" --csv | head -n "$(wc -l <part.csv)" >whole.csv
        same whole.csv part.csv "trial $trial of $1"
    done
}

for scheduler in hyperband asha median; do
    write_sweep $scheduler.yaml "$train" "$parameters" \
        "scheduler: { name: $scheduler, min_steps: 2, eta: 3, min_trials: 2 }"
    run 0 mpirun -n 2 "$QZO" run $scheduler.yaml --out $scheduler --threads 1
    run 0 "$QZO" report $scheduler --csv --check
    says stderr 'events of decisions.qzj agree with the journals of 12 trials'
    mv stdout $scheduler.csv
    says $scheduler.csv ',finished,18,'
    says $scheduler.csv ',stopped,'
    says_not $scheduler.csv 'waiting|running'
    prefixes_of_fifo $scheduler
    run 0 "$QZO" report $scheduler
    says stdout "stopped: by $scheduler at rung"
    run 0 "$QZO" run $scheduler.yaml --out $scheduler
    says stdout 'nothing to do'
done
[[ $(column hyperband.csv status | grep -c finished) == 1 ]] || fail "not one trial was left"
[[ $(column hyperband.csv steps | sort -n | uniq -c | awk '{ printf "%s:%s ", $2, $1 }') == \
    "2:8 6:3 18:1 " ]] || fail "hyperband's rungs: $(column hyperband.csv steps)"

for ranks in 1 3; do
    run 0 mpirun -n $ranks "$QZO" run hyperband.yaml --out "ranks-$ranks" --threads 1
    run 0 "$QZO" report "ranks-$ranks" --csv
    same hyperband.csv stdout "hyperband's table on $ranks ranks"
    same_journals hyperband "ranks-$ranks" "hyperband's journals on $ranks ranks"
done

# Survivors get the ranks of those that were stopped: 4 x 1, then 3 of 1, then 1 of 4.
run 0 mpirun -n 4 "$QZO" run hyperband.yaml --out grown --threads 1
says stderr '4 ranks per trial from here on'
run 0 "$QZO" report grown --csv
same hyperband.csv stdout "hyperband's table with groups that grow"
same_journals hyperband grown "hyperband's journals with groups that grow"
id=$(awk -F, '$3 == "finished" { print $2 }' hyperband.csv)
ranks=$(grep -o '"ranks": [0-9]*' "grown/timing/$id.jsonl" | sort -u | tr -dc '0-9\n')
[[ $ranks == $'1\n4' ]] || fail "the last trial's ranks: $ranks"

# Every rank takes the trials of one model one after another, however the table mixes them.
for model in a b; do cp -r "$QZO_SOURCE/tests/fixtures/tiny-llama" $model; done
sed -i '1s/{/{ "note": 1,/' b/config.json # another model by its contents
write_sweep models.yaml "steps: 2, batch: 4" \
    "seed: { values: [0, 1, 2] }; model: { values: [a, b] }"
sed -i '/^model:/d' models.yaml
run 0 "$QZO" run models.yaml --out models --threads 1
order=$(grep -oE 'trial [0-9]/6 finished' stderr | cut -c7 | tr -d '\n')
[[ $order == 135246 ]] || fail "the order of the trials: $order"
says stderr 'models: 2 loaded 2 times on 1 ranks, at most 1 at a time on each'

# At every rung again, unless the plan has room for both.
write_sweep both.yaml "steps: 4, batch: 4, evaluate_every: 1" \
    "seed: { values: [0, 1, 2, 3] }; model: { values: [a, b] }" \
    "scheduler: { name: hyperband, min_steps: 1, eta: 2 }"
sed -i '/^model:/d' both.yaml
run 0 "$QZO" run both.yaml --out apart --threads 1
loads=$(grep -oE 'models: 2 loaded [0-9]+' stderr | tail -c 2)
((loads > 2)) || fail "without a limit $loads loads"
need=$("$QZO" plan both.yaml --json --threads 1 | grep '"sum"' | tr -dc 0-9)
run 0 "$QZO" plan both.yaml --threads 1 --memory-limit $((2 * need))
says stdout '2 models: a rank keeps 2 loaded'
run 0 "$QZO" plan both.yaml --threads 1 --memory-limit $((2 * need - 1))
says stdout '2 models: a rank keeps 1 loaded'
run 0 "$QZO" run both.yaml --out together --threads 1 --memory-limit $((2 * need))
says stderr 'models: 2 loaded 2 times on 1 ranks, at most 2 at a time on each'
same_journals apart together "the journals with both models loaded"

# What trains decides how a model is loaded: such trials stand together as well.
write_sweep groups.yaml "steps: 2, batch: 4" \
    "seed: { values: [0, 1] }; groups: { values: [scales, scales+unquantized] }"
run 0 "$QZO" run groups.yaml --out groups --threads 1
says stderr 'models: 2 loaded 2 times on 1 ranks'

# A trial that diverges ranks last and stops nobody.
run 1 "$QZO" run hyperband.yaml --out diverged --threads 1 --inject-fault nan-loss:0@1
run 1 "$QZO" run hyperband.yaml --out diverged
run 0 "$QZO" report diverged --csv --check
[[ $(column stdout status | sort | uniq -c | awk '{ printf "%s:%s ", $2, $1 }') == \
    "diverged:1 finished:1 stopped:10 " ]] || fail "with one that diverged: $(<stdout)"

# So does one whose loss collapses to exactly 0, whatever the scheduler.
for scheduler in hyperband asha median; do
    run 1 "$QZO" run $scheduler.yaml --out "zero-$scheduler" --threads 1 \
        --inject-fault zero-loss:0@1
    run 0 "$QZO" report "zero-$scheduler" --csv --check
    [[ $(column stdout status | grep -c diverged) == 1 ]] || fail "$scheduler: not one diverged"
    says stdout ',diverged,1,'
    says stdout ',finished,18,'
done

# One whose journal is another trial's fails alone, as without rungs.
id=$(column hyperband.csv id | head -n 1) other=$(column hyperband.csv id | tail -n 1)
for scheduler in hyperband asha; do
    mkdir -p "wrong-$scheduler/trials"
    cp "fifo/trials/$other.qzj" "wrong-$scheduler/trials/$id.qzj"
    run 1 "$QZO" run $scheduler.yaml --out "wrong-$scheduler" --threads 1
    says stderr "$id.*belongs to another trial"
    run 1 "$QZO" run $scheduler.yaml --out "wrong-$scheduler" --threads 1
    run 0 "$QZO" report "wrong-$scheduler" --csv --check
    says stdout "^1,$id,failed,0,"
    says stdout ',finished,18,'
    says_not stdout 'waiting|running'
    same "fifo/trials/$other.qzj" "wrong-$scheduler/trials/$id.qzj" "the journal of another trial"
done

# Nor is that journal ended as if it were the one that the scheduler had stopped.
cp -r hyperband wrong-stopped
mapfile -t ids < <(awk -F, '$3 == "stopped" && $4 == 2 { print $2 }' hyperband.csv)
size=$(stat -c %s "hyperband/trials/${ids[1]}.qzj")
head -c $((size - 40)) "hyperband/trials/${ids[1]}.qzj" >unended # the last frame is its END
cp unended "wrong-stopped/trials/${ids[0]}.qzj"
run 1 "$QZO" run hyperband.yaml --out wrong-stopped --threads 1
says stderr "${ids[0]}.*belongs to another trial; it is left as it is"
same unended "wrong-stopped/trials/${ids[0]}.qzj" "the journal of another trial, not ended"
run 0 "$QZO" report wrong-stopped --csv
says stdout ",${ids[0]},failed,0,"

# What waits at a rung is not shown as running: one rank works on one trial.
write_sweep slow.yaml "steps: 18, batch: 16, samples_per_step: 8, evaluate_every: 2" "$parameters" \
    "scheduler: hyperband"
"$QZO" run slow.yaml --out slow --threads 1 >slow.out 2>slow.err &
slow_run=$! at_rung=0
while kill -0 "$slow_run" 2>/dev/null; do
    "$QZO" status slow --json >status 2>/dev/null || continue
    (($(grep -c '"status": "running"' status) <= 1)) || fail "two run on one rank: $(<status)"
    ! tr -d '\n' <status | grep -qE '"status": "waiting", *"steps": [1-9]' || at_rung=1
done
wait "$slow_run" || fail "the slow sweep failed: $(<slow.err)"
((at_rung > 0)) || fail "no trial was seen waiting at a rung"

run 2 "$QZO" run asha.yaml --out hyperband
says stderr 'holds trials of scheduler hyperband'
run 2 "$QZO" run fifo.yaml --out hyperband
says stderr 'expected the same trials and settings of the scheduler'
run 2 "$QZO" run asha.yaml --out other --slice 1/2
says stderr 'expected scheduler fifo, found asha'
run 2 "$QZO" run asha.yaml --out asha --retry failed
says stderr 'expected scheduler fifo, found asha'
write_sweep unlike.yaml "batch: 8, evaluate_every: 2" "steps: { values: [18, 20] }" \
    "scheduler: asha"
run 2 "$QZO" run unlike.yaml --out other
says stderr 'expected trials with equal steps'

# A journal that goes on behind the rung where the decisions stopped it is found.
trial=$(awk -F, '$3 == "stopped" { print $1; exit }' hyperband.csv)
id=$(awk -F, '$3 == "stopped" { print $2; exit }' hyperband.csv)
cp "fifo/trials/$id.qzj" "ranks-1/trials/$id.qzj"
run 70 "$QZO" report ranks-1 --check
says stderr "trial $trial \($id\) is stopped by the decisions, finished by its journal"

# A job that is about to end starts no rung after the first, whose time it does not know yet.
run 75 "$QZO" run hyperband.yaml --out short --threads 1 --end-time "$(date +%s)"
says stderr 'would not end before the job'
# The next start knows it from timing/: at 100 s per step none of 2 steps ends in 150 s.
begun=$(find short/trials -name '*.qzj' | wc -l)
for moment in '"started", "step": 0, "ranks": 1, "seconds": 0' \
    '"rung", "step": 2, "ranks": 1, "seconds": 200'; do
    printf '{"event": %s.5, "step_seconds": 0}\n' "$moment" >>"short/timing/$id.jsonl"
done
run 75 "$QZO" run hyperband.yaml --out short --threads 1 --end-time "$(($(date +%s) + 150))"
says stderr '2 steps would not end before the job'
[[ $(find short/trials -name '*.qzj' | wc -l) == "$begun" ]] || fail "a rung was started"
rm "short/timing/$id.jsonl"
run 0 "$QZO" run hyperband.yaml --out short --threads 1 --end-time "$(($(date +%s) + 3600))"
run 0 "$QZO" report short --csv --check
same hyperband.csv stdout "the table of a job that had to stop early"
