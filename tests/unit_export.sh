# ctest: timeout=300
# `qzo export`: the written folder is the base model with the trial's scales, the delta and the
# journal rebuild the same, and nothing is left behind where it fails.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
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
name = next(name for name in found["results"] if name.endswith("_dev"))
assert found["results"][name]["acc,none"] == export["exported_dev_score"]
assert found["results"][name]["loss,none"] == export["exported_dev_loss"]
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

# --- of a trial whose rule keeps more than scales: scored as it was, and as it was read back ---
cat >momentum.yaml <<TEXT
model: moved
task: $task
train: { steps: 4, batch: 4, evaluate_every: 0, update_rule: momentum }
parameters: { learning_rate: { values: [1e-4] } }
TEXT
run 0 "$QZO" run momentum.yaml --out momentum --threads 1
run 0 "$QZO" export momentum 1 --to momentum-folder
says stdout 'after it, read back from the folder'

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

# --- adapters: a PEFT folder alone, beside scales of other layers, or merged ---
cat >lora.yaml <<TEXT
model: moved
task: $task
train: { steps: 10, batch: 4, evaluate_every: 0, eps: 1e-2 }
grids:
  - parameters:
      groups: { value: lora }
      groups.lora.rank: { value: 2 }
      groups.lora.targets: { value: up_proj }
      learning_rate: { value: 1e-2 }
  - parameters:
      groups: { value: scales+lora }
      groups.lora.until: { value: 5 }
      groups.scales.after: { value: 5 }
      groups.scales.exclude: { value: q_proj+v_proj }
      learning_rate: { value: 1e-4 }
TEXT
run 0 "$QZO" run lora.yaml --out lora --threads 1
run 0 "$QZO" export lora 1 --to peft --step 10
says stdout '^adapters peft, for PEFT$'
[[ $(ls peft) == $'adapter_config.json\nadapter_model.safetensors\nqzo_export.json' ]] ||
    fail "the folder of adapters holds $(ls peft)"
python3 - peft "$PWD/moved" <<'TEXT' || fail "adapter_config.json: $(<peft/adapter_config.json)"
import json, struct, sys
config = json.load(open(sys.argv[1] + "/adapter_config.json"))
assert config["base_model_name_or_path"] == sys.argv[2]
assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 16, ["up_proj"])
data = open(sys.argv[1] + "/adapter_model.safetensors", "rb").read()
header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
header.pop("__metadata__", None)
assert len(header) == 4
name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
assert header[name]["shape"] == [2, 64] and header[name]["dtype"] == "F32", header[name]
TEXT
run 0 "$QZO" export lora 1 --to peft-delta --step 10 --delta --no-eval
same peft/adapter_model.safetensors peft-delta/adapter_model.safetensors "the delta of adapters"
run 0 "$QZO" export lora 2 --to phases --step 10 --json
mv stdout phases.json
[[ $(field phases.json changed) == "$(field phases.json values)" ]] || fail "$(<phases.json)"
run 0 "$QZO" export lora 2 --to phases-delta --step 10 --delta --json
mv stdout phases-delta.json
[[ $(field phases.json exported_dev_loss) == "$(field phases-delta.json exported_dev_loss)" ]] ||
    fail "two phases as a delta: $(<phases-delta.json), as a folder $(<phases.json)"
same phases/adapter/adapter_model.safetensors phases-delta/adapter/adapter_model.safetensors \
    "adapters beside a delta"
run 0 "$QZO" export lora 2 --to phases-journal --step 10 --journal
run 0 "$QZO" export phases-journal 1 --to phases-again --step 10 --model moved --no-eval
same phases/model.safetensors phases-again/model.safetensors "scales rebuilt from the journal"
same phases/adapter/adapter_model.safetensors phases-again/adapter/adapter_model.safetensors \
    "adapters rebuilt from the journal"
run 2 "$QZO" export lora 1 --to bad --step 10 --merge
says stderr 'up_proj is quantized \(gptq\)'
run 2 "$QZO" export out 1 --to bad --merge --model moved
says stderr 'the trial has no adapters'
run 2 "$QZO" export lora 1 --to bad --merge --delta

# Merged beside weights that train themselves, the same scores as apart from them.
cat >merge.yaml <<TEXT
model: $fixtures/tiny-llama-fp32
task: $task
train: { steps: 10, batch: 4, evaluate_every: 0, eps: 1e-2 }
parameters:
  groups: { values: [lora, unquantized+weights+lora] }
  learning_rate: { value: 1e-4 }
TEXT
run 0 "$QZO" run merge.yaml --out merge --threads 1
for trial in 1 2; do
    run 0 "$QZO" export merge $trial --to merged$trial --step 10 --merge --json
    mv stdout merged.json
    run 0 "$QZO" export merge $trial --to apart$trial --step 10 --json
    mv stdout apart.json
    python3 - merged.json apart.json <<'TEXT' || fail "$(<merged.json) merged, $(<apart.json) apart"
import json, sys
merged, apart = (json.load(open(path)) for path in sys.argv[1:])
assert apart["dev_loss"] == apart["exported_dev_loss"] == merged["dev_loss"]
assert abs(merged["exported_dev_loss"] - merged["dev_loss"]) < 1e-6  # fp32 sums in another order
assert 0 < merged["surviving"] <= merged["changed"]
TEXT
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
