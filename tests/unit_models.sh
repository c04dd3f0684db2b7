# ctest: timeout=180
# Every architecture's model through every command that takes one: inspected, scored, continued as
# transformers continues it, timed; and those with scales tuned, replayed and exported.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures
task=$fixtures/tiny-task.qzt

# What a model's expected.safetensors says of the greedy continuation.
greedy_of() {
    python3 - "$1" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
(size,) = struct.unpack("<Q", data[:8])
print(json.loads(data[8 : 8 + size])["__metadata__"]["greedy"])
PYTHON
}

tune() {
    sed "s|fixtures/tiny-llama$|fixtures/arch/$1|" good.yaml >"$1.yaml"
    run 0 "$QZO" plan "$1.yaml"
    says stdout '3 steps'
    run 0 "$QZO" run "$1.yaml" --out "$1" --threads 2
    run 0 "$QZO" replay "$1" 1 --step 3 --check
    run 0 "$QZO" export "$1" 1 --to "$1.folder" --threads 1
    run 0 "$QZO" eval "$1.folder" "$task" --threads 1
    run 0 "$QZO" run "$1.yaml" --out "$1.alone" --threads 1
    same_journals "$1" "$1.alone" "$1 with one thread and with two"
}

write_sweep good.yaml "steps: 3, batch: 4, samples_per_step: 2, evaluate_every: 3" \
    "learning_rate: { value: 1e-5 }"
count=0
tuned=0
for model in "$fixtures"/arch/*; do
    name=${model##*/}
    type=$(sed -n 's/.*"model_type": "\(.*\)".*/\1/p' "$model/config.json")
    run 0 "$QZO" inspect "$model" --json
    says stdout "\"architecture\": \"$type\""
    values=$(sed -n 's/^  "values": \([0-9]*\).*/\1/p' stdout)
    run 0 "$QZO" eval "$model" "$task" --threads 2
    says stdout '^tiny-task +test +1000 +acc +0\.[0-9]+'
    greedy=$(greedy_of "$model/expected.safetensors") || fail "$name: no greedy continuation"
    cut -d ' ' -f 1-20 <<<"$greedy" >ids
    run 0 "$QZO" generate "$model" --ids ids --max-new 20 --print-ids
    same <(xargs <stdout) <(xargs <<<"$greedy") "$name: the greedy continuation"
    if ((values > 0)); then
        tune "$name"
        tuned=$((tuned + 1))
    fi
    count=$((count + 1))
done
((count >= 14 && tuned >= 4)) || fail "only $count models, $tuned of them with scales"

# inspected NAME PATTERN: a line of `qzo inspect` on that fixture.
inspected() {
    run 0 "$QZO" inspect "$fixtures/arch/$1"
    says stdout "$2"
}
inspected gpt2 '^positions +learned$'
inspected llama3-rope-tied-biases '^positions +rotary, llama3 scaling$'
inspected llama-linear-rope '^positions +rotary, linear scaling$'
inspected qwen2 '^sliding window +7 rows in 1 of 2 layers$'
inspected gemma2 '^soft caps +scores 4, logits 3 '
says stdout '^sliding window +6 rows in 1 of 2 layers$'
inspected opt '^positions +learned$'
says_not stdout '^(sliding window|soft caps)'

run 0 "$QZO" bench "$fixtures/arch/gpt2-gptq" --rows 8 --threads 1
says stdout 'linear 96 x 32 gptq'
says_not stdout '^rope'
printf '%d models inspected, scored, continued; %d tuned\n' "$count" "$tuned"
