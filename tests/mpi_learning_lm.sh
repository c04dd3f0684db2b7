# ctest: timeout=120
# The loss of a language model, over the tokens of one right answer, falls on examples held out.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
need_python 'numpy, safetensors, tokenizers, xxhash'

LOSS_MOST_OF_FIRST=0.75 # of the zero-shot loss; 150 steps leave two thirds

# Answers of two tokens: the second one, "." after "yes" or "no", the model knows from its text.
PYTHONPATH=$QZO_SOURCE/tools "$python" - >rows.jsonl <<'PY'
import json

import tiny_language

(rows,) = tiny_language.labelled([600], seed=2)
for text, label in rows:
    print(json.dumps({"text": text, "answer": ("no", "yes")[label]}))
PY
run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" rows.jsonl lm.qzt --loss lm \
    --tokenizer "$QZO_SOURCE/tests/fixtures/tiny-llama" --template '{text} ?' \
    --answer ' {answer} .' --train 400 --dev 200 --test 0
write_sweep sweep.yaml "steps: 150, batch: 16, samples_per_step: 4, eps: 1e-3, evaluate_every: 0" \
    "learning_rate: { values: [0, 1e-4] }; seed: { values: [0, 1, 2] }"
sed -i "s|^task: .*|task: lm.qzt|" sweep.yaml
run 0 mpirun -n 2 "$QZO" run sweep.yaml --out out
for trial in 1 2 3 4 5 6; do
    run 0 "$QZO" journal out "$trial"
    awk -v trial="$trial" '$1 == "EVAL" && $3 == "dev" { loss[$2 > 0] = $7 }
        END { print trial, loss[0], loss[1] }' stdout
done >losses
cat losses
while read -r trial first last; do
    if ((trial <= 3)); then
        [[ $first == "$last" ]] || fail "learning rate 0: the loss $first became $last"
    else
        awk "BEGIN { exit !($last < $LOSS_MOST_OF_FIRST * $first) }" ||
            fail "trial $trial: the loss $first became $last, expected less than" \
                "$LOSS_MOST_OF_FIRST of it"
    fi
done <losses
