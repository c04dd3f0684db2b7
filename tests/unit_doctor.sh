# The doctor finds nothing wrong where nothing is, and names what is: a folder that cannot be
# written, tasks that do not find each other.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3

run 0 "$QZO" doctor --out "$WORK/results/new"
says stdout '^ok +program +qzo [0-9]'
says stdout 'ranks +1, started alone'
says stdout "output folder +$WORK: writable, a sync takes [0-9.e-]+ ms"
says stdout '^(ok|warning) +locks'
[[ ! -e results && -z $(ls -A "$WORK" | grep doctor) ]] || fail "the doctor left something behind"

run 0 "$QZO" doctor --json --out .
python3 -c 'import json
found = json.load(open("stdout"))["findings"]
assert all(f["level"] in ("ok", "warning") for f in found), found
assert {"program", "processor", "output folder"} <= {f["name"] for f in found}, found' ||
    fail "not the JSON that was expected: $(<stdout)"

# What srun does without --mpi=pmix: several tasks, each a world of its own.
run 3 env SLURM_STEP_NUM_TASKS=2 "$QZO" doctor
says stdout '^problem +ranks +2 tasks were started, but each sees a world of 1 rank'
says stdout '-> add --mpi=pmix to srun'

if ((EUID != 0)); then
    mkdir closed && chmod 555 closed
    run 3 "$QZO" doctor --out closed
    says stdout '^problem +output folder +closed: not writable'
fi
touch file
run 3 "$QZO" doctor --out file/below
says stdout '^problem +output folder'

run 2 "$QZO" doctor something
says stderr "doctor takes options only, found 'something'"

# A Slurm without PMIx and with fences that crash, as its own commands tell it.
mkdir bin
printf '#!/bin/sh\necho "SLURM_VERSION = 22.05.8"\necho "PMIxCollFence = mixed"\n' >bin/scontrol
printf '#!/bin/sh\necho "MPI plugin types are..."\necho none\n' >bin/srun
chmod +x bin/*
run 3 env PATH="$PWD/bin:$PATH" "$QZO" doctor
says stdout '^problem +Slurm +22.05.8, srun has no pmix'
says stdout '^warning +PMIx fence +mixed'
says stdout 'SLURM_PMIX_FENCE=ring'

# A host with NVIDIA's driver, in a job that has no GPU.
if ((EUID == 0)) && unshare --mount true 2>/dev/null; then
    mkdir devices
    cp -a /dev/null /dev/zero /dev/random /dev/urandom devices
    run 0 unshare --mount --propagation=private sh -c 'mount -t tmpfs tmpfs /dev &&
        cp -a devices/* /dev && touch /dev/nvidiactl && exec "$0" doctor' "$QZO"
    says stdout '^warning +GPUs +none: '
    says stdout '-> this host has a driver .*--gpus-per-node'
fi
