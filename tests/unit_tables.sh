# ctest: timeout=120
# Tables: every text survives CSV and JSON, columns are aligned, unreadable parts are named, and a
# plan counts what a run then does.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures

# --- a swept path with a comma and a quote --------------------------------------------------------
odd='odd, "name".qzt'
cp -L "$fixtures/tiny-task.qzt" "$odd"
cp -L "$fixtures/tiny-task-shuffled.qzt" plain.qzt
cat >sweep.yaml <<YAML
name: tables
model: $fixtures/tiny-llama
train: { steps: 3, batch: 10, micro_batch: 4, samples_per_step: 2,
         evaluate_every: 2, eval_batch: 7 }
parameters:
  task: { values: ['$odd', plain.qzt, absent.qzt] }
YAML
run 1 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
python3 - "$odd" <<'PY' || fail "report --csv"
import csv, sys
rows = list(csv.DictReader(open("stdout", newline="")))
assert [row["task"] for row in rows] == [sys.argv[1], "plain.qzt", "absent.qzt"], rows
assert [row["status"] for row in rows] == ["finished", "finished", "failed"], rows
assert [row["steps"] for row in rows] == ["3", "3", "0"], rows
assert rows[2]["dev_loss"] == rows[2]["best_step"] == rows[2]["zero_shot_dev"] == "", rows
assert all(float(row["dev_loss"]) > 0 for row in rows[:2]), rows
PY
cp stdout table.csv
run 0 "$QZO" report out --json
python3 - "$odd" <<'PY' || fail "report --json"
import csv, json, sys
table = json.load(open("stdout"))["trials"]
rows = list(csv.DictReader(open("table.csv", newline="")))
assert [row["id"] for row in rows] == [row["id"] for row in table]
assert table[0]["parameters"]["task"] == sys.argv[1]
assert table[2]["dev_loss"] is None and "absent.qzt" in table[2]["message"]
assert all(abs(float(a["dev_loss"]) - b["dev_loss"]) < 1e-8 for a, b in zip(rows[:2], table))
PY
run 0 "$QZO" report out
says stdout '^tables: 3 trials: 2 finished, 1 failed$'
says stdout '^trial 3 failed: .*absent\.qzt'
(($(sed -n 2,5p stdout | awk '{ print length }' | sort -u | wc -l) <= 2)) ||
    fail "the columns are not aligned: $(<stdout)"

# --- a plan ---------------------------------------------------------------------------------------
run 0 "$QZO" plan sweep.yaml --ranks 2
says stdout '^tables: 3 trials, 6 steps, '
says stdout '^2 ranks: 2 trials at a time, 1 rank each$'
says stdout '^1 trial cannot run: .*absent\.qzt'
sed 's/^train:/ranks_per_trial: 2\ntrain:/' sweep.yaml >pairs.yaml
run 0 "$QZO" plan pairs.yaml --ranks 5
says stdout '^5 ranks: 3 trials at a time, 2 ranks each, the last 1$'
run 0 "$QZO" plan sweep.yaml --json --backend cpu
python3 - <<'PY' || fail "plan --json: $(<stdout)"
import json
plan = json.load(open("stdout"))
assert plan["trials"] == 3 and plan["steps"] == 6 and len(plan["refused"]) == 1, plan
memory = plan["memory_bytes"]
own = ("weights", "ends", "loaded", "scales", "activations", "scratch")
assert memory["own"] == sum(memory[part] for part in own), memory
assert memory["sum"] == memory["mapped"] + memory["host"] + memory["own"], memory
assert memory["scales"] == 2 * memory["host"] == 2 * 4 * memory["values"] == 8 * 2560, memory
PY
sed -i 's/task: .*/task: { values: [absent.qzt] }/' sweep.yaml
run 2 "$QZO" plan sweep.yaml
says stderr 'no trial can run: .*absent\.qzt'

# --- two trials whose paths part ------------------------------------------------------------------
write_sweep sweep.yaml "steps: 4, batch: 8" \
    "evaluate_every: { values: [2, 4] }; learning_rate: { values: [1e-5, 1e-4] }"
run 0 "$QZO" run sweep.yaml --out parts
run 0 "$QZO" diff parts 1 3
says stdout '^setting evaluate_every: 2 \| 4$'
says stdout '^equal through step 4$'
says_not stdout 'differs'
run 0 "$QZO" diff parts 1 2
says stdout '^setting learning_rate: '
says stdout '^equal through step 0$'
says stdout '^step 1 differs: k of sample 0: '

# --- a trial that learns nothing ------------------------------------------------------------------
# With steps this small no scale changes in fp32: both losses are the same, and every gradient is 0.
write_sweep sweep.yaml "steps: 25, batch: 8" "eps: { values: [1e-14, 1e-3] }; seed: { values: [0] }"
run 0 "$QZO" run sweep.yaml --out still
says stdout '^trial 1 learns nothing: every gradient of its last 25 steps is exactly 0 '
says_not stdout '^trial 2 learns nothing'
run 0 "$QZO" report still --json
python3 - <<'PY' || fail "still_steps: $(<stdout)"
import json
trials = json.load(open("stdout"))["trials"]
assert [trial["still_steps"] for trial in trials] == [25, 0], trials
PY

# Where a run says how long it took from the end of one trial to the start of the next.
for id in $(awk -F, 'NR > 1 { print $2 }' <("$QZO" report still --csv)); do
    says "still/timing/$id.jsonl" '"event": "started", "step": 0, .*"switch_seconds": [0-9.]+'
done
