# ctest: timeout=600
# Adapters that `qzo export` wrote, loaded by PEFT: over GPTQ, with the tuned scales of the other
# layers, the same dev loss and score as by GPTQModel and transformers; over every unquantized
# architecture the same logits as the merged folder. QZO_ORACLE_PYTHON names the interpreter of an
# environment made from requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
"$python" -c 'import numpy, peft, torch, transformers' 2>/dev/null ||
    skip "$python lacks packages of tools/requirements-oracle.txt; see docs/oracles.md"
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt

# as_float32 FOLDER TO: the model with all tensors in fp32.
as_float32() {
    cp -r "$1" "$2"
    PYTHONPATH=$QZO_SOURCE/tools "$python" - "$2/model.safetensors" <<'TEXT'
import sys
import tensor_file
tensors, metadata = tensor_file.read(sys.argv[1])
tensors = {name: tensor.as_float32() for name, tensor in tensors.items()}
tensor_file.write(sys.argv[1], tensors, metadata)
TEXT
}

folders=()
for model in gpt2 opt opt-projected-post-norm phi3 gemma2 mistral qwen2 llama3-rope-tied-biases; do
    as_float32 "$QZO_SOURCE/tests/fixtures/arch/$model" "$model"
    parameters="learning_rate: { value: 0.1 }"
    [[ $model != opt ]] || parameters+="; groups.lora.targets: { value: all-linear }"
    write_sweep sweep.yaml "steps: 5, batch: 4, groups: lora, eps: 1e-2" "$parameters"
    sed -i "s#^model:.*#model: $model#" sweep.yaml
    run 0 "$QZO" run sweep.yaml --out "$model-out" --threads 1
    run 0 "$QZO" export "$model-out" 1 --to "$model-adapters" --step 5 --no-eval
    run 0 "$QZO" export "$model-out" 1 --to "$model-merged" --step 5 --merge \
        --no-eval
    folders+=("$model" "$model-adapters" "$model-merged")
done
"$python" "$QZO_SOURCE/tools/check_adapters.py" "${folders[@]}" 2>errors ||
    fail "logits differ: $(tail -n 3 errors)"

write_sweep phases.yaml "steps: 80, batch: 16, samples_per_step: 4, evaluate_every: 80,
    groups: { lora: { rank: 4, alpha: 8, eps: 1e-2, learning_rate: 3e-2, until: 40 },
        scales: { after: 40, exclude: [q_proj, v_proj] } }" "learning_rate: { value: 1e-4 }"
run 0 "$QZO" run phases.yaml --out out --threads 1
run 0 "$QZO" export out 1 --to folder --json
mv stdout export.json
exec "$python" "$QZO_SOURCE/tools/check_export.py" folder "$task" export.json \
    --adapter folder/adapter
