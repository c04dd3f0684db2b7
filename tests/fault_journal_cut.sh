# ctest: timeout=600
# A journal cut at every byte of its last two steps, and of what follows them, opens again, loses
# whole frames only, and ends equal to the one that was never cut.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

write_sweep sweep.yaml "steps: 4, batch: 4, samples_per_step: 1" "learning_rate: { values: [1e-4] }"
run 0 "$QZO" run sweep.yaml --out calm
run 0 "$QZO" report calm --csv
mv stdout calm.csv
id=$(column calm.csv id)
trial=$(column calm.csv trial)
size=$(stat -c %s "calm/trials/$id.qzj")

# copy_cut BYTES: the folder `out` with the journal's first BYTES bytes.
copy_cut() {
    rm -rf out
    cp -r calm out
    truncate -s "$1" "out/trials/$id.qzj"
}

cuts=0
for ((cut = size - 1; cut > 0; cut--)); do
    copy_cut "$cut"
    steps=$(steps_of out "$trial")
    ((steps >= 2)) || break
    run 0 "$QZO" run sweep.yaml --out out
    same_journals calm out "the journal cut at byte $cut of $size, with $steps steps left"
    run 0 "$QZO" report out --csv
    same calm.csv stdout "the table after a cut at byte $cut"
    cuts=$((cuts + 1))
done
((cuts > 100)) || fail "only $cuts cuts: the last two steps are longer than that"
printf '%s cuts, journal of %s bytes\n' "$cuts" "$size"

# Nothing but zeros after the last frame, as some file systems leave it when the power fails.
copy_cut "$size"
truncate -s $((size - 40)) "out/trials/$id.qzj"
truncate -s $((size + 400)) "out/trials/$id.qzj"
run 0 "$QZO" run sweep.yaml --out out
same_journals calm out "a tail of zeros"
