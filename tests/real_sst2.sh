# ctest: timeout=300
# SST-2 on stories260K from the raw files: prepared, quantized, tuned for a few steps. So few only
# teach it how often each answer is right, which zero-shot is far off; docs/measurements.md has a
# long run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
model=${QZO_TEST_DATA:-}/models/stories260K-pad192
sentences=${QZO_TEST_DATA:-}/tasks/sst2_sentences
[[ -d $model && -d $sentences ]] || skip "no stories260K-pad192 or sst2_sentences in QZO_TEST_DATA"
need_python 'numpy, safetensors, tokenizers, xxhash'

LOSS_MOST=0.75  # after 60 steps; an answer by the toss of a coin has 0.693
LOSS_FIRST=0.90 # zero-shot is worse than that

run 0 "$python" "$QZO_SOURCE/tools/prepare_task.py" "$sentences" sst2.qzt --tokenizer "$model" \
    --template '{sentence} It was' --options ' bad' ' good' --label-field label --name sst2 \
    --train 1000 --dev 100 --test 0
run 0 "$python" "$QZO_SOURCE/tools/quantize_gptq.py" "$model" model --group-size 64
cat >sweep.yaml <<'YAML'
model: model
task: sst2.qzt
train: { steps: 60, batch: 16, samples_per_step: 1, evaluate_every: 0 }
parameters: { learning_rate: { value: 1e-5 }, seed: { values: [0, 1] } }
YAML
run 0 "$QZO" run sweep.yaml --out out
for trial in 1 2; do
    run 0 "$QZO" journal out "$trial"
    read -r first last < <(awk '$1 == "EVAL" && $3 == "dev" { loss[$2 > 0] = $7 }
        END { print loss[0], loss[1] }' stdout)
    printf 'seed %s: dev loss %s before, %s after\n' $((trial - 1)) "$first" "$last"
    awk "BEGIN { exit !($first > $LOSS_FIRST && $last < $LOSS_MOST) }" ||
        fail "seed $((trial - 1)): dev loss $first before and $last after, expected more than" \
            "$LOSS_FIRST and less than $LOSS_MOST"
done
