# ctest: timeout=180
# qzo eval: what it says of a split follows from what --predictions says of its examples; several
# tasks, a limit, a trial's scales, demonstrations, calibration; the names of lm-evaluation-harness.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures
model=$fixtures/tiny-llama task=$fixtures/tiny-task.qzt other=$fixtures/tiny-task-shuffled.qzt

run 0 "$QZO" eval "$model" "$task" --json --predictions lines.jsonl --threads 1
mv stdout all.json
python3 - all.json lines.jsonl <<'PY' || fail "results do not follow from the predictions"
import json, math, statistics, sys
PRINTED = 1e-8  # reals are printed with nine digits
found = json.load(open(sys.argv[1]))
lines = [json.loads(line) for line in open(sys.argv[2])]
assert set(found["results"]) == {"tiny-task", "tiny-task_dev"}, set(found["results"])
assert found["config"]["backend"] in ("cpu", "cuda"), found["config"]  # and not "auto"
for name, split in (("tiny-task", "test"), ("tiny-task_dev", "dev")):
    result, own = found["results"][name], [line for line in lines if line["split"] == split]
    assert result["alias"] == name and found["n-shot"][name] == 0
    assert found["n-samples"][name] == {"original": len(own), "effective": len(own)}
    assert found["higher_is_better"][name] == {"acc": True}
    right, losses = [], []
    for line in own:
        scores = [log / count for log, count in zip(line["log_probs"], line["tokens"])]
        assert line["prediction"] == scores.index(max(scores))
        right.append(float(line["prediction"] in line["right"]))
        losses.append(math.log(sum(map(math.exp, scores))) - scores[line["target"]])
        assert line["acc"] == right[-1] and math.isclose(line["loss"], losses[-1], rel_tol=1e-12)
    assert math.isclose(result["acc,none"], statistics.mean(right), rel_tol=PRINTED)
    assert math.isclose(result["loss,none"], statistics.mean(losses), rel_tol=PRINTED)
    error = statistics.stdev(right) / math.sqrt(len(right))
    assert math.isclose(result["acc_stderr,none"], error, rel_tol=PRINTED)
    low, high = result["acc_ci95,none"]
    # The bootstrap's interval is about that of the normal distribution.
    assert abs((high - low) / (2 * 1.96 * error) - 1) < 0.1, (low, high, error)
PY

run 0 "$QZO" eval "$model" "$task" "$other" --limit 20 --split dev --threads 1
says stdout '^tiny-task +dev +20  acc '
[[ $(grep -c ' dev ' stdout) == 2 ]] || fail "two tasks: $(<stdout)"
run 0 "$QZO" eval "$model" "$task" "$other" --limit 20 --split dev --json --threads 1
python3 - stdout all.json <<'PY' || fail "--limit"
import json, sys
found, everything = (json.load(open(path)) for path in sys.argv[1:])
assert len(found["results"]) == 2 and found["config"]["limit"] == 20
original = everything["n-samples"]["tiny-task_dev"]["original"]
assert {"original": original, "effective": 20} in found["n-samples"].values()
PY

# Tasks of one name: each has names of its own, the same in the results and in the predictions.
cp "$task" same.qzt
run 0 "$QZO" eval "$model" "$task" same.qzt same.qzt --limit 3 --json --threads 1 \
    --predictions named.jsonl
python3 - stdout named.jsonl <<'PY' || fail "tasks of one name: $(<stdout)"
import json, sys
found = json.load(open(sys.argv[1]))
lines = [json.loads(line) for line in open(sys.argv[2])]
tasks = ["tiny-task", "same.qzt", "same.qzt#2"]
names = {name + ending for name in tasks for ending in ("", "_dev")}
for part in ("results", "n-shot", "n-samples", "higher_is_better", "versions"):
    assert set(found[part]) == names, (part, set(found[part]))
assert all(found["results"][name]["alias"] == name for name in names)
assert [line["task"] for line in lines] == [name for name in tasks for _ in range(6)]
PY

# A task of images has a loss alone, and the lower the better.
run 0 "$QZO" eval "$fixtures/mmdit/sd3" "$fixtures/mmdit/toy.qzt" --split dev --json --threads 1 \
    --backend cpu
python3 - stdout <<'PY' || fail "images: $(<stdout)"
import json, sys
found = json.load(open(sys.argv[1]))
assert found["higher_is_better"] == {"toy_dev": {"loss": False}}
assert found["config"]["backend"] == "cpu"
PY

# Training examples, whose rows are the longest: more at once than a step reads.
run 0 "$QZO" eval "$model" "$task" --split train --json --threads 1
mv stdout train.json
write_sweep train.yaml "steps: 1, batch: 2, learning_rate: 0, evaluate_every: 1" \
    "seed: { values: [0] }"
run 0 "$QZO" run train.yaml --out train --threads 1
trained_task=$(sed -n 's/^task: *//p' train.yaml)
run 0 "$QZO" eval train "$trained_task" --trial 1 --split train --json --threads 1
python3 - stdout train.json <<'PY' || fail "training examples"
import json, math, sys
ROUNDED = 1e-8  # reals are printed with nine digits
(mine,), (other,) = (json.load(open(path))["results"].values() for path in sys.argv[1:])
assert mine["acc,none"] == other["acc,none"], (mine, other)
assert math.isclose(mine["loss,none"], other["loss,none"], rel_tol=ROUNDED), (mine, other)
PY

# A trial's scales: the score at its best step is what the run recorded, that of step 0 zero-shot.
# Passes of 300 tokens: eval cuts as the trial does, or the last bits of the loss would differ.
write_sweep sweep.yaml "steps: 20, batch: 16, samples_per_step: 2, evaluate_every: 10, \
eval_tokens: 300" \
    "learning_rate: { values: [1e-4] }"
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" report out --json
mv stdout table.json
task_of_run=$(sed -n 's/^task: *//p' sweep.yaml)
for step in best 0; do
    step_option=()
    if [[ $step == 0 ]]; then step_option=(--step 0); fi
    run 0 "$QZO" eval out "$task_of_run" --trial 1 "${step_option[@]}" --split dev --json \
        --threads 1
    python3 - "$step" stdout table.json <<'PY' || fail "a trial at step $step: $(<stdout)"
import json, sys
step, found, table = sys.argv[1], json.load(open(sys.argv[2])), json.load(open(sys.argv[3]))
result, trial = next(iter(found["results"].values())), table["trials"][0]
expected = trial["dev_score"] if step == "best" else trial["zero_shot_dev"]
assert result["acc,none"] == expected, (result, trial)
if step == "best":
    assert result["loss,none"] == trial["dev_loss"], (result, trial)
    assert "step %d, the best on dev" % trial["best_step"] in found["config"]["trial"]
PY
done

# Demonstrations are computed once for all examples of a pass, and no bit tells how many those are.
for setting in "eval_batch: 1" "eval_batch: 16" "eval_tokens: 200"; do
    write_sweep shots.yaml "steps: 1, batch: 2, learning_rate: 0, evaluate_every: 1, $setting" \
        "seed: { values: [0] }"
    sed -i 's/tiny-task/tiny-task-shots/' shots.yaml
    run 0 "$QZO" run shots.yaml --out "shots $setting" --threads 1
    run 0 "$QZO" eval "shots $setting" "$fixtures/tiny-task-shots.qzt" --trial 1 --threads 1 \
        --predictions "$setting.jsonl"
    cmp "$setting.jsonl" "eval_batch: 1.jsonl" || fail "$setting: other log-probabilities"
done

# Calibration: sums of log-probabilities less those after the calibration prompt.
run 0 "$QZO" eval "$model" "$task" --split dev --predictions base.jsonl --threads 1
run 0 "$QZO" eval "$model" "$task" --split dev --calibration "$task" --json --threads 1 \
    --predictions same.jsonl
python3 - base.jsonl same.jsonl <<'PY' || fail "calibration by itself leaves nothing to choose by"
import json, sys
base, same = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert all(line["prediction"] == 0 for line in same)
assert [line["loss"] for line in base] == [line["loss"] for line in same]
PY

# Predictions appear whole or not at all, and never in the place of what is read.
echo before >kept.jsonl
run 2 "$QZO" eval nowhere "$task" --predictions kept.jsonl
[[ $(<kept.jsonl) == before ]] || fail "a failing evaluation left $(wc -c <kept.jsonl) bytes"
ln -s kept.jsonl link.jsonl
run 0 "$QZO" eval "$model" "$task" --limit 2 --predictions link.jsonl --threads 1
[[ -L link.jsonl && $(wc -l <kept.jsonl) == 4 ]] || fail "predictions through a link"
mkfifo pipe
cat pipe >piped.jsonl &
run 0 "$QZO" eval "$model" "$task" --limit 2 --predictions pipe --threads 1
wait "$!"
[[ -p pipe ]] || fail "a pipe is a file now"
same kept.jsonl piped.jsonl "predictions to a pipe"
cp -r "$model" own
cp "$task" own.qzt
cp "$fixtures/gguf/tiny-llama-q4_0/"*.gguf own.gguf
ln own.qzt hard.qzt
sed "s#^model: .*#model: $PWD/own#" train.yaml >own.yaml
run 0 "$QZO" run own.yaml --out own-out --threads 1
# keeps FILE ARGUMENT...: eval refuses to write predictions there, and the file stays as it is.
keeps() {
    cp "$1" untouched
    run 2 "$QZO" eval "${@:2}" --limit 2 --predictions "$1" --threads 1
    says stderr "predictions: expected a new file, $1 is read as part of"
    same untouched "$1" "an input that predictions were to replace"
}
keeps own.qzt "$model" own.qzt
keeps hard.qzt "$model" "$task" own.qzt
keeps own.qzt "$model" "$task" --calibration own.qzt
keeps own/model.safetensors own own.qzt
keeps own/config.json own own.qzt
keeps own.gguf own.gguf own.qzt
keeps own/model.safetensors own-out own.qzt --trial 1
keeps "$(echo own-out/trials/*.qzj)" own-out own.qzt --trial 1
if compgen -G './*.jsonl.??????' >/dev/null; then fail "a file is left: $(ls)"; fi

run 2 "$QZO" eval "$model" "$task" --step 3
says stderr '--step is a trial.s: --trial names one'
run 2 "$QZO" eval out "$task_of_run" --trial 1 --step 21
says stderr '--step 21: the journal ends at step 20'
run 2 "$QZO" eval "$model" "$task" --limit 0
run 2 "$QZO" eval "$model" "$task" --split training
says stderr '--split: expected train|dev|test, found .training.'
run 2 "$QZO" eval "$model"
says stderr 'expected .qzo eval MODEL TASK'
run 2 "$QZO" eval "$model" "$task" "$other" --calibration "$task"
says stderr '--calibration is that of one task, found 2'
run 2 "$QZO" eval "$model" "$task" --calibration "$other" --split train --limit 50
says stderr 'calibration: example .* is another one'
run 2 "$QZO" eval "$model" "$task" --calibration "$other" --split train
says stderr "calibration: expected the task's 1000 examples, found 700"
run 3 "$QZO" eval nowhere "$task" --predictions nowhere/lines.jsonl # before the model is read
says stderr 'nowhere/lines.jsonl: cannot be written'

# The loss of a language model is per token, of an example as of a split.
python=python3
if [[ -x $QZO_SOURCE/.venv/bin/python ]]; then python=$QZO_SOURCE/.venv/bin/python; fi
"$python" -c 'import numpy, safetensors, tokenizers, xxhash' 2>/dev/null || {
    echo "left out: tasks of loss lm, without the packages of tools/requirements.txt"
    exit 0
}
for text in "the film was good" "the plot was bad" "the cast was great" "the story was dull"; do
    echo "{\"text\": \"$text\", \"answer\": \"yes\"}"
    echo "{\"text\": \"$text .\", \"answer\": \"no . no\"}"
done >rows.jsonl
run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" rows.jsonl lm.qzt --loss lm \
    --tokenizer "$model" --template '{text} ?' --answer ' {answer} .' --train 2 --dev 6 --test 0
run 0 "$QZO" eval "$model" lm.qzt --json --predictions lm.jsonl --threads 1
python3 - stdout lm.jsonl <<'PY' || fail "losses per token"
import json, math, sys
ROUNDED = 1e-8  # reals are printed with nine digits
(result,) = json.load(open(sys.argv[1]))["results"].values()
lines = [json.loads(line) for line in open(sys.argv[2])]
tokens = [line["tokens"][line["target"]] for line in lines]
assert len(set(tokens)) > 1, tokens
for line, count in zip(lines, tokens):
    own = -line["log_probs"][line["target"]] / count
    assert math.isclose(line["loss"], own, rel_tol=1e-12), line
total = sum(line["loss"] * count for line, count in zip(lines, tokens))
assert math.isclose(result["loss,none"], total / sum(tokens), rel_tol=ROUNDED)
PY
