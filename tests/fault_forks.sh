# ctest: timeout=300
# A rank that fails where it takes over a fork, wherever it stands: as rank 0, at the head of a
# group or inside one, waiting or in a trial. The others hear of it, the job ends at once, and the
# next start goes on to the table of an undisturbed run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

SECONDS_MAX=60 # of a run that takes a few; one that hangs takes all of them

write_sweep alone.yaml "steps: 12, batch: 8, evaluate_every: 2" \
    "learning_rate: { values: [1e-5, 1e-4, 1e-3] }; seed: { values: [0, 1] }" \
    "scheduler: { name: pbt, interval: 2, quantile: 0.34 }"
sed '/^name:/a ranks_per_trial: 2' alone.yaml >pairs.yaml
run 0 "$QZO" run alone.yaml --out calm --threads 1
run 0 "$QZO" report calm --csv --check
mv stdout calm.csv

# fails_at SWEEP RANKS RANK FORK
fails_at() {
    rm -rf out
    run 3 timeout "$SECONDS_MAX" mpirun -n "$2" "$QZO" run "$1.yaml" --out out --threads 1 \
        --inject-fault "fork-error:$3@$4"
    says stderr 'no memory for a fork'
    run 0 "$QZO" report out --check
    run 0 mpirun -n "$2" "$QZO" run "$1.yaml" --out out --threads 1
    run 0 "$QZO" report out --csv --check
    same calm.csv stdout "the table of $1 on $2 ranks after rank $3 failed at fork $4"
    same_journals calm out "the journals of $1 on $2 ranks after rank $3 failed at fork $4"
}
for fork in 1 4; do
    for rank in 0 1 2; do fails_at alone 3 "$rank" "$fork"; done
    for rank in 1 2 3; do fails_at pairs 4 "$rank" "$fork"; done
done
