# ctest: timeout=300
# Steps that lower minus a metric, which no gradient could: the F1 of generated answers, and the
# accuracy. The same journals on 1 and 3 ranks, and after a kill.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
need_python 'numpy, safetensors, tokenizers, xxhash'

DEV_EXAMPLES=200
GAIN_LEAST_SE=5 # over the zero-shot score, in standard errors of a difference of proportions
SETTING="batch: 32, samples_per_step: 4, eps: 3e-3, evaluate_every: 0, objective: metric"

# Questions that are answered with "yes ." or "no .", in three tokens at most.
PYTHONPATH=$QZO_SOURCE/tools "$python" - >rows.jsonl <<'PY'
import json

import tiny_language

(rows,) = tiny_language.labelled([600], seed=2)
for text, label in rows:
    print(json.dumps({"text": text, "answer": ("no", "yes")[label]}))
PY
# prepare FILE [OPTION...]
prepare() {
    local file=$1
    shift
    run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" rows.jsonl "$file" --loss lm --metric f1 \
        --tokenizer "$QZO_SOURCE/tests/fixtures/tiny-llama" --template '{text} ?' \
        --answer ' {answer} .' --train 400 --dev $DEV_EXAMPLES --test 0 --name f1 "$@"
}
prepare f1.qzt --max-new 3

# --- it learns ------------------------------------------------------------------------------------
write_sweep sweep.yaml "steps: 60, $SETTING" "learning_rate: { values: [0, 3e-5] }" \
    "metric: { name: dev_score, goal: maximize }"
sed -i "s|^task: .*|task: f1.qzt|" sweep.yaml
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
mapfile -t scores < <(column stdout dev_score)
zero_shot=$(column stdout zero_shot_dev | head -n 1)
[[ ${scores[0]} == "$zero_shot" ]] || fail "learning rate 0: F1 $zero_shot became ${scores[0]}"
awk -v p="${scores[1]}" -v q="$zero_shot" -v n=$DEV_EXAMPLES -v least=$GAIN_LEAST_SE 'BEGIN {
    exit !((p - q) / sqrt((p * (1 - p) + q * (1 - q)) / n) >= least) }' ||
    fail "F1 $zero_shot became ${scores[1]}, expected $GAIN_LEAST_SE standard errors more"
printf 'F1 %s became %s\n' "$zero_shot" "${scores[1]}"
# What is logged as the loss is minus the score of the batch: at the start that of the split.
run 0 "$QZO" journal out 1 --csv
awk -F, -v score="$zero_shot" 'NR > 1 { sum += ($4 + $5) / 2 } END {
    off = sum / (NR - 1) + score
    exit !(off < 0.03 && off > -0.03) }' stdout || fail "losses are not minus the scores"

# --- ranks and kills change nothing ---------------------------------------------------------------
write_sweep few.yaml "steps: 6, $SETTING" "learning_rate: { values: [3e-5] }"
sed -i "s|^task: .*|task: f1.qzt|" few.yaml
run 0 "$QZO" run few.yaml --out alone
run 0 mpirun -n 3 "$QZO" run few.yaml --out three
run 137 "$QZO" run few.yaml --out killed --inject-fault kill:0@4
run 0 mpirun -n 2 "$QZO" run few.yaml --out killed
for folder in three killed; do
    cmp alone/trials/*.qzj $folder/trials/*.qzj || fail "another journal in $folder"
done

# --- and any other metric -------------------------------------------------------------------------
write_sweep accuracy.yaml "steps: 60, ${SETTING/batch: 32/batch: 64}" \
    "learning_rate: { values: [3e-5] }" \
    "metric: { name: dev_score, goal: maximize }"
run 0 "$QZO" run accuracy.yaml --out accuracy
run 0 "$QZO" report accuracy --csv
awk -v p="$(column stdout dev_score)" -v q="$(column stdout zero_shot_dev)" \
    'BEGIN { exit !(p > q + 0.2) }' || fail "accuracy: $(<stdout)"

# --- answers that were not chosen among numbers are right by chance, and teach nothing ------------
cp -rL "$QZO_SOURCE/tests/fixtures/tiny-llama" nan-model
chmod -R u+w nan-model
nan_head nan-model
sed 's|^model: .*|model: nan-model|' few.yaml >nan.yaml
run 1 "$QZO" run nan.yaml --out nan
run 0 "$QZO" report nan --csv
[[ $(column stdout status) == diverged && $(column stdout steps) == 1 ]] ||
    fail "answers of a model of no numbers: $(<stdout)"

# --- what makes no sense --------------------------------------------------------------------------
prepare perplexity.qzt --metric perplexity
prepare whole.qzt --max-new 64
PYTHONPATH=$QZO_SOURCE/tools "$python" - <<'PY'
from safetensors import safe_open

import prepare_task

with safe_open("f1.qzt", framework="numpy") as task:
    tensors = {name: task.get_tensor(name) for name in task.keys() if "reference" not in name}
    metadata = {key: value for key, value in task.metadata().items() if key != "checksum"}
prepare_task.write_task("bare.qzt", tensors, metadata)
PY
refused() {
    write_sweep bad.yaml "steps: 6, $SETTING" "learning_rate: { values: [3e-5] }" "${3:-}"
    sed -i "s|^task: .*|task: $1|" bad.yaml
    rm -rf bad
    "$QZO" run bad.yaml --out bad >stdout 2>stderr && fail "$1 is run"
    says stderr "$2"
}
refused perplexity.qzt 'the lower the better: expected goal minimize' \
    "metric: { name: dev_score, goal: maximize }"
refused whole.qzt 'answers of 64 tokens leave no room for a prompt'
refused bare.qzt 'f1 of generated answers: its split train has no texts'
