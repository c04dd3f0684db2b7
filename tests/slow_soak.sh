# ctest: timeout=7200
# `kill -9` of the whole job at SOAK_KILLS (default 1000) random moments, over sweeps of short
# trials. Every start draws its ranks, 1 or 2, so a sweep may go on with another count than it had;
# every other sweep gives each trial all ranks. Whenever a sweep ends, its table and its journals
# must equal those of the undisturbed run, byte for byte. SOAK_SEED (default 1) repeats the draws,
# though not what the machine makes of them.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
kills_wanted=${SOAK_KILLS:-1000}
RANDOM=${SOAK_SEED:-1}
evaluate_every=20 steps=60
phases=("before the first step" "in steps" "in an evaluation" "between trials"
    "after the last trial")

for ranks in 1 all; do
    write_sweep "$ranks.yaml" "steps: $steps, batch: 16, samples_per_step: 2, \
evaluate_every: $evaluate_every" \
        "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1] }" \
        "ranks_per_trial: $ranks"
done
started=$(seconds_now)
run 0 mpirun -n 2 "$QZO" run all.yaml --out calm --threads 1
length=$(calculate "$(seconds_now) - $started")
run 0 "$QZO" report calm --csv
mv stdout calm.csv
mapfile -t trials < <(column calm.csv trial)

# Sets `lasts` to the last frame of every trial's journal, "none" where there is none.
look() {
    local trial
    lasts=()
    for trial in "${trials[@]}"; do
        lasts+=("$("$QZO" journal out "$trial" 2>/dev/null |
            awk '/^[A-Z]/ { last = $1 " " $2 } END { print last == "" ? "none" : last }')")
    done
}

# phase_since BEFORE: sets `phase` to what the journals tell about the moment of a kill. The first
# unfinished trial decides; with several at a time the others may be elsewhere.
phase_since() {
    local last kind step
    look
    phase="after the last trial"
    for last in "${lasts[@]}"; do
        read -r kind step <<<"$last"
        if [[ $kind == END ]]; then continue; fi
        if [[ "${lasts[*]}" == "$1" ]]; then
            phase="before the first step"
        elif [[ $kind == none ]]; then
            phase="between trials"
        elif [[ $kind == HEADER ]] ||
            { [[ $kind == STEP ]] && ((step % evaluate_every == 0)); } ||
            { [[ $kind == EVAL ]] && ((step == steps)); }; then
            phase="in an evaluation"
        else
            phase="in steps"
        fi
        return
    done
}

start_job() {
    job=("$QZO" run "$sweep" --out out --threads 1)
    if ((RANDOM % 2 == 1)); then job=(mpirun -n 2 "${job[@]}"); fi
    "${job[@]}" >job.out 2>job.err &
    JOBS=("$!")
}

# The job left by itself: all must be as in the undisturbed run; the next sweep begins.
finish() {
    wait "${JOBS[0]}" || fail "after $kills kills: exit code $?: ${job[*]}: $(tail -n 5 job.err)"
    JOBS=()
    run 0 "$QZO" report out --csv
    same calm.csv stdout "the table after $kills kills"
    same_journals calm out "the journals after $kills kills"
    rm -rf out
    sweeps=$((sweeps + 1))
    if [[ $sweep == 1.yaml ]]; then sweep=all.yaml; else sweep=1.yaml; fi
}

declare -A kills_in
kills=0 sweeps=0 sweep=1.yaml
while ((kills < kills_wanted)); do
    look
    before="${lasts[*]}"
    start_job
    sleep "$(calculate "$length * $RANDOM / 32768")"
    if ! kill -0 "${JOBS[0]}" 2>/dev/null; then
        finish
        continue
    fi
    kill_job "${JOBS[0]}"
    JOBS=()
    kills=$((kills + 1))
    phase_since "$before"
    kills_in[$phase]=$((${kills_in[$phase]:-0} + 1))
done
start_job
finish

printf '%s kills, seed %s, %s sweeps ended like the undisturbed one (%s s)\n' \
    "$kills" "${SOAK_SEED:-1}" "$sweeps" "$length"
for phase in "${phases[@]}"; do printf '%6d  %s\n' "${kills_in[$phase]:-0}" "$phase"; done
((${kills_in["in steps"]:-0} > 0)) || fail "no kill fell into a step"
