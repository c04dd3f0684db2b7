#!/usr/bin/env bash
# Runs or resumes one sweep as one job step, then tells Slurm what to do with the job. The batch
# scripts end in it. Journals make a restart cheap, so whatever can succeed by running again is
# requeued:
#   75, parked with work left   requeued
#   a dead rank                 requeued
#   0 1 2 3 70                  the job ends with that code
# A job that was requeued STALLS_MAX times without one more byte of journal is given up; one
# that was cancelled stays so.
set -uo pipefail

STALLS_MAX=3
# After the first rank has ended, the others have this long: they all leave together unless one
# died. Slurm's --kill-on-bad-exit would race with ranks that leave with 75 or 1 in good order.
AFTER_FIRST_EXIT_SECONDS=10
LIMIT_SLACK_SECONDS=5

say() { printf '%s qzo: %s\n' "$(date '+%F %T')" "$*" >&2; }

if (($# < 2)); then
    say "usage: sbatch [OPTION...] SCRIPT.sbatch SWEEP.yaml OUT [OPTION of qzo run...]"
    exit 2
fi
sweep=$1 out=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 3
site=${QZO_CLUSTER_ENV:-$here/cluster.env}
if [[ -e $site ]]; then source "$site"; fi
program=${QZO_PROGRAM:-$here/../build/qzo}

# srun no longer takes over --cpus-per-task of the job; without it all ranks share one core.
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    set -- --threads "$SLURM_CPUS_PER_TASK" "$@"
fi

# Each task of a job array runs one slice. The array must be dense: its tasks are counted.
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    if ((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1 != SLURM_ARRAY_TASK_COUNT)); then
        say "expected an array without gaps, such as --array=1-16"
        exit 2
    fi
    slice=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))
    set -- --slice "$slice/$SLURM_ARRAY_TASK_COUNT" "$@"
fi

# A trial that fails again must not be retried by every start of the same job.
options=()
while (($# > 0)); do
    if [[ $1 == --retry && ${SLURM_RESTART_COUNT:-0} -gt 0 ]]; then
        shift
    elif [[ $1 != --retry=* || ${SLURM_RESTART_COUNT:-0} -eq 0 ]]; then
        options+=("$1")
    fi
    shift
done
set -- "${options[@]}"

# When the job's time is up, in seconds since 1970; Slurm before 23.02 does not set the variable.
end_time=${SLURM_JOB_END_TIME:-}
if [[ -z $end_time ]]; then
    end_time=$(date -d "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s) ||
        end_time=$((1 << 62)) # no limit
fi
set -- --end-time "$end_time" "$@"

# The signals are for the ranks, which have them from Slurm; this shell stays to the end.
signals=0 ended_by_slurm=false
trap 'signals=$((signals + 1))' USR1 USR2
trap 'signals=$((signals + 1)) ended_by_slurm=true' TERM

say "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, start $((${SLURM_RESTART_COUNT:-0} + 1))"
srun --mpi="${QZO_SRUN_MPI:-pmix}" --kill-on-bad-exit=0 --wait="$AFTER_FIRST_EXIT_SECONDS" \
    "$program" run "$sweep" --out "$out" "$@" &
step=$!
# A signal ends `wait` early.
seen=-1
while ((seen != signals)); do
    seen=$signals
    wait "$step"
    code=$?
done

case $code in
0 | 1 | 2 | 3 | 70)
    say "the sweep ended with exit code $code"
    exit "$code"
    ;;
75) say "parked with work left" ;;
*) say "a rank died: srun left with exit code $code" ;;
esac

# Stalls are counted over all starts of this job, in a file that says how much work there was: its
# own, since the other tasks of an array go on whatever becomes of this one.
journal_bytes() {
    if [[ -z ${slice:-} ]]; then
        cat "$out"/trials/*.qzj 2>/dev/null | wc -c
        return
    fi
    "$program" status "$out" --json | grep -oE '"id": ?"[0-9a-f]{32}"' | grep -oE '[0-9a-f]{32}' |
        awk -v slice="$slice" -v count="$SLURM_ARRAY_TASK_COUNT" '(NR - slice) % count == 0' |
        while read -r id; do cat "$out/trials/$id.qzj" 2>/dev/null; done | wc -c
}
mkdir -p "$out/log" || exit 3
stalls=0 bytes_before=0 bytes=$(journal_bytes) record=$out/log/slurm-$SLURM_JOB_ID.stalls
if [[ -e $record ]]; then read -r stalls bytes_before <"$record"; fi
if ((bytes > bytes_before)); then stalls=0; else stalls=$((stalls + 1)); fi
printf '%d %d\n' "$stalls" "$bytes" >"$record"
if ((stalls > STALLS_MAX)); then
    say "given up after $((stalls - 1)) restarts without progress; logs: $out/log"
    exit "$code"
fi

# Slurm sends SIGTERM to this shell when it ends the job: at the time limit, which calls for another
# start, or because the job was cancelled or requeued, which must stay so.
if $ended_by_slurm && (($(date +%s) + LIMIT_SLACK_SECONDS < end_time)); then
    say "Slurm ended the job before its time: cancelled, or requeued already"
    exit "$code"
fi
say "requeueing"
scontrol requeue "$SLURM_JOB_ID" || say "scontrol failed: submit the same sbatch line again"
exit "$code"
