# ctest: timeout=900
# tools/gpu_figures, all of it on the CPU with a tiny shape: every part gives figures, what is there
# is left alone, a part that fails says why and is tried again, and time that ran out leaves the
# rest for the next call.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
need_python 'numpy, tokenizers, xxhash'
program=$QZO
figures() {
    "$python" "$QZO_SOURCE/tools/gpu_figures" "$@" --dry-run --qzo "$program" --out figures.json \
        --work inputs
}
# read_figures EXPRESSION: of `f`, the parts.
read_figures() { "$python" -c "import json; f = json.load(open('figures.json')); print($1)"; }

run 1 figures sharing --seconds 0
[[ $(read_figures "'out of time' in f['sharing']['failed']") == True ]] ||
    fail "no word about the time: $(<figures.json)"

# Of a part that fails on its way what it had is kept, and only the rest is measured again.
cat >program <<SH
#!/bin/bash
[[ \$* == *"--rows 8"* && -e broken ]] && exit 3
exec "$QZO" "\$@"
SH
chmod +x program
touch broken
program=./program
run 1 figures rows-few --seconds 300
[[ $(read_figures "list(f['rows-few']['figures'])") == "['1']" ]] ||
    fail "the figures before the one that failed: $(<figures.json)"
rm broken
run 0 figures rows-few --seconds 300
[[ $(read_figures "[c.split()[-1] for c in f['rows-few']['commands'] if ' bench ' in c]") == \
    "['1', '8', '8', '32', '33', '64']" ]] || fail "measured again: $(<figures.json)"
program=$QZO

echo '{' >damaged.json
run 1 "$python" "$QZO_SOURCE/tools/gpu_figures" 2 --dry-run --qzo "$QZO" --out damaged.json
says stderr '^gpu_figures: damaged.json: not the figures of an earlier call'
run 1 "$python" "$QZO_SOURCE/tools/gpu_figures" 2 --dry-run --qzo ./none --out none.json
says stderr '^gpu_figures: ./none: No such file or directory'
# Without nvidia-smi it says so and goes on.
PYTHONPATH=$QZO_SOURCE/tools "$python" - "$QZO_SOURCE/tools/gpu_figures" "$QZO" <<'PY' ||
import argparse, importlib.machinery, importlib.util, os, sys
sys.dont_write_bytecode = True  # beside a file without .py
loader = importlib.machinery.SourceFileLoader("gpu_figures", sys.argv[1])
gpu_figures = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(gpu_figures)
os.environ["PATH"] = "/nowhere"
bench = gpu_figures.Bench(argparse.Namespace(dry_run=False, work="inputs", qzo=sys.argv[2]))
gpu_figures.describe(bench)
assert bench.device == "unknown", bench.device
PY
    fail "without nvidia-smi"

run 75 figures ceilings step-sst2 --seconds 30
says stdout '^step-sst2 and what follows are left'
run 0 figures all --seconds 800
says_not stdout '^ceilings'
run 0 figures all --seconds 800
[[ ! -s stdout ]] || fail "parts that are there were measured again: $(<stdout)"

expect() {
    [[ $(read_figures "$1") == True ]] || fail "not so: $1; figures: $(head -c 4000 figures.json)"
}
expect "all('failed' not in part for part in f.values())"
expect "f['ceilings']['figures']['copy_gbytes_per_second'] > 0"
for kind in sst2 rte squad; do
    expect "0 < f['step-$kind']['figures']['share_of_roofline']"
done
rows='["figures"]["rows_per_evaluation"]'
expect "f['step-sst2']$rows < f['step-rte']$rows < f['step-squad']$rows"
expect "'33' in f['rows-few']['figures']"
expect "f['memory-llama-2-7b']['figures']['own_bytes'] > 0"
expect "all(ranks['journals_equal'] for ranks in f['sharing']['figures'].values())"
expect "'update, 16 gaussian records' in f['update']['figures']"
expect "0 < f['update']['figures']['update, 16 gaussian records']['share_of_step'] < 1"
expect "'records' in f['update']['figures']['10 % of a step, rademacher']"
expect "f['gradients']['figures']['probes'] == 8 and f['gradients']['figures']['cosine'] > 0.9"
expect "len(f['switch']['figures']['seeds 0, 1, 2']['kept_milliseconds']) == 2"
expect "f['switch']['figures']['seeds 0']['loaded_milliseconds'][0] > 0"
expect "'skipped' in f['exchange']['figures'] and 'skipped' in f['exchange-shared']['figures']"
expect "f['kernel-table']['figures']['arithmetic'].startswith('cpu ')"
