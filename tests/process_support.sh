# Sourced by the tests that run whole programs. Each test works in a folder of its own, which goes
# away at the end, and ends at the first thing that is not as it should be, saying which.

: "${QZO_SOURCE:?run this through ctest, or set QZO_SOURCE, QZO_BUILD}" "${QZO_BUILD:?}"
QZO=$QZO_BUILD/qzo
# A rank must not be bound to one core, and one container forbids what the single copy needs.
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_hwloc_base_binding_policy=none

fail() {
    printf 'FAILED: %s\n' "$*"
    exit 1
}

skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}

need_program() { [[ -x $QZO ]] || fail "$QZO is not built"; }

need_mpi() {
    command -v mpirun >/dev/null || skip "no mpirun"
    "$QZO" --version | grep -qi mpi || skip "built without MPI"
}

skip_if_sanitized() {
    ! grep -qs '^QZO_SANITIZE:BOOL=ON' "$QZO_BUILD/CMakeCache.txt" ||
        skip "sanitizers see this program in other tests, and ten times slower; here scores count"
}

need_python3() { command -v python3 >/dev/null || skip "no python3"; }

# need_python MODULES [REQUIREMENTS]: sets python to one that has them, the tools' own where there
# is one.
need_python() {
    python=python3
    if [[ -x $QZO_SOURCE/.venv/bin/python ]]; then python=$QZO_SOURCE/.venv/bin/python; fi
    "$python" -c "import $1" 2>/dev/null ||
        skip "no packages of tools/${2:-requirements.txt} (tools/test installs them in .venv)"
}

WORK=$(mktemp -d "${TMPDIR:-/tmp}/qzo-test-XXXXXX")
JOBS=()
remove_work() {
    local job
    for job in "${JOBS[@]}"; do kill_job "$job"; done
    rm -rf "$WORK"
}
trap remove_work EXIT
cd "$WORK" || exit 1
# What a killed Open MPI leaves behind goes away with the folder.
export TMPDIR=$WORK OMPI_MCA_btl_vader_backing_directory=$WORK

# The processes that PID started, straight from /proc: not every machine has pgrep.
children_of() {
    local file fields
    for file in /proc/[0-9]*/stat; do
        { read -r fields <"$file"; } 2>/dev/null || continue
        fields=${fields##*) }
        set -- "$1" $fields
        if [[ $3 == "$1" ]]; then
            file=${file%/stat}
            printf '%s\n' "${file#/proc/}"
        fi
    done
}

# kill_job PID: SIGKILL for a job started with `&` and for all that it started, at once; then waits.
kill_job() {
    local processes process
    mapfile -t processes < <(children_of "$1")
    kill -KILL "$1" "${processes[@]}" 2>/dev/null
    wait "$1" 2>/dev/null
    for process in "${processes[@]}"; do
        while kill -0 "$process" 2>/dev/null; do sleep 0.005; done
    done
}

# run CODE COMMAND...: runs the command with its output in the files `stdout` and `stderr`, and
# fails unless its exit code is CODE.
run() {
    local expected=$1 found
    shift
    "$@" >stdout 2>stderr
    found=$?
    if ((found != expected)); then
        tail -n 20 stdout stderr
        fail "exit code $found, expected $expected: $*"
    fi
}

# says FILE PATTERN: fails unless a line of FILE matches the extended regular expression.
says() {
    grep -qE -- "$2" "$1" && return
    tail -n 20 "$1"
    fail "no line of $1 matches: $2"
}

says_not() {
    grep -qE -- "$2" "$1" || return 0
    tail -n 20 "$1"
    fail "a line of $1 matches: $2"
}

# same FILE FILE WHAT: equal byte for byte.
same() {
    cmp -s "$1" "$2" && return
    diff "$1" "$2" | head -n 10
    fail "$3: $1 and $2 differ"
}

# same_journals A B WHAT: both output folders hold the same journals, byte for byte.
same_journals() {
    local journal count=0
    for journal in "$1"/trials/*.qzj; do
        [[ -e $2/trials/${journal##*/} ]] || fail "$3: $2 lacks ${journal##*/}"
        cmp "$journal" "$2/trials/${journal##*/}" >difference 2>&1 || fail "$3: $(<difference)"
        count=$((count + 1))
    done
    ((count > 0)) || fail "$3: no journals in $1"
    [[ $(find "$2/trials" -name '*.qzj' | wc -l) == "$count" ]] || fail "$3: more journals in $2"
}

# Arithmetic of decimals: calculate 'a + b * c'.
calculate() { awk "BEGIN { printf \"%.3f\", $* }"; }

seconds_now() { date +%s.%N; }

# steps_of DIR TRIAL: how many steps the journal holds, 0 where there is none yet.
steps_of() {
    "$QZO" journal "$1" "$2" --csv 2>/dev/null |
        awk -F, 'NR > 1 { step = $1 } END { print step + 0 }'
}

# column FILE NAME: that column of a CSV table, one value per line, without its head.
column() {
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next }
        { print $at }' "$1"
}

# write_sweep FILE TRAIN PARAMETERS [LINE]: a sweep over the tiny model. TRAIN is the inside of a
# YAML flow mapping, PARAMETERS is "key: value; key: value", LINE one more line at the top.
write_sweep() {
    cat >"$1" <<YAML
name: test
model: $QZO_SOURCE/tests/fixtures/tiny-llama
task: $QZO_SOURCE/tests/fixtures/tiny-task.qzt
${4:-}
train: { $2 }
parameters:
$(tr ';' '\n' <<<"$3" | sed 's/^ */  /')
YAML
}

SCORE_LEAST=0.9 # of a task where a guess has 0.5; the tiny model reaches 1

# learns FILE: every trial of the sweep reaches SCORE_LEAST on test, on 2 ranks.
learns() {
    local score
    rm -rf learnt
    run 0 mpirun -n 2 "$QZO" run "$1" --out learnt
    run 0 "$QZO" report learnt --csv
    cp stdout learnt.csv
    for score in $(column learnt.csv test_score); do
        awk "BEGIN { exit !($score >= $SCORE_LEAST) }" ||
            fail "$1: test score $score, expected at least $SCORE_LEAST"
    done
}

# nan_head FOLDER: the first value of a tiny model's head is no number, nor then what it computes.
nan_head() {
    python3 - "$1/model.safetensors" <<'TEXT' || fail "$1 was not changed"
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
begin = 8 + struct.unpack_from("<Q", data)[0]
head = json.loads(data[8:begin])["lm_head.weight"]
assert head["dtype"] == "F32"
struct.pack_into("<f", data, begin + head["data_offsets"][0], float("nan"))
open(sys.argv[1], "wb").write(data)
TEXT
}

# widened FROM TO: a variant with the vocabulary of the task, whose upper half repeats the lower.
widened() {
    python3 - "$1" "$2" <<'TEXT' || fail "$2 was not made"
import json, pathlib, struct, sys
source, target = map(pathlib.Path, sys.argv[1:])
blob = (source / "model.safetensors").read_bytes()
begin = 8 + struct.unpack("<Q", blob[:8])[0]
header, data = json.loads(blob[8:begin]), b""
header.pop("__metadata__", None)
for name, entry in header.items():
    content = blob[begin:][slice(*entry["data_offsets"])]
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        content *= 2
        entry["shape"][0] *= 2
    entry["data_offsets"] = [len(data), len(data) + len(content)]
    data += content
text = json.dumps(header).encode()
target.mkdir()
(target / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
config = json.loads((source / "config.json").read_text())
(target / "config.json").write_text(json.dumps({**config, "vocab_size": 64}))
TEXT
}
