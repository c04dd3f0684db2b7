# ctest: timeout=900
# tools/gpu_figures, all of it on the CPU with a tiny shape: every part gives figures, what is there
# is left alone, a part that fails says why and is tried again, and time that ran out leaves the
# rest for the next call.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
need_python 'numpy, tokenizers, xxhash'
figures() {
    "$python" "$QZO_SOURCE/tools/gpu_figures" "$@" --dry-run --qzo "$QZO" --out figures.json \
        --work inputs
}
# read_figures EXPRESSION: of `f`, the parts.
read_figures() { "$python" -c "import json; f = json.load(open('figures.json')); print($1)"; }

run 1 figures sharing --seconds 0
[[ $(read_figures "'out of time' in f['sharing']['failed']") == True ]] ||
    fail "no word about the time: $(<figures.json)"
run 75 figures ceilings step-sst2 --seconds 30
says stdout '^step-sst2 and what follows are left'
run 0 figures 1 2 3 4 5 7 8 9 10 --seconds 800
says_not stdout '^ceilings'
run 0 figures 1 2 3 4 5 7 8 9 10 --seconds 800
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
