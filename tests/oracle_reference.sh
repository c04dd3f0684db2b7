# ctest: timeout=300
# tools/bench_reference.py on the CPU: its three ways of computing a batch's loss agree with each
# other, for options and for texts to produce, and it measures both sides. QZO_ORACLE_PYTHON names
# the interpreter of an environment made from tools/requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
"$python" -c 'import torch, transformers, tokenizers, xxhash' 2>/dev/null ||
    skip "no torch and transformers (QZO_ORACLE_PYTHON)"
model=$QZO_SOURCE/tests/fixtures/tiny-llama
vocab=$("$python" -c "import json; print(json.load(open('$model/config.json'))['vocab_size'])")
run 0 "$python" "$QZO_SOURCE/tools/make_random_task" squad texts.qzt --vocab "$vocab" \
    --examples 20 --mean 12
for task in "$QZO_SOURCE/tests/fixtures/tiny-task.qzt" texts.qzt; do
    run 0 "$python" "$QZO_SOURCE/tools/bench_reference.py" "$model" "$task" --qzo "$QZO" \
        --threads 1 --steps 2 --batch 4
    mv stdout result.json
    # fp32 sums in other orders differ by some 1e-6 of losses of order 1.
    run 0 "$python" -c '
import json
found = json.load(open("result.json"))
ways = [way for way in found.values() if isinstance(way, dict) and "clean_loss" in way]
losses = [way["clean_loss"] for way in ways]
assert len(losses) == (3 if "prompts" in found else 2), found
assert max(losses) - min(losses) < 1e-4 and min(losses) > 0.1, losses
assert all(way["ratio"] > 0 for way in ways) and found["qzo"]["step"]["flops"] > 0'
done
