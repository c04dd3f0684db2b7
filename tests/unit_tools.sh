# ctest: timeout=120
# The Python tools and the program agree: what tools/ write, `qzo` reads and runs.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python 'numpy, safetensors, tokenizers, xxhash'
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
for bits in 2 3 8; do
    run 0 "$python" "$QZO_SOURCE/tools/quantize_gptq.py" "$fixtures/tiny-llama-fp32" "model-$bits" \
        --group-size 32 --bits "$bits"
    run 0 "$QZO" eval "model-$bits" "$fixtures/tiny-task.qzt" --threads 1
    says stdout 'dev .* 300 '
done
cat >sweep.yaml <<'YAML'
model: model
task: task.qzt
train: { steps: 3, batch: 8 }
parameters: { learning_rate: { values: [1e-4] } }
YAML
run 0 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
[[ $(column stdout status) == finished ]] || fail "not finished: $(<stdout)"

# --- named tasks and a task of one's own ----------------------------------------------------------
# read_rows FILE SPLIT EXAMPLE: the texts of an example's options with the answer in brackets, then
# its gold option, right options and references.
read_rows() {
    PYTHONPATH=$QZO_SOURCE/tools "$python" - "$@" <<'PY'
import sys
import tensor_file
tensors, _ = tensor_file.read(sys.argv[1])
split, example = sys.argv[2], int(sys.argv[3])
get = lambda name: tensors[f"{split}.{name}"].array if f"{split}.{name}" in tensors else None
pieces, begin = bytes(tensors["pieces.bytes"].array), tensors["pieces.begin"].array
text = lambda ids: "".join(pieces[begin[i]:begin[i + 1]].decode() for i in ids)
first, last = get("option_begin")[example:example + 2]
for option in range(first, last):
    ids = get("tokens")[get("token_begin")[option]:get("token_begin")[option + 1]]
    answer = len(ids) - get("answer_tokens")[option]
    print(f"{text(ids[:answer])}[{text(ids[answer:])}]")
print("gold", get("gold")[example])
if get("right") is not None:
    print("right", *get("right")[first:last])
if get("reference_begin") is not None:
    cuts = get("reference_text_begin")
    for i in range(*get("reference_begin")[example:example + 2]):
        print("reference", bytes(get("reference_bytes")[cuts[i]:cuts[i + 1]]).decode())
PY
}
prepare=("$python" "$QZO_SOURCE/tools/prepare_task.py")
small=(--tokenizer "$fixtures/tiny-llama" --train 2 --dev 1 --test 1 --bos no)
cat >own.yaml <<'YAML'
name: mine
template: "{text} ?"
options: [" no", " yes"]
YAML
printf 'text,label\nthe film was good .,yes\nthe plot was bad .,0\nthe cast was great .,1\n%s\n' \
    "the story was dull .,no" >own.csv
run 0 "${prepare[@]}" own.csv own.qzt "${small[@]}" --config own.yaml
run 0 read_rows own.qzt test 0
says stdout ' \?\[ no\]$'
says stdout ' \?\[ yes\]$'
says stdout '^gold [01]$'
run 1 "${prepare[@]}" own.csv own-sfc.qzt "${small[@]}" --config own.yaml --sfc
says stderr 'sfc: the task has no calibration prompt'
(cat own.yaml && echo 'calibration: "the film was good ?"') >own-sfc.yaml
run 0 "${prepare[@]}" own.csv own-sfc.qzt "${small[@]}" --config own-sfc.yaml --sfc
run 0 read_rows own-sfc.qzt test 0
says stdout '^ the film was good \?\[ yes\]$'
run 0 "$QZO" eval model own.qzt --split test --predictions plain.jsonl
run 0 "$QZO" eval model own-sfc.qzt --split test --predictions prior.jsonl
run 0 "$QZO" eval model own.qzt --split test --calibration own-sfc.qzt --predictions gain.jsonl
"$python" - plain.jsonl prior.jsonl gain.jsonl <<'PY' || fail "calibration: $(cat ./*.jsonl)"
import json, sys
plain, prior, found = (json.loads(open(path).readline()) for path in sys.argv[1:])
gains = [a - b for a, b in zip(plain["log_probs"], prior["log_probs"])]
assert found["prediction"] == gains.index(max(gains)) and found["loss"] == plain["loss"]
PY
sed 's/^options: .*/options: [no, yes]/' own.yaml >unquoted.yaml
run 1 "${prepare[@]}" own.csv own.qzt "${small[@]}" --config unquoted.yaml
says stderr 'options: expected a text, found False; YAML takes yes, no and numbers'
echo 'colour: red' >>own.yaml
run 1 "${prepare[@]}" own.csv own.qzt "${small[@]}" --config own.yaml
says stderr "unknown key 'colour'; known: "

mkdir copa
for i in 1 2 3; do
    echo '{"premise": "the film was good .", "choice1": "The cast was great .",' \
        '"choice2": "The plot was bad .", "question": "cause", "label": 1}'
done >copa/train.jsonl
cp copa/train.jsonl copa/val.jsonl
run 0 "${prepare[@]}" copa copa.qzt --source copa "${small[@]}"
run 0 read_rows copa.qzt train 0
says stdout '^gold 1$'
question='{"question": "was the film good ?", "answers": [{"text": "good"}, {"text": "great"}]}'
questions="$question, $question, $question, $question"
paragraph="{\"context\": \"the film was good .\", \"qas\": [$questions]}"
echo "{\"data\": [{\"title\": \"film\", \"paragraphs\": [$paragraph]}]}" >squad.json
run 0 "${prepare[@]}" squad squad.qzt --source squad.json "${small[@]}"
says stdout 'train, dev and test from squad.json'
run 0 read_rows squad.qzt dev 0
says stdout '^reference good$'
says stdout '^reference great$'
# Answers that are generated have a score.
cat >squad.yaml <<YAML
model: $fixtures/tiny-llama
task: squad.qzt
train: { steps: 2, batch: 2 }
parameters: { learning_rate: { values: [1e-4] } }
YAML
run 0 "$QZO" run squad.yaml --out squad-out
run 0 "$QZO" report squad-out --csv
[[ $(column stdout status) == finished && $(column stdout dev_score) =~ ^[01] ]] ||
    fail "a task of generated answers: $(<stdout)"
echo 'metric: { name: dev_score, goal: maximize }' >>squad.yaml
run 0 "$QZO" run squad.yaml --out squad-out2
run 1 "${prepare[@]}" rte rte.qzt --source copa/train.jsonl "${small[@]}"
says stderr "not rows of rte: KeyError.'hypothesis'"
run 1 "${prepare[@]}" nothing "${small[@]}"
says stderr 'nothing: no such file or folder'
