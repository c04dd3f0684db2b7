# ctest: timeout=300
# A disk that fills up ends the run with exit code 3 and the file's name; with room again the same
# command goes on, and table and journals equal those of an undisturbed run. Where this user may not
# mount a small file system, a limit on the size of files stands in for it.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

write_sweep sweep.yaml "steps: 300, batch: 4, samples_per_step: 4" \
    "learning_rate: { values: [1e-5, 1e-4] }"
run 0 "$QZO" run sweep.yaml --out calm
run 0 "$QZO" report calm --csv
mv stdout calm.csv
journal_bytes=$(stat -c %s calm/trials/*.qzj | sort -n | tail -n 1)

# resumed HOW OUT
resumed() {
    run 0 "$QZO" run sweep.yaml --out "$2"
    same_journals calm "$2" "after $1"
    run 0 "$QZO" report "$2" --csv
    same calm.csv stdout "the table after $1"
}

# Half a journal, in blocks of 1024 bytes; SIGXFSZ ignored, so that write() says EFBIG.
limit_kib=$((journal_bytes / 2 / 1024))
((limit_kib >= 4)) || fail "a journal of $journal_bytes bytes is too short for this test"
run 3 bash -c 'trap "" XFSZ; ulimit -f "$1"; shift; exec "$@"' bash "$limit_kib" \
    "$QZO" run sweep.yaml --out limited
says stderr '\.qzj|limited'
resumed "a limit on the size of files" limited

mkdir disk
if ! mount -t tmpfs -o size=1m tmpfs disk 2>/dev/null; then
    printf 'note: no right to mount, only the size limit was tried\n'
    exit 0
fi
trap 'umount -l "$WORK/disk"; remove_work' EXIT
# All but 24 KiB are taken.
head -c $((1000 * 1024)) /dev/zero >disk/filler
run 3 "$QZO" run sweep.yaml --out disk/out
says stderr 'disk/out'
rm disk/filler
resumed "a full disk" disk/out
