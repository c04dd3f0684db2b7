# ctest: timeout=300
# The trajectory does not depend on the ranks: the same journals, byte for byte, from 1 to 6 ranks
# per trial at 5 samples per step, alone and under mpirun, with 1 and 2 threads per rank; and with
# one sample per step, where the units of a sample are dealt instead.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

# compare NAME TRAIN RANKS...: journals of every count of ranks against one process alone.
compare() {
    local name=$1 train=$2 count
    shift 2
    write_sweep "$name.yaml" "$train" \
        "learning_rate: { values: [1e-4] }; seed: { values: [0, 3] }" "ranks_per_trial: all"
    run 0 "$QZO" run "$name.yaml" --out "$name-alone" --threads 1
    run 0 "$QZO" run "$name.yaml" --out "$name-threads" --threads 2
    same_journals "$name-alone" "$name-threads" "$name: 1 and 2 threads"
    for count in "$@"; do
        run 0 mpirun -n "$count" "$QZO" run "$name.yaml" --out "$name-$count" --threads 1
        same_journals "$name-alone" "$name-$count" "$name: alone and $count ranks"
    done
    run 0 mpirun -n 2 "$QZO" run "$name.yaml" --out "$name-2x2" --threads 2
    same_journals "$name-alone" "$name-2x2" "$name: alone and 2 ranks of 2 threads"
}

train="steps: 12, batch: 16, micro_batch: 4, evaluate_every: 6"
compare five "$train, samples_per_step: 5" 1 2 3 4 6
compare one "$train, samples_per_step: 1" 2 3 4

# One rank per trial: the groups take trials as they get free, which must not show either.
sed 's/^ranks_per_trial: all/ranks_per_trial: 1/' five.yaml >groups.yaml
run 0 mpirun -n 3 "$QZO" run groups.yaml --out groups --threads 1
same_journals five-alone groups "alone and groups of one rank"
