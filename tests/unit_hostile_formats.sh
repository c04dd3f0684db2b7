# ctest: timeout=180
# Quantized tensors made to hurt: NF4 with and without nested absmax, AQLM, 3-bit GPTQ, AWQ, HQQ and
# compressed-tensors with parts that are missing, too short, of another type, out of range or not
# finite. Each ends with exit code 2 and one sentence that names the tensor or the setting, and
# `inspect` with no more than that.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
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
awq = lambda *arguments, **settings: model("awq/g32", *arguments, settings)
packed = lambda *arguments, **settings: model("compressed/int4-g16-asym", *arguments, settings)
hqq = lambda *arguments: model("hqq/3bit-g16", *arguments)
octets = lambda *arguments, **settings: model("compressed/int8-bytes-asym", *arguments, settings)


def keep(tensors):
    return None


def shaped(key, *shape):
    def edit(tensors):
        tensors[key][1] = list(shape)
    return edit


def group_of(**changes):
    """The settings of compressed-tensors with one group changed."""
    weights = {"num_bits": 4, "type": "int", **changes.pop("weights", {})}
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, **changes}}}


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
aqlm("aqlm-scale-nan", "scales: the scale of row 2, group 0 is not finite",
     put(f"{Q}.scales", HALF_NAN, 4))
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

awq("awq-no-zeros", "q_proj.qzeros is missing", gone(f"{Q}.qzeros"))
awq("awq-no-scales", "q_proj.scales is missing", gone(f"{Q}.scales"))
awq("awq-no-codes", "no weight of module .*q_proj", gone(f"{Q}.qweight"))
awq("awq-codes-short", "qweight: expected the shape", cut(f"{Q}.qweight", 4))
awq("awq-codes-turned", r"qweight: expected the shape \(32, 4\)", shaped(f"{Q}.qweight", 4, 32))
awq("awq-codes-typed", "qweight: expected I32, found U32", typed(f"{Q}.qweight", "U32"))
awq("awq-zeros-short", "qzeros: expected the shape", cut(f"{Q}.qzeros", 4))
awq("awq-scales-typed", "scales: expected F32, F16 or BF16", typed(f"{Q}.scales", "I16"))
awq("awq-scale-nan", "row 0, group 0 is not finite", put(f"{Q}.scales", HALF_NAN))
awq("awq-gemv", 'AWQ version "gemv", only "gemm"', keep, version="gemv")
awq("awq-marlin", 'AWQ format "marlin", only "gemm"', keep, version=None, format="marlin")
awq("awq-8-bits", "AWQ with 8 bits, only 4", keep, bits=8)
awq("awq-bits-text", '"bits" must be an integer', keep, bits="4")
awq("awq-group-0", "group_size", keep, group_size=0)
awq("awq-group-16", "expected the shape", keep, group_size=16)
awq("awq-group-24", "groups of 24 do not divide its 32 inputs", keep, group_size=24)
awq("awq-group-huge", "group_size", keep, group_size=1 << 62)

packed("packed-no-scale", "q_proj.weight_scale is missing", gone(f"{Q}.weight_scale"))
packed("packed-no-shape", "q_proj.weight_shape is missing", gone(f"{Q}.weight_shape"))
packed("packed-no-codes", "q_proj.weight is missing", gone(f"{Q}.weight_packed"))
packed("packed-shape-turned", r"weight_shape: expected \(32, 32\), found \(32, 64\)",
       put(f"{Q}.weight_shape", struct.pack("<q", 64), 8))
packed("packed-shape-huge", "weight_shape: expected", put(f"{Q}.weight_shape", b"\xff" * 16))
packed("packed-codes-short", "weight_packed: rows of 0 words", cut(f"{Q}.weight_packed", 4))
packed("packed-codes-few", "weight_packed: expected the shape",
       lambda t: t.update({f"{Q}.weight_packed": ["I32", [1, 4], bytes(16)]}))
packed("packed-codes-typed", "weight_packed: expected I32, found U32",
       typed(f"{Q}.weight_packed", "U32"))
packed("packed-bits", "which no .num_bits. of the settings gives", keep,
       **group_of(weights={"num_bits": 3}))
packed("packed-5-bits", "with 5 bits, only 2, 3, 4 and 8",
       lambda t: t.update({f"{Q}.weight_packed": ["I32", [32, 5], bytes(640)]}),
       **group_of(weights={"num_bits": 5}))
packed("packed-zeros-bytes", "weight_zero_point: expected I32, found I8",
       lambda t: t.update({f"{Q}.weight_zero_point": ["I8", [32, 2], bytes(64)]}))
packed("packed-zeros-short", "weight_zero_point: expected the shape",
       cut(f"{Q}.weight_zero_point", 4))
packed("packed-groups", "weight_scale: 3 groups, which do not divide 32 inputs",
       lambda t: t.update({f"{Q}.weight_scale": ["F16", [32, 3], bytes(192)]}))
packed("packed-groups-none", "weight_scale: 0 groups",
       lambda t: t.update({f"{Q}.weight_scale": ["F16", [32, 0], b""]}))
packed("packed-scale-whole", "weight_scale: expected the shape",
       lambda t: t.update({f"{Q}.weight_scale": ["F16", [1], bytes(2)]}))
packed("packed-scale-nan", "row 0, group 1 is not finite", put(f"{Q}.weight_scale", HALF_NAN, 2))
packed("packed-order", "weight_g_idx: input 3 is in group 2, expected 0 .. 1",
       lambda t: t.update({f"{Q}.weight_g_idx": ["I32", [32], bytes(12) + b"\2" + bytes(115)]}))
packed("packed-activations", "with quantized activations", keep,
       **group_of(input_activations={"num_bits": 8, "type": "int", "dynamic": True}))
packed("packed-floats", 'weights of type "float"', keep, **group_of(weights={"type": "float"}))
packed("packed-cache", "with a quantized cache", keep, kv_cache_scheme={"num_bits": 8})
packed("packed-transforms", "with transforms of activations", keep,
       transform_config={"config_groups": {"u": {"type": "hadamard"}}})
packed("packed-marlin", 'format "marlin-24"', keep, format="marlin-24")
packed("packed-no-groups", "which no .num_bits. of the settings gives", keep, config_groups=None)
INT = lambda value: struct.pack("<i", value)
hqq("hqq-no-scale", "q_proj.scale is missing", gone(f"{Q}.scale"))
hqq("hqq-no-zero", "q_proj.zero is missing", gone(f"{Q}.zero"))
hqq("hqq-no-axis", "q_proj.axis is missing", gone(f"{Q}.axis"))
hqq("hqq-no-bits", "q_proj.nbits is missing", gone(f"{Q}.nbits"))
hqq("hqq-no-codes", "no weight of module .*q_proj", gone(f"{Q}.W_q"))
hqq("hqq-axis-0", "HQQ with axis 0: only axis 1", put(f"{Q}.axis", INT(0)))
hqq("hqq-bits-5", "HQQ with 5 bits, only 1, 2, 3, 4 and 8", put(f"{Q}.nbits", INT(5)))
hqq("hqq-bits-huge", "HQQ with -2147483648 bits", put(f"{Q}.nbits", INT(-(1 << 31))))
hqq("hqq-bits-4", "W_q: expected U8, found I32", put(f"{Q}.nbits", INT(4)))
hqq("hqq-bits-typed", "nbits: expected I32, found F32", typed(f"{Q}.nbits", "F32"))
hqq("hqq-shape", r"q_proj.shape: expected \(32, 32\), found \(31, 32\)",
    put(f"{Q}.shape", b"\x1f"))
hqq("hqq-codes-short", "W_q: expected 112 elements, found 111", cut(f"{Q}.W_q", 4))
hqq("hqq-codes-typed", "W_q: expected I32, found F32", typed(f"{Q}.W_q", "F32"))
hqq("hqq-scale-short", "scale: expected the shape", cut(f"{Q}.scale", 2))
hqq("hqq-zero-short", "zero: expected the shape", cut(f"{Q}.zero", 2))
hqq("hqq-scale-nan", "row 0, group 1 is not finite", put(f"{Q}.scale", HALF_NAN, 2))
hqq("hqq-zero-nan", "zero: element 3 is not finite", put(f"{Q}.zero", HALF_NAN, 6))


def runs(count):
    return lambda t: t.update({f"{Q}.{part}": ["F16", [count, 1], bytes(2 * count)]
                               for part in ("scale", "zero")})


hqq("hqq-groups-crossing", "scale: 48 groups, which do not divide the rows", runs(48))
hqq("hqq-groups-none", "scale: 0 groups", runs(0))
hqq("hqq-groups-uneven", "scale: 96 groups, which do not divide the rows", runs(96))
hqq("hqq-groups-more", "W_q: expected 104 elements", runs(128))
octets("octets-typed", "q_proj.weight: expected I8, found U8", typed(f"{Q}.weight", "U8"))
octets("octets-short", "q_proj.weight: expected 1024 elements", cut(f"{Q}.weight"))
octets("octets-zeros", "weight_zero_point: expected I8, found U8",
       typed(f"{Q}.weight_zero_point", "U8"))
octets("octets-zeros-short", "weight_zero_point: expected 64 elements",
       cut(f"{Q}.weight_zero_point"))
octets("octets-float", "q_proj.weight: expected I8, found F16",
       lambda t: t.update({f"{Q}.weight": ["F16", [32, 16], t[f"{Q}.weight"][2]]}))
octets("octets-activations", "with quantized activations", keep,
       **group_of(input_activations={"num_bits": 8, "type": "int"}))
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
