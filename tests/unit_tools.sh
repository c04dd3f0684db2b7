# ctest: timeout=120
# The Python tools and the program agree: what tools/ write, `qzo` reads and runs.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=python3
if [[ -x $QZO_SOURCE/.venv/bin/python ]]; then python=$QZO_SOURCE/.venv/bin/python; fi
"$python" -c 'import numpy, safetensors, tokenizers, xxhash' 2>/dev/null ||
    skip "no packages of tools/requirements.txt (tools/test installs them in .venv)"
fixtures=$QZO_SOURCE/tests/fixtures

# rows SEED COUNT: examples in the words of the tiny model.
rows() {
    awk -v seed="$1" -v count="$2" 'BEGIN {
        srand(seed)
        split("plot cast story film", nouns)
        split("dull bad good great", words)
        for (i = 0; i < count; i++) {
            word = 1 + int(rand() * 4)
            printf "{\"text\": \"the %s was %s .\", \"label\": %d}\n", nouns[1 + int(rand() * 4)],
                words[word], (word > 2)
        }
    }'
}
rows 1 60 >train.jsonl
rows 2 20 >test.jsonl
run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" train.jsonl task.qzt \
    --tokenizer "$fixtures/tiny-llama" --test-file test.jsonl --template '{text} ?' \
    --options ' no' ' yes' --label-field label --train 40 --dev 20 --test 20
run 0 "$python" "$QZO_SOURCE/tools/quantize_gptq.py" "$fixtures/tiny-llama-fp32" model \
    --group-size 32 --asym
run 0 "$QZO" inspect model
says stdout '2560'
cat >sweep.yaml <<'YAML'
model: model
task: task.qzt
train: { steps: 3, batch: 8 }
parameters: { learning_rate: { values: [1e-4] } }
YAML
run 0 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
[[ $(column stdout status) == finished ]] || fail "not finished: $(<stdout)"
