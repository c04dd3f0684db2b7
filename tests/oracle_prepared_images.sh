# ctest: timeout=600
# Pictures with captions to a prepared task, to a tuned 4-bit model, to pictures drawn with it:
# latents and embeddings are those that diffusers' pipelines give their transformer, and every
# folder between is one that the next reads. QZO_ORACLE_PYTHON names the interpreter of an
# environment made from requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
tools=$QZO_SOURCE/tools
export CUDA_VISIBLE_DEVICES=
"$python" -c 'import diffusers, transformers, torch, PIL, numpy, xxhash' 2>/dev/null ||
    skip "no packages of tools/requirements-images.txt"

prepare() { run "$1" "$python" "$tools/prepare_images.py" "${@:2}" --text-rows 8 --side 32; }

run 0 "$python" "$tools/make_toy_images.py" pictures both --count 40
run 0 "$python" "$tools/make_toy_mmdit.py" pictures checkpoint --untrained
prepare 0 pictures task.qzt --model checkpoint
says stdout '32 train, 4 dev, 4 test pictures of 32 x 32; .* captions of 16 rows'
run 0 "$python" "$tools/check_images.py" pictures task.qzt checkpoint \
    "$QZO_SOURCE/tests/fixtures/mmdit/wide-nf4"

# --- the same pictures as pairs of files, and encoders of another folder: the same bytes ----------
mkdir pairs
"$python" - <<'PY'
import json, shutil
for line in open("pictures/metadata.jsonl"):
    row = json.loads(line)
    shutil.copy("pictures/" + row["file_name"], "pairs")
    open("pairs/" + row["file_name"].replace("png", "txt"), "w").write(row["text"] + "\n")
PY
mkdir other
cp -r checkpoint/model_index.json checkpoint/scheduler checkpoint/transformer other
cp -r checkpoint/text_encoder* checkpoint/tokenizer* other
prepare 0 pairs again.qzt --model checkpoint --vae checkpoint/vae --text-encoders other \
    --name pictures
same task.qzt again.qzt "pictures with metadata.jsonl and with a text beside each"

# --- a run, what it exports, and pictures of it ---------------------------------------------------
cat >sweep.yaml <<'YAML'
model: checkpoint/transformer
task: task.qzt
train: { steps: 4, batch: 8, evaluate_every: 2, quantize: nf4, eps: 1e-3 }
parameters: { learning_rate: { values: [0, 1e-2] } }
YAML
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" export out 1 --step 4 --to resting
run 0 "$QZO" export out 2 --step 4 --to tuned
printf 'a red circle\na blue square\n' >prompts
draw() {
    run 0 "$python" "$tools/sample_images.py" "$1" --model checkpoint --before resting \
        --after "$2" --prompts prompts --steps 3 --side 32 --text-rows 8
}
draw same.png resting
says stdout '2 prompts; before and after differ by 0.0 '
draw other.png tuned
says stdout 'differ by ([1-9]|0\.[1-9])'
"$python" - <<'PY' || fail "rows and columns of same.png"
import numpy as np
from PIL import Image
first, other = (np.asarray(Image.open(name).convert("RGB")) for name in ("same.png", "other.png"))
assert first.shape == other.shape
before, after = slice(20, 52), slice(58, 90) # rows of 32 pixels below a line and between margins
left = first.shape[1] - 2 * 38
assert (first[before, left:] == first[after, left:]).all()
assert (first[before, left:] == other[before, left:]).all()
assert (other[before, left:] != other[after, left:]).any()
PY

# --- an export without 4 bits is loaded by diffusers itself --------------------------------------
cat >dense.yaml <<'YAML'
model: checkpoint/transformer
task: task.qzt
train: { steps: 2, batch: 8, evaluate_every: 2, groups: weights, eps: 1e-3 }
parameters: { learning_rate: { values: [1e-3] } }
YAML
run 0 "$QZO" run dense.yaml --out dense-out --threads 1
run 0 "$QZO" export dense-out 1 --step 2 --to dense
"$python" - <<'PY' || fail "diffusers does not load what was exported"
import torch
from diffusers import SD3Transformer2DModel

def load(folder):
    model, found = SD3Transformer2DModel.from_pretrained(folder, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return dict(model.named_parameters())

before, after = load("checkpoint/transformer"), load("dense")
assert before.keys() == after.keys()
moved = [name for name in before if not torch.equal(before[name], after[name])]
assert moved and all(name.endswith("weight") and before[name].dim() == 2 for name in moved), moved
assert all(torch.isfinite(after[name]).all() for name in moved)
PY

# --- what cannot be prepared ----------------------------------------------------------------------
prepare 1 missing x.qzt --model checkpoint
says stderr 'prepare_images: missing: expected a folder'
mkdir empty alone
prepare 1 empty x.qzt --model checkpoint
says stderr 'no metadata.jsonl and no picture'
cp pictures/00000.png alone
prepare 1 alone x.qzt --model checkpoint
says stderr '00000.png: expected its caption in 00000.txt'
printf 'a\n' >alone/00000.txt
prepare 1 alone x.qzt --model checkpoint
says stderr '1 pictures: expected at least one for train and for dev'
prepare 1 pictures x.qzt --model "$QZO_SOURCE/tests/fixtures/mmdit/wide"
says stderr 'expected a checkpoint in diffusers. layout'
prepare 1 pictures x.qzt --model checkpoint --dev 40
says stderr 'found -4 for train, 40 for dev'
run 1 "$python" "$tools/prepare_images.py" pictures x.qzt --model checkpoint --side 36
says stderr 'side 36: expected a multiple of 8'
printf 'not a picture' >pairs/00003.png
prepare 1 pairs x.qzt --model checkpoint
says stderr '00003.png: not a picture'
printf '{"file_name": "00000.png"}\n' >pictures/metadata.jsonl
prepare 1 pictures x.qzt --model checkpoint
says stderr 'metadata.jsonl, line 1: expected an object with "file_name" and "text"'
[[ ! -e x.qzt ]] || fail "a refused folder left a file"
