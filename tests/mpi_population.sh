# ctest: timeout=900
# Population based training on real trials: the same forks, table and journals on any number of
# ranks and after kills; a fork is its origin up to where it was forked, and every command reads it.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
need_mpi

perturbed="[learning_rate, eps]"
write_sweep pbt.yaml "steps: 20, batch: 8, evaluate_every: 2" \
    "learning_rate: { values: [1e-6, 1e-5, 1e-4, 1e-3] }; seed: { values: [0, 1] }" \
    "scheduler: { name: pbt, interval: 4, quantile: 0.25, factors: [0.5, 2], perturb: $perturbed }"
started=$(seconds_now)
run 0 "$QZO" run pbt.yaml --out one --threads 1
length=$(calculate "$(seconds_now) - $started")
run 0 "$QZO" report one --csv --check
says stderr 'events of decisions.qzj agree with the journals of 16 trials'
mv stdout one.csv
[[ $(column one.csv status | sort | uniq -c | awk '{ printf "%s:%s ", $2, $1 }') == \
    "finished:8 stopped:8 " ]] || fail "not 2 of 8 forked at each of 4 rungs: $(<one.csv)"
for ranks in 2 3; do
    run 0 mpirun -n $ranks "$QZO" run pbt.yaml --out "ranks-$ranks" --threads 1
    run 0 "$QZO" report "ranks-$ranks" --csv --check
    same one.csv stdout "the table on $ranks ranks"
    same_journals one "ranks-$ranks" "the journals on $ranks ranks"
done
sed '/^name:/a ranks_per_trial: 2' pbt.yaml >pairs.yaml # the last group has one rank
run 0 mpirun -n 3 "$QZO" run pairs.yaml --out pairs --threads 1
run 0 "$QZO" report pairs --csv --check
same one.csv stdout "the table with two ranks per trial"
same_journals one pairs "the journals with two ranks per trial"

# Each fork, by the report: its records up to the fork are those of its origin, its learning rate
# is that of the origin times one of the factors, and its scales are rebuilt.
run 0 "$QZO" report one
grep -oE 'trial [0-9]+ goes on from trial [0-9]+ after step [0-9]+' stdout >forks
[[ $(wc -l <forks) == 8 ]] || fail "not 8 forks: $(<forks)"
rate_of() { awk -F, -v trial="$1" '$1 == trial { print $11 }' one.csv; }
while read -r _ fork _ _ _ _ origin _ _ step; do
    "$QZO" journal one "$fork" --csv | awk -F, -v last="$step" 'NR == 1 || $1 <= last' >part.csv
    "$QZO" journal one "$origin" --csv | awk -F, -v last="$step" 'NR == 1 || $1 <= last' >whole.csv
    same whole.csv part.csv "the records of fork $fork and its origin $origin"
    ratio=$(calculate "$(rate_of "$fork") / $(rate_of "$origin")")
    [[ $ratio == 0.5* || $ratio == 2* ]] || fail "fork $fork: its rate is $ratio of its origin's"
    run 0 "$QZO" replay one "$fork" --check
    run 0 "$QZO" diff one "$origin" "$fork"
    says stdout "equal through step $step"
    says stdout "setting fork: .*@$step"
    says stdout 'setting noise_seed'
done <forks

# A fork of a fork: at a step before it was one it is its origin.
read -r _ fork _ _ _ _ origin _ _ step < <(awk '$7 > 8 { print; exit }' forks)
[[ -n $fork ]] || fail "no fork of a fork to look at"
run 0 "$QZO" journal one "$fork"
says stdout "CHANGE $step settings"
run 0 "$QZO" replay one "$fork" --step "$step"
mv stdout at-fork
run 0 "$QZO" replay one "$origin" --step "$step"
same at-fork stdout "the scales where $fork was forked of $origin"
run 0 "$QZO" export one "$fork" --to exported --no-eval
run 0 "$QZO" export one "$fork" --to cut --journal --step 2
run 0 "$QZO" replay cut 1 --check
run 0 "$QZO" export one "$fork" --to kept --journal --step "$step"
run 0 "$QZO" replay kept 1 --check
run 0 "$QZO" report one --json
says stdout '"fork_of": \{'
run 0 "$QZO" run pbt.yaml --out one
says stdout 'nothing to do'

# Killed at any moment: none taken twice, none reversed, the table that of an undisturbed run.
for part in 0.2 0.4 0.6 0.8; do
    rm -rf out
    for _ in 1 2; do
        mpirun -n 2 "$QZO" run pbt.yaml --out out --threads 1 >job.out 2>job.err &
        JOBS=("$!")
        sleep "$(calculate "$length * $part")"
        kill_job "${JOBS[0]}"
        JOBS=()
        [[ ! -e out/decisions.qzj ]] || run 0 "$QZO" report out --check
    done
    run 0 mpirun -n 3 "$QZO" run pbt.yaml --out out --threads 1
    run 0 "$QZO" report out --csv --check
    same one.csv stdout "the table after kills at $part of the run"
    same_journals one out "the journals after kills at $part of the run"
done

# Decided, and killed before the journal was there: the next start writes it.
last=$(tail -n 1 one.csv | cut -d, -f2)
cut_decisions() { # FOLDER: up to and with the last FORK
    python3 - "$1/decisions.qzj" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
at, end = 8, 8
while at < len(data):
    kind, size = struct.unpack_from("<II", data, at)
    at += 16 + size
    if kind == 6:
        end = at
open(sys.argv[1], "wb").write(data[:end])
PY
}
cp -r one decided
cut_decisions decided
rm "decided/trials/$last.qzj"
for id in $(column one.csv id); do # what was done after that rung
    [[ $id != "$last" ]] || continue
    "$QZO" export one "$id" --journal --to "cut-$id" --step 16 &>cut.log || continue
    [[ ! -e cut-$id/trials/$id.qzj ]] || cp "cut-$id/trials/$id.qzj" decided/trials/
done
run 0 "$QZO" run pbt.yaml --out decided --threads 1
run 0 "$QZO" report decided --csv --check
same one.csv stdout "the table of a run that was killed before a fork's journal"
same_journals one decided "its journals"

# Decisions that were lost, the list or the forks among them: their journals are there, so they are
# taken as they were, and no fork is missing.
for bytes in 300 $(($(stat -c %s one/decisions.qzj) / 2)); do
    rm -rf torn
    cp -r one torn
    truncate -s "$bytes" torn/decisions.qzj
    run 0 "$QZO" run pbt.yaml --out torn --threads 1
    run 0 "$QZO" report torn --csv --check
    same one.csv stdout "the table where $bytes bytes of the decisions were left"
    same_journals one torn "the journals where $bytes bytes of the decisions were left"
done

# An error of the machine is no end of a trial: the next start goes on with it.
run 3 "$QZO" run pbt.yaml --out machine --threads 1 --inject-fault update-error:0@6
run 0 "$QZO" report machine --check
run 0 "$QZO" run pbt.yaml --out machine --threads 1
run 0 "$QZO" report machine --csv --check
same one.csv stdout "the table after an error of the machine"

# What is not of this origin is found.
cp "one/trials/$(column one.csv id | head -n 1).qzj" "decided/trials/$last.qzj"
run 70 "$QZO" report decided --check

# What a fork takes over beside scales: a velocity that moved with its origin's momentum, and
# adapters that its origin's seed drew.
write_sweep velocity.yaml "steps: 8, batch: 8, evaluate_every: 2, update_rule: momentum" \
    "momentum: { values: [0.3, 0.4] }" "scheduler: { name: pbt, interval: 2, quantile: 0.5 }"
write_sweep adapters.yaml "steps: 8, batch: 8, evaluate_every: 2, groups: lora" \
    "learning_rate: { values: [1e-3, 1e-2] }" "scheduler: { name: pbt, interval: 2, quantile: 0.5 }"
for kind in velocity adapters; do
    run 0 "$QZO" run $kind.yaml --out $kind --threads 1
    run 0 "$QZO" report $kind --csv --check
    mv stdout $kind.csv
    [[ $(column $kind.csv status | sort | uniq -c | awk '{ printf "%s:%s ", $2, $1 }') == \
        "finished:2 stopped:3 " ]] || fail "$kind: $(<$kind.csv)"
    for id in $(column $kind.csv id); do run 0 "$QZO" replay $kind "$id" --check; done
    run 137 "$QZO" run $kind.yaml --out $kind-killed --threads 1 --inject-fault kill:0@8
    run 0 "$QZO" run $kind.yaml --out $kind-killed --threads 1
    same_journals $kind $kind-killed "the journals of $kind after a kill"
done

# A fork's adapters begin as its first origin's seed drew them: before a step nothing has changed.
last=$(tail -n 1 adapters.csv | cut -d, -f1)
run 0 "$QZO" export adapters "$last" --to undrawn --step 0 --no-eval --json
says stdout '"changed": 0,'
run 0 "$QZO" export adapters "$last" --to drawn --no-eval --json
says_not stdout '"changed": 0,'

# A member that diverges is replaced.
run 1 "$QZO" run pbt.yaml --out lost --threads 1 --inject-fault nan-loss:0@3
run 0 "$QZO" report lost --csv --check
[[ $(column stdout status | sort | uniq -c | awk '{ printf "%s:%s ", $2, $1 }') == \
    "diverged:1 finished:8 stopped:7 " ]] || fail "with one that diverged: $(<stdout)"

write_sweep idle.yaml "steps: 20, batch: 8, evaluate_every: 2" "seed: { values: [0, 1] }" \
    "scheduler: pbt"
run 2 "$QZO" run idle.yaml --out other
says stderr 'expected a swept number to perturb'

# What a fork may change of the momentum holds from its step on.
write_sweep speed.yaml "steps: 12, batch: 8, evaluate_every: 2, learning_rate: 1e-5, \
update_rule: momentum" "momentum: { values: [0.3, 0.6] }; seed: { values: [0, 1] }" \
    "scheduler: { name: pbt, interval: 4, quantile: 0.25, perturb: [momentum] }"
run 0 "$QZO" run speed.yaml --out speed --threads 1
for trial in 1 2 3 4 5 6; do run 0 "$QZO" replay speed "$trial" --check; done
