# ctest: timeout=300
# What transformers and bitsandbytes make of a model at load, and of a folder that `qzo export` made
# of one: the same dev losses. QZO_ORACLE_PYTHON names the interpreter of an environment made from
# requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
model=$QZO_SOURCE/tests/fixtures/tiny-llama-fp32
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt
export CUDA_VISIBLE_DEVICES=

dev() {
    run 0 "$QZO" eval "$1" "$task" --json --threads 1 "${@:2}"
    python3 -c 'import json, sys
print(json.load(sys.stdin)["results"]["tiny-task_dev"]["loss,none"])' <stdout
}
cat >sweep.yaml <<TEXT
model: $model
task: $task
train: { steps: 40, batch: 16, samples_per_step: 4, evaluate_every: 40, quantize: nf4 }
parameters: { learning_rate: { values: [1e-3] } }
TEXT
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" export out 1 --to folder --no-eval
printf '{"nf4": %s, "fp4": %s, "exported": %s}\n' "$(dev "$model" --quantize nf4)" \
    "$(dev "$model" --quantize fp4)" "$(dev folder)" >report.json
exec "$python" "$QZO_SOURCE/tools/check_quantize.py" "$model" "$task" report.json folder
