# ctest: timeout=120
# Slices of one sweep share an output folder, at the same time and one after another: the table and
# the journals are those of one whole run. What would overlap is refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

write_sweep sweep.yaml "steps: 20, batch: 16, samples_per_step: 2" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1, 2] }"
run 0 "$QZO" run sweep.yaml --out calm --threads 1
run 0 "$QZO" report calm --csv
mv stdout calm.csv

for slice in 1 2 3 4; do
    "$QZO" run sweep.yaml --out out --threads 1 --slice "$slice/4" >"slice-$slice" 2>&1 &
    JOBS+=("$!")
done
for process in "${JOBS[@]}"; do
    wait "$process" || fail "a slice left with $?: $(tail -n 3 slice-?)"
done
JOBS=()
[[ ! -e out/store.sqlite ]] || fail "a slice built the view that all of them share"
run 0 "$QZO" report out --csv
same calm.csv stdout "the table of four slices"
same_journals calm out "the journals of four slices"
[[ -s out/store.sqlite ]] || fail "qzo report did not build the view of the slices"
run 0 "$QZO" run sweep.yaml --out out --slice 2/4
says stdout 'All 2 trials of the slice had ended already: nothing to do'
run 0 "$QZO" run sweep.yaml --out out
says stdout 'All 6 trials had ended already: nothing to do'

for wrong in 0/4 5/4 1 1/ /4 1/4x a/b 1/0 1/99999999; do
    run 2 "$QZO" run sweep.yaml --out wrong --slice "$wrong"
    says stderr '--slice: expected I/N with I from 1 to N'
done
[[ ! -e wrong ]] || fail "a refused slice made an output folder"

# One slice runs; what overlaps with it waits for nobody and changes nothing.
write_sweep long.yaml "steps: 100000, batch: 16" "seed: { values: [0, 1, 2, 3] }"
"$QZO" run long.yaml --out busy --threads 1 --slice 1/2 >busy.log 2>&1 &
JOBS=("$!")
until [[ -e busy/lock-1-of-2 && -n $(ls busy/trials 2>/dev/null) && ! -e busy/lock ]]; do
    kill -0 "${JOBS[0]}" || fail "the slice ended: $(tail -n 3 busy.log)"
done
run 3 "$QZO" run long.yaml --out busy
says stderr 'slice 1/2 of this folder is running'
run 3 "$QZO" run long.yaml --out busy --slice 1/3
says stderr 'slice 1/2 of this folder is running'
run 3 "$QZO" run long.yaml --out busy --slice 1/2
says stderr 'lock-1-of-2: another run writes to this folder'
run 3 "$QZO" run sweep.yaml --out busy --slice 2/2
says stderr 'other slices run there, of a sweep file with other trials'
run 0 "$QZO" report busy --csv
(($(column stdout status | grep -c running) == 1)) || fail "not one trial runs: $(<stdout)"
kill -TERM "${JOBS[0]}"
wait "${JOBS[0]}"
(($? == 75)) || fail "a parked slice left without 75"
JOBS=()
