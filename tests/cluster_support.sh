# Sourced by the tests labelled slurm, after process_support.sh: real Slurm daemons on this machine,
# as root and without systemd. Nothing in /etc is read or written; daemons, jobs and files go away
# with the test.
#
#   start_cluster NODES   munged, slurmctld and one slurmd per virtual node n1, n2, ...

node_cpus=2 daemon_seconds_max=20 job_log=job.log
CLUSTER_PIDS=()

need_slurm() {
    local program
    PATH=$PATH:/usr/sbin:/sbin
    ((EUID == 0)) || skip "not root: slurmd cannot give nodes names of their own"
    for program in munged slurmctld slurmd srun sbatch scontrol squeue scancel; do
        command -v "$program" >/dev/null ||
            skip "no $program (Debian: slurmctld slurmd slurm-client munge libpmix-dev)"
    done
    unshare --uts true 2>/dev/null || skip "unshare --uts is not allowed"
}

# Two tests may run at a time; so may another cluster of the machine.
free_port_base() {
    local base=$((20000 + $$ % 1500 * 8)) port
    for ((port = base; port < base + 8; port++)); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then base=$((port + 1)); fi
    done
    printf '%s\n' "$base"
}

# TmpFS per node keeps the nodes' PMIx folders apart. cred_expire is also how long a requeued job
# waits. KillWait is longer than parking takes, as on real clusters, where it is 30.
write_cluster_settings() {
    local nodes=$1 port=$2 host node
    host=$(hostname -s)
    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$CLUSTER/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool-%n
TmpFS=$CLUSTER/tmp-%n
SlurmctldPidFile=$CLUSTER/slurmctld.pid
SlurmdPidFile=$CLUSTER/slurmd-%n.pid
SlurmctldLogFile=$CLUSTER/slurmctld.log
SlurmdLogFile=$CLUSTER/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
KillOnBadExit=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldTimeout=30
SlurmdTimeout=30
CONF
    for ((node = 1; node <= nodes; node++)); do
        mkdir -p "$CLUSTER/spool-n$node" "$CLUSTER/tmp-n$node"
        printf 'NodeName=n%d NodeHostname=n%d NodeAddr=127.0.0.1 ' "$node" "$node"
        printf 'Port=%d CPUs=%d RealMemory=1000\n' $((port + node)) "$node_cpus"
    done >>"$SLURM_CONF"
    printf 'PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=1 State=UP\n' \
        >>"$SLURM_CONF"
    printf 'PartitionName=urgent Nodes=ALL DefaultTime=10 PriorityTier=9 State=UP\n' >>"$SLURM_CONF"
    # With the other kinds of fence some ranks of old Slurm leave MPI_Init before all are ready.
    printf 'PMIxCollFence=ring\n' >"$CLUSTER/mpi.conf"
}

start_daemon() {
    "$@" >>"$CLUSTER/daemons.log" 2>&1 &
    CLUSTER_PIDS+=("$!")
}

# wait_for SECONDS WHAT COMMAND...: fails with the jobs' output where the command does not succeed
# within so many seconds on a quiet machine, and three times as long on any.
wait_for() {
    local seconds=$((3 * $1)) what=$2
    local deadline=$((SECONDS + seconds))
    shift 2
    until "$@"; do
        if ((SECONDS >= deadline)); then
            tail -n 40 "$job_log" 2>/dev/null
            squeue --noheader --format='%i %T %r %M' 2>/dev/null
            fail "not within $seconds s: $what"
        fi
        sleep 0.2
    done
}

nodes_idle() { [[ $(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l) == "$1" ]]; }

start_cluster() {
    local nodes=$1 node
    need_slurm
    CLUSTER=$WORK/cluster
    export SLURM_CONF=$CLUSTER/slurm.conf
    # Ranks on two nodes meet over TCP; two nodes are one machine, so they share two cores.
    export OMPI_MCA_btl=self,vader,tcp OMPI_MCA_mpi_yield_when_idle=1
    trap 'stop_cluster; remove_work' EXIT
    mkdir -p "$CLUSTER/state"
    chmod 755 "$WORK" "$CLUSTER"
    (umask 077 && head -c 128 /dev/urandom >"$CLUSTER/munge.key")
    write_cluster_settings "$nodes" "$(free_port_base)"
    start_daemon munged --foreground --force --key-file="$CLUSTER/munge.key" \
        --socket="$CLUSTER/munge.sock" --pid-file="$CLUSTER/munged.pid" \
        --log-file="$CLUSTER/munged.log" --seed-file="$CLUSTER/munge.seed"
    wait_for "$daemon_seconds_max" "munged" test -S "$CLUSTER/munge.sock"
    start_daemon slurmctld -D -c
    # A host name of its own keeps the shared memory of two nodes' ranks apart.
    for ((node = 1; node <= nodes; node++)); do
        start_daemon unshare --uts sh -c 'hostname "$1" && exec slurmd -D -N "$1"' sh "n$node"
    done
    wait_for "$daemon_seconds_max" "$nodes idle nodes: $(tail -n 3 "$CLUSTER/daemons.log")" \
        nodes_idle "$nodes"
    srun --mpi=list 2>&1 | grep -q pmix || skip "this Slurm has no PMIx"
}

# kill_node_daemon NODE: SIGKILL for its slurmd alone; what it has started lives on.
kill_node_daemon() {
    local process=${CLUSTER_PIDS[$1 + 1]} # after those of munged and slurmctld
    kill -KILL "$process"
    wait "$process" 2>/dev/null
}

no_jobs() { [[ -z $(squeue --noheader 2>/dev/null) ]]; }

# Job steps do not descend from this shell; all that belongs to the cluster has its settings' path
# in the environment it was started with.
stop_cluster() {
    local tries file
    scancel --user=root 2>/dev/null
    for ((tries = 0; tries < 40; tries++)); do
        no_jobs && break
        sleep 0.1
    done
    for file in $(grep -lsF -- "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ); do
        file=${file#/proc/}
        kill -KILL "${file%/environ}" 2>/dev/null
    done
    kill -KILL "${CLUSTER_PIDS[@]}" 2>/dev/null
    wait "${CLUSTER_PIDS[@]}" 2>/dev/null
}

# use_site_settings LINE...: what a site writes into cluster.env, read before submitting.
use_site_settings() {
    printf 'export QZO_HOME=%q QZO_PROGRAM=%q\n' "$QZO_SOURCE" "$QZO" >cluster.env
    printf '%s\n' "export QZO_CLUSTER_ENV=$WORK/cluster.env" "$@" >>cluster.env
    source ./cluster.env
}

# submit SCRIPT OPTION... -- ARGUMENT...: sets `job`. Every run of the job appends to $job_log.
submit() {
    local script=$QZO_SOURCE/slurm/$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    job=$(sbatch --parsable --output="$job_log" "${options[@]}" "$script" "$@") ||
        fail "sbatch refused ${script##*/}"
}

# job_field NAME: of the last job, from what scontrol shows, such as JobState, ExitCode, Restarts.
job_field() {
    scontrol show job "$job" 2>/dev/null | grep -oE "(^| )$1=[^ ]*" | head -n 1 | cut -d= -f2
}

job_ended() {
    case $(job_field JobState) in
    COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) return 0 ;;
    esac
    return 1
}

# ends_with STATE CODE SECONDS: waits for the job's end.
ends_with() {
    local state code
    wait_for "$3" "the end of job $job" job_ended
    state=$(job_field JobState) code=$(job_field ExitCode)
    if [[ $state != "$1" || $code != "$2:0" ]]; then
        tail -n 40 "$job_log"
        fail "job $job ended as $state $code, expected $1 $2:0"
    fi
}

# restarts NUMBER: how often the job was requeued.
restarts() {
    [[ $(job_field Restarts) == "$1" ]] ||
        fail "the job was requeued $(job_field Restarts) times, expected $1"
}

# The ranks of this test's jobs on this machine, by the path of the program and of its folder.
rank_processes() {
    local file
    for file in /proc/[0-9]*/cmdline; do
        if { tr '\0' ' ' <"$file" | grep -qE "^$QZO run .*--out out"; } 2>/dev/null &&
            [[ $(readlink "${file%/cmdline}/cwd") == "$WORK" ]]; then
            file=${file%/cmdline}
            printf '%s\n' "${file#/proc/}"
        fi
    done
}

# stepping STEPS: whether the first trial's journal holds that many.
stepping() { (($(steps_of out 1) >= $1)); }

# same_as_calm WHAT: table and journals in `out` equal those of the undisturbed run.
same_as_calm() {
    run 0 "$QZO" report out --csv
    same calm.csv stdout "the table $1"
    same_journals calm out "the journals $1"
}

# run_calm: the sweep undisturbed and without Slurm.
run_calm() {
    run 0 env OMPI_MCA_btl=self,vader mpirun -n 2 "$QZO" run sweep.yaml --out calm --threads 1
    run 0 "$QZO" report calm --csv
    mv stdout calm.csv
}
