# ctest: timeout=300
# Exports of every format, with what trains beside or instead of the scales: only the tensors that
# hold tuned values change, they keep their types, and the folder scores what export says it does.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures
task=$fixtures/tiny-task.qzt

# check MODEL NAME GROUPS CHANGED [GONE]: names of the tensors that may change, and of those that
# leave, as patterns.
check() {
    cat >"$2.yaml" <<TEXT
model: $1
task: $task
train: { steps: 4, batch: 8, evaluate_every: 4, eps: 1e-2, groups: [$3] }
parameters: { learning_rate: { values: [1e-2] } }
TEXT
    run 0 "$QZO" run "$2.yaml" --out "$2-out" --threads 1
    run 0 "$QZO" export "$2-out" 1 --step 4 --to "$2" --threads 1 --json
    mv stdout "$2.json"
    run 0 "$QZO" eval "$2" "$task" --json --threads 1
    mv stdout eval.json
    python3 - "$1" "$2" "$4" "${5:-}" <<'TEXT' || fail "$2: the exported folder is not as expected"
import json, re, struct, sys
base, name, may_change, may_go = sys.argv[1:]


def tensors(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return {key: (e["dtype"], e["shape"], data[begin:][slice(*e["data_offsets"])])
            for key, e in header.items()}


old, new = tensors(base), tensors(name)
changed = {key for key in new if old.get(key) != new[key]}
gone = old.keys() - new.keys()
assert new.keys() <= old.keys(), new.keys() - old.keys()
assert changed and all(re.search(may_change, key) for key in changed), changed
assert all(may_go and re.search(may_go, key) for key in gone), gone
assert bool(gone) == bool(may_go), "nothing left"
for key in changed:
    kept = old[key][0] == new[key][0] or (may_go and new[key][0] == "F32") or "quant_state" in key
    assert kept, (key, old[key][0], new[key][0])
export = json.load(open(name + ".json"))
found = json.load(open("eval.json"))["results"]["tiny-task_dev"]
assert 0 < export["surviving"] <= export["changed"] <= export["values"], export
assert found["loss,none"] == export["exported_dev_loss"], (found, export)
assert abs(export["dev_loss"] - export["exported_dev_loss"]) <= 1e-2 * export["dev_loss"], export
TEXT
}

for variant in bnb/nf4 bnb/fp4 aqlm/2x8 gptq/v1-asym-2bit gptq/v2-asym-3bit-desc-act \
    gptq/v1-asym-8bit-g16 awq/g32 compressed/int4-g16-asym compressed/int8-bytes \
    hqq/4bit-g32; do
    name=${variant//\//-}
    widened "$fixtures/$variant" "base-$name"
    check "base-$name" "$name" scales '\.(scales|weight\.absmax|weight_scale|scale)$'
done
# An absmax that was quantized itself is stored plainly.
widened "$fixtures/bnb/nf4-nested" base-nested
check base-nested nested scales '\.weight\.(absmax|quant_state\.bitsandbytes__nf4)$' \
    '\.weight\.nested_(absmax|quant_map)$'
# Beside the scales, and without any.
ends='(norm|embed_tokens|lm_head)\.?(weight)?$|(layer)?norm\.weight$'
check base-aqlm-2x8 aqlm-ends "scales, unquantized" "\\.scales\$|$ends"
check base-bnb-nf4 bnb-ends unquantized "$ends"
check "$fixtures/tiny-llama-fp32" weights weights '_proj\.weight$'
