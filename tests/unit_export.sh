# ctest: timeout=300
# `qzo export`: the written folder is the base model with the trial's scales, the delta and the
# journal rebuild the same, and nothing is left behind where it fails.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures
task=$fixtures/tiny-task.qzt
cp -r "$fixtures/tiny-llama" base
echo 'a licence' >base/LICENSE
echo 'old weights' >base/pytorch_model.bin

cat >sweep.yaml <<TEXT
model: base
task: $task
train: { steps: 20, batch: 16, samples_per_step: 2, evaluate_every: 10 }
parameters: { learning_rate: { values: [1e-4, 0] } }
TEXT
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" report out --csv
mv stdout table.csv
best=$(column table.csv best_step | head -n 1)

field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }

# --- a folder -------------------------------------------------------------------------------------
run 0 "$QZO" export out 1 --to folder --json
mv stdout folder.json
[[ $(field folder.json step) == "$best" ]] || fail "exported step $(field folder.json step)"
same base/config.json folder/config.json "config.json"
same base/LICENSE folder/LICENSE "a file beside the weights"
[[ ! -e folder/pytorch_model.bin ]] || fail "untuned weights were copied"
python3 - base folder <<'TEXT' || fail "tensors differ where they should not"
import json, struct, sys
def tensors(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    size, = struct.unpack("<Q", data[:8])
    header, payload = json.loads(data[8:8 + size]), data[8 + size:]
    assert size % 8 == 0, "tensors are not aligned"
    header.pop("__metadata__", None)
    return {name: (e["dtype"], e["shape"], payload[e["data_offsets"][0]:e["data_offsets"][1]])
            for name, e in header.items()}
old, new = map(tensors, sys.argv[1:])
assert old.keys() == new.keys()
for name in old:
    assert (old[name] == new[name]) != name.endswith(".scales"), name
    assert old[name][:2] == new[name][:2], name
TEXT
# What export measured after the rounding is what the folder scores.
run 0 "$QZO" eval folder "$task" --json
mv stdout eval.json
python3 - folder.json eval.json <<'TEXT' || fail "$(<eval.json) is not what $(<folder.json) says"
import json, sys
export, found = (json.load(open(path)) for path in sys.argv[1:])
assert found["splits"]["dev"]["score"] == export["exported_dev_score"]
assert found["splits"]["dev"]["loss"] == export["exported_dev_loss"]
assert export["dev_loss"] != export["exported_dev_loss"]
assert 0 < export["surviving"] <= export["changed"] <= export["values"]
TEXT
# The score before it is the one that the run recorded.
recorded=$(column table.csv dev_loss | head -n 1)
[[ $(field folder.json dev_loss) == "$recorded" ]] ||
    fail "dev loss $(field folder.json dev_loss) before the rounding, the run recorded $recorded"

# Scales that never moved come back bit for bit.
run 0 "$QZO" export out 2 --to same --no-eval
says stdout 'of which 0 changed'
run 0 "$QZO" inspect same --json

# --- a delta, a journal ---------------------------------------------------------------------------
run 0 "$QZO" export out 1 --to delta --delta --json
mv stdout delta.json
for key in step values_digest surviving exported_dev_loss; do
    [[ $(field delta.json $key) == "$(field folder.json $key)" ]] || fail "the delta's $key differs"
done
[[ $(stat -c %s delta/model.safetensors) -lt $(stat -c %s folder/model.safetensors) ]] ||
    fail "the delta is as large as the folder"
run 0 "$QZO" export out 2 --to no-delta --delta --no-eval
says stdout '0 written anew'

run 0 "$QZO" export out 1 --to journal --journal --step 10
mv base moved
run 0 "$QZO" export journal 1 --to again --model moved --step 10
run 0 "$QZO" export out 1 --to ten --model moved --step 10
same ten/model.safetensors again/model.safetensors "the model rebuilt from the exported journal"
run 0 "$QZO" replay journal 1 --check --model moved
says stdout '^step 10 '
says journal/qzo_export.json '"base_model_digest": "[0-9a-f]{32}"'

# --- of every architecture, what trained and did not move comes back bit for bit ---
# GPT-2 stores its linear layers turned, Gemma 2 the gains of norms less one.
for model in "$fixtures"/arch/*/; do
    name=$(basename "$model")
    cat >"$name.yaml" <<TEXT
model: $model
task: $task
train: { steps: 1, batch: 4, groups: [scales, unquantized, weights] }
parameters: { learning_rate: { values: [0] } }
TEXT
    run 0 "$QZO" run "$name.yaml" --out "$name-out" --threads 1
    run 0 "$QZO" export "$name-out" 1 --to "$name" --no-eval
    same "$model/model.safetensors" "$name/model.safetensors" "$name at rest"
done

# --- what is refused leaves nothing ---------------------------------------------------------------
run 2 "$QZO" export out 1 --to ten --model moved
says stderr 'ten exists already'
run 2 "$QZO" export out 1 --to bad --model folder
says stderr 'not the model that the trial started from'
run 2 "$QZO" export out 1 --to bad --model moved --step 21
says stderr 'ends at step 20'
run 2 "$QZO" export out 1 --to bad
run 2 "$QZO" export out 1 --to bad --delta --journal
run 2 "$QZO" export out 1 --to nowhere/bad --model moved
if (($(id -u) != 0)); then
    mkdir closed && chmod 555 closed
    run 3 "$QZO" export out 1 --to closed/bad --model moved
fi
left=$(find . -maxdepth 1 -name 'bad*')
[[ -z $left ]] || fail "a failed export left $left"
