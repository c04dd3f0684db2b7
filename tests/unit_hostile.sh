# ctest: timeout=180
# Files made to hurt: lengths that overflow, sizes that no memory holds, references out of range.
# Each ends with exit code 2 and one sentence, in an address space of 1 GiB.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures
task=$fixtures/tiny-task.qzt
memory_kib=$((1 << 20))
output_bytes_max=2000

# A sanitizer's shadow needs more addresses than any limit leaves: then only the rest is tested.
{ (ulimit -v "$memory_kib" && "$QZO" --version); } >/dev/null 2>&1 || memory_kib=unlimited

bounded() { (ulimit -v "$memory_kib" && ulimit -c 0 && exec timeout 60 "$@"); }

# refuses PATTERN COMMAND...: exit code 2, and the last line on stderr matches.
refuses() {
    local pattern=$1
    shift
    run 2 bounded "$@"
    says <(tail -n 1 stderr) "^qzo: .*$pattern"
    (($(wc -c <stderr) < output_bytes_max)) || fail "$(wc -c <stderr) bytes on stderr: $*"
}

# --- models ---------------------------------------------------------------------------------------
python3 - "$fixtures/tiny-llama" models >list <<'PYTHON' || fail "the hostile models were not made"
"""Writes folders models/NAME, each with one thing wrong; prints NAME and the message to expect."""
import copy, json, pathlib, shutil, struct, sys

source, target = map(pathlib.Path, sys.argv[1:])
blob = (source / "model.safetensors").read_bytes()
header_bytes = struct.unpack("<Q", blob[:8])[0]
good_header, payload = json.loads(blob[8 : 8 + header_bytes]), blob[8 + header_bytes :]
good_config = json.loads((source / "config.json").read_text())
TENSOR = "model.layers.0.self_attn.q_proj"
HUGE = 1 << 62


def folder(name, message):
    shutil.copytree(source, target / name)
    for file in (target / name).iterdir():
        file.chmod(0o644)
    print(name, message)
    return target / name


def weights(name, message, edit=None, raw=None):
    """edit(header, payload) changes them in place; raw is the whole file."""
    header, data = copy.deepcopy(good_header), bytearray(payload)
    if edit:
        edit(header, data)
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + bytes(data)
    (folder(name, message) / "model.safetensors").write_bytes(raw if raw is not None else whole)


def config(name, message, raw=None, **changes):
    text = raw if raw is not None else json.dumps({**good_config, **changes})
    (folder(name, message) / "config.json").write_text(text)


def change(suffix, **fields):
    return lambda header, data: header[f"{TENSOR}.{suffix}"].update(fields)


def put(suffix, content):
    def edit(header, data):
        begin = header[f"{TENSOR}.{suffix}"]["data_offsets"][0]
        data[begin : begin + len(content)] = content
    return edit


def overlap(header, data):
    k_proj = TENSOR.replace("q_proj", "k_proj")
    header[f"{TENSOR}.qweight"]["data_offsets"] = header[f"{k_proj}.qweight"]["data_offsets"]


def one_token_less(header, data):
    """Every table of the vocabulary loses its last row; the payload is put together anew."""
    parts = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            end -= (end - begin) // tensor["shape"][0]
            tensor["shape"][0] -= 1
        start = sum(map(len, parts))
        parts.append(bytes(data[begin:end]))
        tensor["data_offsets"] = [start, start + end - begin]
    data[:] = b"".join(parts)


def missing_norm(header, data):
    header["model.layers.1.input_layernorm.wight"] = header.pop(
        "model.layers.1.input_layernorm.weight")


weights("header-of-2-to-63", "header of 9223372036854775808 bytes",
        raw=struct.pack("<Q", 1 << 63) + blob[8:])
weights("header-of-all-ones", "header of 18446744073709551615 bytes",
        raw=b"\xff" * 8 + blob[8:])
weights("header-too-long", "but the file ends", raw=struct.pack("<Q", 99999999) + blob[8:])
weights("no-bytes", "model.safetensors", raw=b"")
weights("header-deep", "model.safetensors", raw=struct.pack("<Q", 1 << 20) + b'{"a":' +
        b"[" * ((1 << 20) - 5))
weights("shape-overflows", "elements", change("qweight", shape=[HUGE, 4]))
weights("bytes-overflow", "bytes", change("qweight", shape=[HUGE, 1]))
weights("shape-negative", "not negative", change("qweight", shape=[-8, 64]))
weights("shape-deep", "dimensions", change("qweight", shape=[1] * 4000))
weights("offset-beyond", "data at", change("qweight", data_offsets=[0, HUGE]))
weights("offset-backwards", "data at", change("qweight", data_offsets=[64, 0]))
weights("overlap", "tensors overlap", overlap)
weights("dtype-unknown", "unknown type", change("qweight", dtype="I4"))
weights("dtype-wrong", "expected I32, found F32", change("qweight", dtype="F32"))
weights("scales-wrong", "expected F32, F16 or BF16, found I16", change("scales", dtype="I16"))
weights("shape-transposed", "expected the shape",
        lambda header, data: header[f"{TENSOR}.qweight"]["shape"].reverse())
weights("norm-missing", "input_layernorm.weight is missing", missing_norm)
weights("tensor-missing", "qzeros is missing",
        lambda header, data: header.update(other=header.pop(f"{TENSOR}.qzeros")))
weights("scale-nan", "not finite", put("scales", b"\xff" * 4))
weights("scale-infinite", "not finite", put("scales", struct.pack("<e", float("inf"))))
if f"{TENSOR}.g_idx" in good_header:
    weights("group-beyond", "is in group 2147483647", put("g_idx", struct.pack("<i", 2**31 - 1)))
    weights("group-negative", "is in group -1", put("g_idx", struct.pack("<i", -1)))

config("layers-2-to-31", "num_hidden_layers", num_hidden_layers=1 << 31)
config("layers-most", "model.layers.2.* is missing", num_hidden_layers=4096)
config("width-2-to-62", "hidden_size", hidden_size=HUGE)
config("width-most", "expected the shape", hidden_size=1 << 20, head_dim=16)
config("heads-0", "num_attention_heads", num_attention_heads=0)
config("head-dim-most", "heads of 1048576 values, at most 512", head_dim=1 << 20)
config("vocab-most", "expected the shape", vocab_size=1 << 24)
config("vocab-2-to-40", "vocab_size", vocab_size=1 << 40)
config("vocab-fraction", "vocab_size", vocab_size=64.5)
config("positions-beyond", "max_position_embeddings", max_position_embeddings=1 << 40)
config("theta-nan", "config.json",
       raw=json.dumps({**good_config, "rope_theta": float("nan")}))
config("rope-scaled", 'rope_scaling of type "yarn"',
       rope_scaling={"type": "yarn", "factor": 2.0})
config("rope-scaled-5", "llama3 positions: expected low_freq_factor",
       rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0})
config("group-size-0", "group_size", quantization_config={"bits": 4, "group_size": 0,
                                                          "quant_method": "gptq"})
config("config-deep", "config.json", raw="[" * 100000)
config("config-number", "config.json", raw='{"hidden_size": ' + "9" * 4000 + "}")
config("config-text", "config.json", raw="\x00\xff")

weights("vocab-smaller", "was prepared for a vocabulary of 64", one_token_less)
(target / "vocab-smaller/config.json").write_text(json.dumps({**good_config, "vocab_size": 63}))
index = {"weight_map": {"lm_head.weight": "../../../etc/passwd"}}
path = folder("index-outside", "must be a file name")
(path / "model.safetensors").unlink()
(path / "model.safetensors.index.json").write_text(json.dumps(index))
PYTHON
count=0
while read -r name pattern; do
    refuses "$pattern" "$QZO" eval "models/$name" "$task" --threads 1
    # What does not read values may be content with the file, but nothing else.
    bounded "$QZO" inspect "models/$name" >stdout 2>stderr
    code=$?
    ((code == 0 || code == 2)) || fail "inspect of $name left with $code: $(tail -n 3 stderr)"
    count=$((count + 1))
done <list
((count >= 35)) || fail "only $count hostile models were tried"

# Names and values of a model do nothing to a terminal, on stdout or in a sentence.
python3 - "$fixtures/tiny-llama" acting <<'PYTHON' || fail "the model with such names was not made"
import json, pathlib, shutil, struct, sys
source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir()
shutil.copy(source / "config.json", target)
blob = (source / "model.safetensors").read_bytes()
(size,) = struct.unpack("<Q", blob[:8])
header = json.loads(blob[8 : 8 + size])
header["\x1b[2J\nqzo: a\x7fll\u009b is well"] = header.pop("model.norm.weight")
text = json.dumps(header).encode()
(target / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + blob[8 + size :])
PYTHON
# acts_not FILE: nothing that a terminal would act on, lines aside.
acts_not() {
    ! LC_ALL=C tr -d '\n' <"$1" | LC_ALL=C grep -qP '[\x00-\x1f\x7f]|\xc2[\x80-\x9f]' ||
        fail "control characters in $1: $(cat -v "$1")"
}
run 2 "$QZO" inspect acting
acts_not stdout
says stdout '^\\x1b\[2J\\nqzo: a\\x7fll\\xc2\\x9b is well '
cp -r acting named
python3 - named/config.json <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))
json.dump({**config, "hidden_act": "\x1b]0;title\a\nqzo: all is well"}, open(sys.argv[1], "w"))
PYTHON
refuses 'hidden_act.*\\x1b\]0;title\\x07\\nqzo: all is well' "$QZO" inspect named
acts_not stderr

# A model may promise millions of positions: memory follows what is used of them.
cp -rL "$fixtures/tiny-llama" promising
chmod -R u+w promising
sed -i 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 16777216/' \
    promising/config.json
run 0 bounded "$QZO" eval promising "$task" --threads 1
mv stdout promised
run 0 bounded "$QZO" eval "$fixtures/tiny-llama" "$task" --threads 1
same <(sed 's/promising/MODEL/' promised) <(sed "s|$fixtures/tiny-llama|MODEL|" stdout) \
    "the score of a model that promises more positions"
printf '1 2 3' >ids
run 0 bounded "$QZO" generate promising --ids ids --max-new 3 --print-ids --threads 1

# --- ids ------------------------------------------------------------------------------------------
model=$fixtures/tiny-llama
for ids in "64" "2147483647" "99999999999999999999" ""; do
    printf '%s' "$ids" >ids
    refuses 'ids' "$QZO" generate "$model" --ids ids --max-new 1 --print-ids
done
printf '\377\377\377\377' >ids
refuses 'id 1 is -1' "$QZO" generate "$model" --ids ids --max-new 1 --print-ids
printf '1' >ids
refuses 'positions' "$QZO" generate "$model" --ids ids --max-new 65 --print-ids

# --- sweep files ----------------------------------------------------------------------------------
write_sweep good.yaml "steps: 4, batch: 4, samples_per_step: 1" "learning_rate: { values: [1e-4] }"
# A folder's name as the value of a setting: tables show it.
cp -rL "$model" $'m\e[2J'
{
    sed '/^model:/d' good.yaml
    printf '  model: { values: ["m\\e[2J", %s] }\n' "$model"
} >acting.yaml
run 0 bounded "$QZO" run acting.yaml --out acting-out --threads 1
acts_not stdout
for command in "plan acting.yaml" "report acting-out" "report acting-out --mean" \
    "status acting-out"; do
    run 0 "$QZO" $command
    says stdout 'm\\x1b\[2J'
    acts_not stdout
done
{
    printf 'a: &a [x, x, x, x, x, x, x, x, x]\n'
    for pair in ba cb dc ed fe gf hg ih; do
        printf '%s: &%s [' "${pair:0:1}" "${pair:0:1}"
        printf "*${pair:1},%.0s" 1 2 3 4 5 6 7 8
        printf '*%s]\n' "${pair:1}"
    done
} >bomb.yaml
refuses 'bomb\.yaml:1:[0-9]+: ' "$QZO" plan bomb.yaml
sed 's/^  learning_rate:.*/  learning_rate: *rate/' good.yaml >alias.yaml
refuses 'alias\.yaml:[0-9]+:[0-9]+: ' "$QZO" plan alias.yaml
head -c 200000 /dev/zero | tr '\0' '[' >deep.yaml
refuses 'deep\.yaml:1:[0-9]+: ' "$QZO" plan deep.yaml
# A thousand million combinations in a file of 15 kB.
{
    sed '/^  learning_rate/d' good.yaml
    for key in seed learning_rate eps; do
        printf '  %s: { values: [%s] }\n' "$key" "$(seq -s ', ' 1 1000)"
    done
} >wide.yaml
refuses 'wide\.yaml' "$QZO" plan wide.yaml
sed 's/steps: 4/steps: 99999999999999999999/' good.yaml >steps.yaml
refuses 'steps\.yaml:[0-9]+:[0-9]+: ' "$QZO" plan steps.yaml
sed 's/batch: 4/batch: 9223372036854775807/' good.yaml >batch.yaml
refuses 'batch\.yaml' "$QZO" plan batch.yaml

# --- journals -------------------------------------------------------------------------------------
run 0 "$QZO" run good.yaml --out calm
run 0 "$QZO" report calm --csv
mv stdout calm.csv
id=$(column calm.csv id)
# poke FILE OFFSET BYTES: in place.
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
for length in '\377\377\377\377' '\377\377\377\177' '\001\000\000\020' '\000\000\000\000'; do
    rm -rf out
    cp -r calm out
    poke "out/trials/$id.qzj" 12 "$length" # the first frame's length
    for command in "journal out 1" "replay out 1" "report out"; do
        bounded "$QZO" $command >stdout 2>stderr
        code=$?
        ((code == 0 || code == 2)) || fail "$command left with $code: $(tail -n 3 stderr)"
    done
    run 0 bounded "$QZO" run good.yaml --out out --threads 1
    same_journals calm out "a journal whose first frame has the length $length"
done
printf '%s hostile models refused\n' "$count"
