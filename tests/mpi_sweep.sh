# ctest: timeout=120
# A finished folder is left as it is; a changed sweep says which trials are new and which are no
# longer asked for, keeps every result and computes only what is missing.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

train="steps: 10, batch: 16, samples_per_step: 2"
write_sweep sweep.yaml "$train" "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
cp stdout first.csv
(($(wc -l <first.csv) == 5)) || fail "the table has $(wc -l <first.csv) lines, expected 5"
same sweep.yaml out/sweep.yaml "the copy of the sweep file"

# stamps DIR: name, time of the last change and size of every journal.
stamps() { stat -c '%n %y %s' "$1"/trials/*.qzj; }
stamps out >before
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
cat stdout stderr >said
says said 'nothing to do'
stamps out >after
same before after "journals of a finished folder"
run 0 "$QZO" report out --csv
same first.csv stdout "the table of a finished folder"

# One seed goes, one learning rate comes: two trials stay, one is new, two are no longer asked for.
write_sweep sweep.yaml "$train" \
    "learning_rate: { values: [1e-5, 1e-4, 3e-5] }; seed: { values: [0] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
cat stdout stderr >said
says said '1 (trial is )?new'
says said '2 .*no longer asked for'
for id in $(awk -F, 'NR > 1 && $NF == 1 { print $2 }' first.csv); do
    says said "$id"
    [[ -s out/trials/$id.qzj ]] || fail "the journal of trial $id, no longer asked for, is gone"
done
run 0 "$QZO" report out --csv
(($(wc -l <stdout) == 4)) || fail "the table has $(wc -l <stdout) lines, expected 4"
says_not stdout 'waiting|running'
stamps out >after
while read -r line; do
    grep -qF -- "$line" after || fail "a journal was touched: $line"
done <before

# The first sweep again: nothing is computed, since nothing was lost.
write_sweep sweep.yaml "$train" "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }"
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
cat stdout stderr >said
says said ' 0 new trials, 2 asked for again, 1 no longer asked for'
says said 'asked for again, results kept: '
says_not said 'new trial: '
run 0 "$QZO" report out --csv
same first.csv stdout "the table of the first sweep"
stamps out >later
same after later "journals after the first sweep came back"
