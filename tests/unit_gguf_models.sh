# ctest: timeout=240
# GGUF files through every command: by their path and as the only file of a folder they are the same
# model; tuned scales replay and come back as the same file with other scales, with a learning rate
# of 0 as the same bytes. What such a file is not taken for is refused by name.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures/gguf
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt

greedy_of() {
    python3 - "$1" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
(size,) = struct.unpack("<Q", data[:8])
print(json.loads(data[8 : 8 + size])["__metadata__"]["greedy"])
PYTHON
}

write_for() { # write_for FILE MODEL TRAIN RATES
    write_sweep "$1" "$3" "learning_rate: { values: [$4] }"
    sed -i "s|^model: .*|model: $2|" "$1"
}

short="steps: 3, batch: 4, samples_per_step: 2, evaluate_every: 3"
count=0
for folder in "$fixtures"/*; do
    name=${folder##*/}
    file=$folder/model.gguf
    run 0 "$QZO" inspect "$file" --json
    says stdout "\"architecture\": \"(llama|qwen2|qwen3)\""
    values=$(sed -n 's/^  "values": \([0-9]*\).*/\1/p' stdout)
    greedy=$(greedy_of "$folder/expected.safetensors") || fail "$name: no greedy continuation"
    cut -d ' ' -f 1-20 <<<"$greedy" >ids
    run 0 "$QZO" generate "$file" --ids ids --max-new 20 --print-ids
    same <(xargs <stdout) <(xargs <<<"$greedy") "$name: the greedy continuation"
    run 0 "$QZO" bench "$file" --rows 4 --threads 1
    count=$((count + 1))
    ((values > 0)) || continue
    write_for "$name.yaml" "$file" "$short" "0, 1e-5"
    write_for folder.yaml "$folder" "$short" "0, 1e-5"
    run 0 "$QZO" run "$name.yaml" --out "$name" --threads 2
    run 0 "$QZO" run folder.yaml --out "$name.alone" --threads 1
    same_journals "$name" "$name.alone" "$name by file and by folder, one thread and two"
    run 0 "$QZO" replay "$name" 2 --step 3 --check
    run 0 "$QZO" export "$name" 1 --step 3 --to "$name.still" --threads 1
    same "$file" "$name.still/model.gguf" "$name with a learning rate of 0"
    run 0 "$QZO" export "$name" 2 --step 3 --to "$name.tuned" --threads 1 --json
    says stdout "\"changed\": [1-9]"
    cmp -s "$file" "$name.tuned/model.gguf" && fail "$name: the tuned file is the same"
    dev_loss=$(sed -n 's/.*"exported_dev_loss": \([^,]*\),*$/\1/p' stdout)
    run 0 "$QZO" eval "$name.tuned" "$task" --threads 1 --json
    says stdout "\"loss,none\": $dev_loss"
done
((count >= 5)) || fail "only $count files"

# It learns: Q4_0's scales, of which about half are negative.
train="steps: 60, batch: 16, samples_per_step: 4, evaluate_every: 60"
write_for learn.yaml "$fixtures/tiny-llama-q4_0" "$train" 1e-4
run 0 "$QZO" run learn.yaml --out learn --threads 2
run 0 "$QZO" report learn --csv
mv stdout learn.csv
awk -v score="$(column learn.csv test_score)" 'BEGIN { exit !(score > 0.9) }' ||
    fail "test score $(column learn.csv test_score)"

# A delta holds whole tensors of blocks, and lies over the file again.
run 0 "$QZO" export learn 1 --to delta --delta --threads 1
run 0 "$QZO" export learn 1 --to whole --threads 1
says stdout '^tensors +14 '

# A link to a file of another name, as the hub's cache has them: what is exported is a model again.
mkdir blobs
cp "$fixtures/tiny-llama-q4_0/model.gguf" blobs/3f9ac0
ln -s blobs/3f9ac0 linked.gguf
write_for linked.yaml "$PWD/linked.gguf" "$short" 1e-5
run 0 "$QZO" run linked.yaml --out linked --threads 1
run 0 "$QZO" export linked 1 --to unlinked --threads 1
run 0 "$QZO" inspect unlinked

# Text comes from the file's own tokens.
echo 1 8 11 17 >ids
run 0 "$QZO" generate "$fixtures/tiny-llama-q4_0/model.gguf" --ids ids --max-new 4
says stdout '^the plot script '
run 0 "$QZO" generate "$fixtures/tiny-llama-q4_0" --ids ids --max-new 8 --stop " ."
says_not stdout ' \.'

# --- refused ---

# refused CODE PATTERN COMMAND...
refused() {
    run "$1" "${@:3}"
    says stderr "$2"
}
mkdir two
cp "$fixtures/llama-f16/model.gguf" two/a.gguf
cp "$fixtures/llama-f16/model.gguf" two/b.gguf
refused 2 'two: several GGUF files \((a|b).gguf, (a|b).gguf\): name one' "$QZO" inspect two
run 0 "$QZO" inspect two/b.gguf
head -c 3000 two/a.gguf >cut.gguf
refused 2 'cut.gguf: cut off: tensor' "$QZO" inspect cut.gguf
echo '{ "a": 1 }' >text.gguf
refused 2 'text.gguf: not a GGUF file' "$QZO" inspect text.gguf
sed 's/llama/gemma/g' two/a.gguf >gemma.gguf
refused 2 'gemma.gguf: general.architecture is "gemma", expected llama, qwen2 or qwen3' \
    "$QZO" eval gemma.gguf "$task"
write_for nf4.yaml "$PWD/two/a.gguf" "steps: 1, quantize: nf4" 1e-5
refused 2 'a.gguf: quantize: nf4: weights of a GGUF file are taken as they are' \
    "$QZO" run nf4.yaml --out nf4
printf '%d files inspected, continued, timed, tuned\n' "$count"
