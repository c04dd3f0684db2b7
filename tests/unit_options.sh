# ctest: timeout=120
# What the command line refuses and how: exit code 2, one sentence that says what was expected and
# what was found, and the nearest known word.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
model=$QZO_SOURCE/tests/fixtures/tiny-llama

# refused PATTERN ARGUMENT...: exit code 2, nothing on stdout, a line on stderr that matches.
refused() {
    local pattern=$1
    shift
    run 2 "$QZO" "$@"
    says stderr "^qzo: .*$pattern"
    [[ ! -s stdout ]] || fail "a refused command wrote to stdout: qzo $*"
    (($(wc -l <stderr) == 1)) || fail "more than one line on stderr: qzo $*"
}

refused 'expected a command'
refused "unknown command 'rnu'; did you mean 'run'"  rnu
refused "unknown command 'frobnicate'; .*--help"     frobnicate
refused "unknown option '--hlep'; did you mean '--help'" --hlep
refused "unknown option '--jsno'; did you mean '--json'" inspect "$model" --jsno
refused "unknown option '--out'" report out --out x
refused "unknown option '-x'" report -x
# An abbreviation would break as soon as a second option began like it.
refused "unknown option '--js'" inspect "$model" --js
refused '--json takes no value' inspect "$model" --json=yes
refused '--out: expected DIR, found nothing' run sweep.yaml --out
refused 'run needs --out DIR' run sweep.yaml
refused 'expected .qzo run SWEEP.yaml., found 0' run --out x
refused 'expected .qzo diff DIR TRIAL TRIAL., found 2' diff out 1
refused "report takes DIR, found 'b' after that" report a b
refused "--threads: expected an integer from 1 to 4096, found '0'" run a --out b --threads 0
refused "--threads: .*found '3x'" run a --out b --threads 3x
refused "--step: expected an integer of at least 0, found '-1'" replay a 1 --step -1
refused "--backend: expected auto\|cpu.*, found 'gpu'" run a --out b --backend gpu
refused "--log-level: expected error\|warn\|info\|debug" run a --out b --log-level loud
refused '--csv and --json exclude each other' report a --csv --json
refused 'absent' plan absent
refused 'absent' report absent

# Options may stand anywhere; after -- everything is an argument.
run 0 "$QZO" inspect --json "$model"
run 0 "$QZO" inspect "$model" --json
run 2 "$QZO" inspect -- --json
says stderr '--json'

# Help wins over what is missing.
run 0 "$QZO" run --help
says stdout '--out=DIR'
for command in $("$QZO" --help | sed -n 's/^  \([a-z]\+\) [A-Z].*/\1/p'); do
    run 0 "$QZO" "$command" --help
    says stdout "^Usage: qzo $command"
    [[ ! -s stderr ]] || fail "help of $command wrote to stderr"
done

# Data that cannot be written is an error of the environment, not silence.
if [[ -e /dev/full ]]; then
    "$QZO" inspect "$model" >/dev/full 2>stderr
    code=$?
    ((code == 3)) || fail "a full disk on stdout left with $code, expected 3"
    says stderr 'standard output'
fi
"$QZO" inspect "$model" 2>stderr | head -n 1 >/dev/null
[[ ! -s stderr ]] || fail "a reader that went away made noise: $(<stderr)"

# Where an error came from is told on demand only.
run 2 "$QZO" inspect absent
says_not stderr '\.c:[0-9]'
run 2 "$QZO" inspect absent --log-level debug
says stderr '\.c:[0-9]'

# Several tasks of a job step that do not see each other would each run the whole sweep.
write_sweep sweep.yaml "steps: 1, batch: 4" "seed: { value: 0 }"
run 3 env SLURM_STEP_NUM_TASKS=2 "$QZO" run sweep.yaml --out out
says stderr 'mpi=pmix'
run 0 env SLURM_NTASKS=2 "$QZO" run sweep.yaml --out out
