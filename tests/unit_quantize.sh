# ctest: timeout=300
# Models quantized at load as a user meets them: the same figures from the folder that an export
# makes of one, whatever trains; a setting that tells trials apart; and refusals that say why.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
model=$QZO_SOURCE/tests/fixtures/tiny-llama-fp32
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt

# sweep FILE TRAIN PARAMETERS
sweep() {
    printf 'model: %s\ntask: %s\ntrain: { %s }\nparameters: { %s }\n' "${4:-$model}" "$task" "$2" \
        "$3" >"$1"
}
train="steps: 20, batch: 8, evaluate_every: 20, learning_rate: 1e-3"

# Two kinds are two trials; threads change no bit.
sweep kinds.yaml "$train" "quantize: { values: [nf4, fp4] }"
run 0 "$QZO" run kinds.yaml --out one --threads 1
run 0 "$QZO" run kinds.yaml --out two --threads 2
same_journals one two "1 and 2 threads"
run 0 "$QZO" report one --csv
cp stdout kinds.csv
[[ $(column kinds.csv quantize | tr '\n' ' ') == "nf4 fp4 " ]] || fail "$(<kinds.csv)"
mapfile -t tuned < <(column kinds.csv dev_loss)

# dev MODEL [OPTION...]: its loss on dev.
dev() {
    run 0 "$QZO" eval "$1" "$task" --json --threads 1 "${@:2}"
    python3 -c 'import json, sys
print("%.9g" % json.load(sys.stdin)["results"]["tiny-task_dev"]["loss,none"])' <stdout
}
trial=0
for kind in nf4 fp4; do
    trial=$((trial + 1))
    run 0 "$QZO" replay one "$trial" --check
    run 0 "$QZO" export one "$trial" --to "folder-$kind" --threads 1
    says stdout "1280 changed; 1280 of these survive"
    found=$(dev "folder-$kind")
    expected=${tuned[trial - 1]}
    [[ $found == "$expected" ]] || fail "$kind: dev loss $found exported, $expected tuned"
    run 0 "$QZO" inspect "folder-$kind"
    says stdout "up_proj +bnb +128 x 64 +[0-9.]+ +64 +1 +128$"
    run 0 "$QZO" inspect "$model" --quantize "$kind"
    says stdout "up_proj +bnb +128 x 64 +4.500 +64 +1 +128$"
    # Before the first step.
    loss=$(dev "$model" --quantize "$kind")
    run 0 "$QZO" journal one "$trial"
    says stdout "^EVAL 0 dev .*loss ${loss:0:8}"
done

# What does not train is quantized as well, also in the exported folder.
sweep masked.yaml "$train, quantize: nf4, groups: { scales: { include: q_proj } }" \
    "seed: { values: [0] }"
run 0 "$QZO" run masked.yaml --out masked --threads 1
run 0 "$QZO" report masked --csv
cp stdout masked.csv
run 0 "$QZO" export masked 1 --to masked-folder --threads 1
[[ $(dev masked-folder) == $(column masked.csv dev_loss) ]] || fail "masked: $(dev masked-folder)"
run 0 "$QZO" inspect masked-folder
[[ $(grep -c " bnb " stdout) == 14 ]] || fail "not all 14 layers are bnb"

run 0 "$QZO" bench "$model" --quantize nf4 --rows 8 --threads 1
says stdout "linear 128 x 64 bnb"

# Refusals.
run 2 "$QZO" eval "$QZO_SOURCE/tests/fixtures/tiny-llama" "$task" --quantize nf4
says stderr "q_proj is quantized already \(gptq\): quantize: nf4 takes weights in fp32"
run 2 "$QZO" eval "$model" "$task" --quantize int8
says stderr "nf4"
run 2 "$QZO" export one 1 --delta --to delta
says stderr "quantized at load \(quantize: nf4\), its base has no such tensors"
[[ ! -e delta ]] || fail "a refused export left its folder"
sweep wrong.yaml "$train, quantize: nf4" "seed: { values: [0] }" \
    "$QZO_SOURCE/tests/fixtures/tiny-llama"
run 2 "$QZO" plan wrong.yaml
says stderr "quantized already"
