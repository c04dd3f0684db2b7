# ctest: timeout=300
# Damaged and missing files, folders that cannot be written, a full disk, live and stale locks: the
# right exit code, a message that names the file, and nothing lost.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures
train="steps: 20, batch: 16, samples_per_step: 2, evaluate_every: 10"
write_sweep good.yaml "$train" "learning_rate: { values: [1e-5, 1e-4] }"
run 0 "$QZO" run good.yaml --out calm
run 0 "$QZO" report calm --csv
mv stdout calm.csv
id=$(column calm.csv id | head -n 1)

# refused NAME CODE PATTERN: `run` of NAME.yaml ends so and says so.
refused() {
    run "$2" "$QZO" run "$1.yaml" --out "$1-out"
    says stderr "$3"
}

# damage FILE OFFSET: other bits in one byte.
damage() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ 0x55)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# --- model and task -------------------------------------------------------------------------------
cp -rL "$fixtures/tiny-llama" model
chmod -R u+w model
truncate -s -100 model/model.safetensors
sed "s|^model:.*|model: model|" good.yaml >short-model.yaml
refused short-model 2 'model\.safetensors'
sed "s|^model:.*|model: absent|" good.yaml >no-model.yaml
refused no-model 2 'absent'
head -c -1 "$fixtures/tiny-task.qzt" >short.qzt
sed "s|^task:.*|task: short.qzt|" good.yaml >short-task.yaml
refused short-task 2 'short\.qzt'
cp "$fixtures/tiny-task.qzt" damaged.qzt
chmod u+w damaged.qzt
damage damaged.qzt $(($(stat -c %s damaged.qzt) - 9))
sed "s|^task:.*|task: damaged.qzt|" good.yaml >damaged-task.yaml
refused damaged-task 2 'damaged\.qzt.*checksum'

# One of two swept tasks is damaged: its trial fails, the other one finishes.
grep -v '^task:' good.yaml | sed 's/^  learning_rate:.*/  learning_rate: { value: 1e-5 }/' >one.yaml
printf '  task: { values: [damaged.qzt, %s/tiny-task.qzt] }\n' "$fixtures" >>one.yaml
run 1 "$QZO" run one.yaml --out one-out
run 0 "$QZO" report one-out --csv
[[ $(column stdout status | tr '\n' ' ') == "failed finished " ]] ||
    fail "statuses of a damaged and a good task: $(column stdout status | tr '\n' ' ')"

# A task that is there and cannot be read, beside a good one: the same, and no fault of the machine.
mkdir folder.qzt
sed 's/damaged\.qzt/folder.qzt/' one.yaml >folder.yaml
for again in first second; do
    run 1 "$QZO" run folder.yaml --out folder-out
    run 0 "$QZO" report folder-out --csv
    [[ $(column stdout status | tr '\n' ' ') == "failed finished " ]] ||
        fail "statuses of an unreadable and a good task, $again run: $(column stdout status)"
done
sed "s|^task:.*|task: folder.qzt|" good.yaml >folder-task.yaml
refused folder-task 2 'folder\.qzt'

# --- the sweep file -------------------------------------------------------------------------------
sed 's/batch:/batchs:/' good.yaml >key.yaml
refused key 2 'key\.yaml:5:[0-9]+: .*batchs.*batch'
head -n 5 good.yaml | sed 's/ }$//' >open.yaml
refused open 2 'open\.yaml:[0-9]+:[0-9]+: '
: >empty.yaml
refused empty 2 'empty\.yaml'
run 2 "$QZO" run absent.yaml --out absent-out
says stderr 'absent\.yaml'
run 2 "$QZO" run folder.qzt --out folder-out
says stderr 'folder\.qzt'

# --- journals -------------------------------------------------------------------------------------
# resume WHAT: run again over `out`; it must end as it was.
resume() {
    run 0 "$QZO" run good.yaml --out out
    same_journals calm out "$1"
    run 0 "$QZO" report out --csv
    same calm.csv stdout "$1"
    rm -rf out
}
size=$(stat -c %s "calm/trials/$id.qzj")
cp -r calm out
damage "out/trials/$id.qzj" $((size / 2))
cp "out/trials/$id.qzj" damaged-journal
run 0 "$QZO" run good.yaml --out out
same damaged-journal "out/trials/$id.damaged" "what was kept of a damaged journal"
resume "a byte in the middle of a journal changed"
cp -r calm out
: >"out/trials/$id.qzj"
resume "an empty journal"
cp -r calm out
other=$(column calm.csv id | tail -n 1)
mv "out/trials/$other.qzj" "out/trials/$id.qzj"
run 1 "$QZO" run good.yaml --out out
says stderr "$id.*belongs to another trial"
same "calm/trials/$other.qzj" "out/trials/$id.qzj" "a journal under another trial's name"
same "calm/trials/$other.qzj" "out/trials/$other.qzj" "the trial beside it"
run 0 "$QZO" report out --csv
says stdout "^1,$id,failed,0,,,,,,,"
says stdout "^2,$other,finished,"
run 1 "$QZO" run good.yaml --out out
rm "out/trials/$id.qzj"
resume "a journal under another trial's name, removed"
cp -r calm out
rm out/store.sqlite
resume "no store"
cp -r calm out
printf 'not a database' >out/store.sqlite
resume "a damaged store"

# --- folders --------------------------------------------------------------------------------------
: >file
run 3 "$QZO" run good.yaml --out file/out
says stderr 'file/out'
run 3 "$QZO" run good.yaml --out /proc/qzo
says stderr '/proc/qzo'
if ((EUID != 0)); then
    mkdir closed
    chmod a-w closed
    run 3 "$QZO" run good.yaml --out closed/out
    says stderr 'closed/out'
    chmod u+w closed
fi
run 2 "$QZO" report nowhere
says stderr 'nowhere'
