# ctest: timeout=120
# --transport on CPU ranks: `mpi` and `auto` are the same journals, `nccl` is refused before the
# folder is touched and says who has no GPU; the bytes that travelled are those of the records; a
# world of two builds is refused by rank and host.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
host=$(uname -n)

write_sweep sweep.yaml "steps: 6, batch: 4, samples_per_step: 2, evaluate_every: 6" \
    "learning_rate: { value: 1e-4 }" "ranks_per_trial: all"
run 0 "$QZO" run sweep.yaml --out alone --backend cpu
for transport in auto mpi; do
    run 0 mpirun -n 2 "$QZO" run sweep.yaml --out $transport --backend cpu --transport $transport
    same_journals alone $transport "alone and --transport $transport"
    says stderr '2 ranks sent [0-9]+ bytes over mpi; rank [01] waited longest'
    says_not stderr NCCL
    says $transport/timing/*.jsonl '"event": "finished".*"transport": "mpi"'
done

# A rank sends a record of 32 bytes per step, and what does not grow with the steps.
sent_of() {
    run 0 mpirun -n 2 "$QZO" run "$1.yaml" --out "$1" --backend cpu
    sed -n 's/.*"event": "finished".*"bytes_sent": \([0-9]*\).*/\1/p' "$1"/timing/*.jsonl
}
for steps in 10 30; do
    write_sweep $steps.yaml "steps: $steps, batch: 4, samples_per_step: 2, evaluate_every: $steps" \
        "learning_rate: { value: 1e-4 }" "ranks_per_trial: all"
done
first=$(sent_of 10) second=$(sent_of 30)
((second - first == 20 * 32)) || fail "20 steps more send $((second - first)) bytes, expected 640"

for count in 1 2; do
    run 3 mpirun -n $count "$QZO" run sweep.yaml --out refused --backend cpu --transport nccl
    says stderr "NCCL carries records between GPUs: rank 0 on $host has none, .*\"cpu "
    [[ ! -e refused ]] || fail "a refused transport left the folder"
done
run 3 "$QZO" run sweep.yaml --out refused --backend cpu --transport nccl
run 2 "$QZO" run sweep.yaml --out refused --transport pigeon
says stderr "expected auto\|nccl\|mpi, found 'pigeon'"

# The same program but for its commit, which stands in it as text.
commit=$("$QZO" --version | sed -n 's/^commit //p')
if [[ $commit =~ ^[0-9a-f]{12}$ ]]; then
    other=$(tr 0-9a-f 1-9a-f0 <<<"$commit")
    sed "s/$commit/$other/g" "$QZO" >other-qzo
    chmod +x other-qzo
    run 3 mpirun -n 1 "$QZO" run sweep.yaml --out mixed --backend cpu : \
        -n 1 "$PWD/other-qzo" run sweep.yaml --out mixed --backend cpu
    says stderr "rank 0 on $host is qzo \".*$commit, .*\", rank 1 on $host is qzo \".*$other, "
    [[ ! -e mixed ]] || fail "a refused mixture left the folder"
fi

# The same commit linked from the same parts in another way. A bundle has no parts.
link_file=$QZO_BUILD/CMakeFiles/qzo.dir/link.txt
[[ -e $link_file || -e $QZO_BUILD/build.ninja ]] || exit 0
link=$(cat "$link_file" 2>/dev/null ||
    ninja -C "$QZO_BUILD" -t commands qzo | grep -E -- ' -o qzo( |$)')
(cd "$QZO_BUILD" && eval "${link/ -o qzo / -o "$WORK/rebuilt-qzo" -Wl,-z,norelro }") ||
    fail "cannot link the program anew: $link"
build=$("$QZO" --version | sed -n 's/^build //p')
other=$(./rebuilt-qzo --version | sed -n 's/^build //p')
[[ $build =~ ^[0-9a-f]{16}$ && $other != "$build" ]] || fail "builds '$build' and '$other'"
run 3 mpirun -n 1 "$QZO" run sweep.yaml --out mixed --backend cpu : \
    -n 1 "$PWD/rebuilt-qzo" run sweep.yaml --out mixed --backend cpu
says stderr "rank 0 on $host is qzo \".*$build.*\", rank 1 on $host is qzo \".*$other.*\""
[[ ! -e mixed ]] || fail "a refused mixture of builds left the folder"
run 3 mpirun -n 1 "$QZO" doctor : -n 1 "$PWD/rebuilt-qzo" doctor
says stdout "^problem +libraries"
says stdout "rank 1 on $host is qzo \".*$other"
