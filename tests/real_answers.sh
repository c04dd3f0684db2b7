# ctest: timeout=600
# F1 of answers that a real model generates to real questions: by the program, and by
# `qzo generate`, the tokenizer's own library and SQuAD's rules in Python.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
model=$QZO_TEST_DATA/models/stories260K
questions=$QZO_TEST_DATA/tasks/squad/xquad.en.json
[[ -e $model/model.safetensors && -e $questions ]] || skip "no real model in $QZO_TEST_DATA"
need_python 'numpy, safetensors, tokenizers, xxhash'
run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" squad squad.qzt --source "$questions" \
    --tokenizer "$model" --max-length 200 --train 20 --dev 300 --test 20
run 0 "$QZO" eval "$model" squad.qzt --json
cp stdout evaluated
run 0 "$python" "$QZO_SOURCE/tests/real_answers.py" prompts squad.qzt dev
cp stdout prompts
run 0 "$QZO" generate "$model" --ids prompts --each-line --max-new 50 --stop '\n' --stop-at-eos \
    --print-ids
cp stdout ids
run 0 "$python" "$QZO_SOURCE/tests/real_answers.py" score squad.qzt dev "$model" ids
read -r score right <stdout
((right > 2)) || fail "only $right answers share a word with a reference"
# The score is printed with 9 digits.
"$python" - evaluated "$score" <<'PY' || fail "qzo eval says $(<evaluated), expected $score"
import json, sys
found = json.load(open(sys.argv[1]))["results"]["squad_dev"]["f1,none"]
sys.exit(abs(found - float(sys.argv[2])) > 5e-9 * found)
PY
printf 'F1 %s, %s answers share a word\n' "$score" "$right"
