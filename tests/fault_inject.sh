# ctest: timeout=180
# Every kind of --inject-fault that a trial meets: what the run says, its exit code, and that
# running it again gives the journals of an undisturbed run. Two ranks work on one trial; a second
# trial follows.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi

write_sweep sweep.yaml "steps: 12, batch: 8, samples_per_step: 3, evaluate_every: 4" \
    "learning_rate: { values: [1e-5, 1e-4] }" "ranks_per_trial: all"
job() { mpirun -n 2 "$QZO" run sweep.yaml --threads 1 "$@"; }
run 0 job --out undisturbed
run 0 "$QZO" report undisturbed --csv
cp stdout undisturbed.csv

# again WHAT: after a fault, the same command finishes with the undisturbed journals and table.
again() {
    run 0 job --out out
    same_journals undisturbed out "$1"
    run 0 "$QZO" report out --csv
    same undisturbed.csv stdout "$1"
    rm -rf out
}

# Survived within the run.
run 0 job --out out --inject-fault delay:1@3
again "a slow rank"
for rank in 0 1; do
    run 0 job --out out --inject-fault corrupt:$rank@5
    says stderr "the scales of rank $rank are not those that the last update left"
    again "a corrupted value of rank $rank"
done
run 0 "$QZO" run sweep.yaml --out out --inject-fault corrupt:0@5
says stderr "replay"
again "a corrupted value without other ranks to compare with"

# The job ends; what it had written is continued.
run 137 job --out out --inject-fault kill:1@6
again "a killed rank"
for rank in 0 1; do # 5: steps follow; 8: an evaluation; 12: the test and the end of the trial
    for step in 5 8 12; do
        run 3 job --out out --inject-fault update-error:$rank@$step
        says stderr "the update of step $step failed"
        again "an update that failed on rank $rank in step $step"
    done
done
run 3 job --out out --inject-fault write-error:0@20
says stderr "No space left"
again "a failed write"
run 0 job --out out
run 0 job --out out --inject-fault short-read:0@6
again "a short read"

# The loss itself: the trial is marked, the next one runs, nothing is repeated.
for kind in nan-loss zero-loss; do
    run 1 job --out out --inject-fault $kind:1@4
    run 0 "$QZO" report out --csv
    [[ $(column stdout status | tr '\n' ' ') == "diverged finished " ]] || fail "$kind: $(<stdout)"
    [[ $(column stdout steps | tr '\n' ' ') == "4 12 " ]] || fail "$kind: $(<stdout)"
    cp stdout table.csv
    run 1 job --out out
    run 0 "$QZO" report out --csv
    same table.csv stdout "$kind, run again"
    run 0 "$QZO" replay out 1 --check
    rm -rf out
done

run 2 "$QZO" run sweep.yaml --out out --inject-fault explode:0@1
says stderr "expected KIND:RANK@AT"
