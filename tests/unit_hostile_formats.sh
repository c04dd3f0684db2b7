# ctest: timeout=180
# Quantized tensors made to hurt: NF4 with and without nested absmax, AQLM and 3-bit GPTQ with parts
# that are missing, too short, of another type, out of range or not finite. Each ends with exit code
# 2 and one sentence that names the tensor, and `inspect` with no more than that.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures
task=$fixtures/tiny-task.qzt

python3 - "$fixtures" models >list <<'PYTHON' || fail "the hostile models were not made"
"""Writes folders models/NAME, each with one thing wrong; prints NAME and the message to expect."""
import json, pathlib, struct, sys

fixtures, target = map(pathlib.Path, sys.argv[1:])
Q = "model.layers.0.self_attn.q_proj"
NF4, NESTED = f"{Q}.weight.quant_state.bitsandbytes__nf4", "nf4-nested"


def read(folder):
    blob = (fixtures / folder / "model.safetensors").read_bytes()
    end = 8 + struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:end])
    header.pop("__metadata__", None)
    return {name: [t["dtype"], t["shape"], blob[end + t["data_offsets"][0]:
                                                end + t["data_offsets"][1]]]
            for name, t in header.items()}


def model(source, name, message, edit, settings=None):
    """edit(tensors) changes {name: [dtype, shape, bytes]} in place."""
    tensors, header, data = read(source), {}, b""
    edit(tensors)
    for key, (dtype, shape, content) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape,
                       "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    folder = target / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = json.loads((fixtures / source / "config.json").read_text())
    config["quantization_config"] = {**config["quantization_config"], **(settings or {})}
    (folder / "config.json").write_text(json.dumps(config))
    print(name, message)


def gone(key):
    return lambda tensors: tensors.pop(key)


def state(key=NF4, raw=None, **changes):
    """Other settings beside the codes; a change to None takes one out."""
    def edit(tensors):
        content = {**json.loads(tensors[key][2]), **changes}
        text = raw if raw is not None else json.dumps(
            {k: v for k, v in content.items() if v is not None}).encode()
        tensors[key] = ["U8", [len(text)], text]
    return edit


def typed(key, dtype):
    def edit(tensors):
        tensors[key][0] = dtype
    return edit


def cut(key, item_bytes=1):
    """One element less."""
    def edit(tensors):
        content = tensors[key][2][:-item_bytes]
        tensors[key][1:] = [[len(content) // item_bytes], content]
    return edit


def put(key, content, at=0):
    def edit(tensors):
        old = tensors[key][2]
        tensors[key][2] = old[:at] + content + old[at + len(content):]
    return edit


NAN, INF = struct.pack("<f", float("nan")), struct.pack("<f", float("inf"))
HALF_NAN = struct.pack("<e", float("nan"))
bnb = lambda *arguments: model("bnb/nf4", *arguments)
nested = lambda *arguments: model("bnb/nf4-nested", *arguments)
aqlm = lambda *arguments, **settings: model("aqlm/2x8", *arguments, settings)
gptq = lambda *arguments, **settings: model("gptq/v1-asym-3bit", *arguments, settings)

bnb("nf4-no-state", "q_proj.weight: expected F32, F16 or BF16, found U8", gone(NF4))
bnb("nf4-no-absmax", "q_proj.weight.absmax is missing", gone(f"{Q}.weight.absmax"))
bnb("nf4-no-levels", "q_proj.weight.quant_map is missing", gone(f"{Q}.weight.quant_map"))
bnb("nf4-no-codes", "q_proj.weight is missing", gone(f"{Q}.weight"))
bnb("nf4-codes-short", "q_proj.weight: expected .* elements", cut(f"{Q}.weight"))
bnb("nf4-codes-typed", "q_proj.weight: expected U8, found I8", typed(f"{Q}.weight", "I8"))
bnb("nf4-absmax-short", "weight.absmax: expected .* elements", cut(f"{Q}.weight.absmax", 4))
bnb("nf4-absmax-typed", "weight.absmax: expected F32, found I32",
    typed(f"{Q}.weight.absmax", "I32"))
bnb("nf4-absmax-nan", "absmax of row 0, block 0 is not finite", put(f"{Q}.weight.absmax", NAN))
bnb("nf4-absmax-inf", "absmax of row 1, block 0 is not finite", put(f"{Q}.weight.absmax", INF, 4))
bnb("nf4-levels-nan", "quant_map: element 3 is not finite", put(f"{Q}.weight.quant_map", NAN, 12))
bnb("nf4-levels-short", "quant_map: expected 16 elements", cut(f"{Q}.weight.quant_map", 4))
bnb("nf4-state-typed", "expected U8, found I8", typed(NF4, "I8"))
bnb("nf4-state-text", "quant_state", state(raw=b"\xff\x00{"))
bnb("nf4-state-empty", "quant_state", state(raw=b""))
bnb("nf4-state-list", "quant_state", state(raw=b"[64]"))
bnb("nf4-state-deep", "quant_state", state(raw=b"[" * 100000))
bnb("nf4-block-0", "blocksize", state(blocksize=0))
bnb("nf4-block-63", "power of two, found 63", state(blocksize=63))
bnb("nf4-block-huge", "blocksize", state(blocksize=1 << 62))
bnb("nf4-block-text", "blocksize", state(blocksize="64"))
bnb("nf4-block-gone", "blocksize", state(blocksize=None))
bnb("nf4-block-crosses", "blocks of 128 inputs cross the rows", state(blocksize=128))
bnb("nf4-block-other", "weight.absmax: expected .* elements", state(blocksize=32))
bnb("nf4-shape-turned", 'expected "shape"', state(shape=[64, 65]))
bnb("nf4-shape-huge", 'expected "shape"', state(shape=[1 << 62, 1 << 62]))
bnb("nf4-shape-text", 'expected "shape"', state(shape="64x64"))
nested("nested-no-absmax", "nested_absmax is missing", gone(f"{Q}.weight.nested_absmax"))
nested("nested-no-levels", "nested_quant_map is missing", gone(f"{Q}.weight.nested_quant_map"))
nested("nested-short", "nested_quant_map: expected 256 elements",
       cut(f"{Q}.weight.nested_quant_map", 4))
nested("nested-nan", "absmax of row 0, block 0 is not finite",
       put(f"{Q}.weight.nested_absmax", NAN))
nested("nested-offset-gone", "nested_offset", state(nested_offset=None))
nested("nested-offset-huge", "not finite", state(nested_offset=1e300))
nested("nested-block-0", "nested_blocksize", state(nested_blocksize=0))
nested("nested-forgotten", "weight.absmax: expected F32, found U8", state(nested_blocksize=None))

aqlm("aqlm-no-codes", "q_proj.codes is missing", gone(f"{Q}.codes"))
aqlm("aqlm-no-scales", "q_proj.scales is missing", gone(f"{Q}.scales"))
aqlm("aqlm-no-codebooks", "no weight of module .*q_proj", gone(f"{Q}.codebooks"))
aqlm("aqlm-codes-short", "q_proj.codes: expected .* elements", cut(f"{Q}.codes"))
aqlm("aqlm-codes-typed", "q_proj.codes: expected I8, found U8", typed(f"{Q}.codes", "U8"))
aqlm("aqlm-codebook-typed", "codebooks: expected F16 or BF16, found I16",
     typed(f"{Q}.codebooks", "I16"))
aqlm("aqlm-codebook-flat", "codebooks: expected the shape", cut(f"{Q}.codebooks", 2))
aqlm("aqlm-codebook-nan", "codebooks: element 5 is not finite", put(f"{Q}.codebooks", HALF_NAN, 10))
aqlm("aqlm-scale-nan", "scales: element 2 is not finite", put(f"{Q}.scales", HALF_NAN, 4))
aqlm("aqlm-scales-short", "scales: expected .* elements", cut(f"{Q}.scales", 2))

gptq("gptq3-codes-short", "qweight: expected the shape", cut(f"{Q}.qweight", 4))
gptq("gptq3-zeros-short", "qzeros: expected the shape", cut(f"{Q}.qzeros", 4))
gptq("gptq3-no-zeros", "qzeros is missing", gone(f"{Q}.qzeros"))
gptq("gptq3-scale-nan", "row 0, group 0 is not finite", put(f"{Q}.scales", HALF_NAN))
gptq("gptq3-as-4", "qweight: expected the shape", lambda tensors: None, bits=4)
gptq("gptq3-as-5", "5 bits, only 2, 3, 4 and 8", lambda tensors: None, bits=5)
gptq("gptq3-group-0", "group_size", lambda tensors: None, group_size=0)
gptq("gptq3-group-16", "expected the shape", lambda tensors: None, group_size=16)
gptq("gptq3-format", 'checkpoint_format "marlin"', lambda tensors: None,
     checkpoint_format="marlin")
PYTHON
count=0
while read -r name pattern; do
    run 2 timeout 60 "$QZO" eval "models/$name" "$task" --threads 1
    says <(tail -n 1 stderr) "^qzo: .*$pattern"
    # What does not read values may be content with the file, but nothing else.
    timeout 60 "$QZO" inspect "models/$name" >stdout 2>stderr
    code=$?
    ((code == 0 || code == 2)) || fail "inspect of $name left with $code: $(tail -n 3 stderr)"
    count=$((count + 1))
done <list
((count >= 50)) || fail "only $count hostile models were tried"
printf '%s hostile models refused\n' "$count"
