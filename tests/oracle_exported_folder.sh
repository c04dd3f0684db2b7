# ctest: timeout=300
# A folder that `qzo export` wrote, loaded by GPTQModel and transformers: the same dev loss and
# score. QZO_ORACLE_PYTHON names the interpreter of an environment made from
# requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt
cat >sweep.yaml <<TEXT
model: $QZO_SOURCE/tests/fixtures/tiny-llama
task: $task
train: { steps: 40, batch: 16, samples_per_step: 4, evaluate_every: 40 }
parameters: { learning_rate: { values: [1e-4] } }
TEXT
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" export out 1 --to folder --json
mv stdout export.json
exec "$python" "$QZO_SOURCE/tools/check_export.py" folder "$task" export.json
