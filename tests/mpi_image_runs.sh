# ctest: timeout=900
# Diffusion transformers from a sweep file: they learn, ranks, threads and a kill change no byte, a
# model quantized at load trains its scales, export and replay follow, and what does not fit is
# refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
models=$QZO_SOURCE/tests/fixtures/mmdit

# write_images FILE MODEL TASK TRAIN PARAMETERS
write_images() {
    write_sweep "$1" "$4" "$5"
    sed -i "s#^model: .*#model: $models/$2#; s#^task: .*#task: $3#" "$1"
    sed -i 's/^name: test$/&\nranks_per_trial: all/' "$1"
}

# falls TABLE ROW ROW: dev loss of the second row lies below the first's.
falls() {
    local first second
    first=$(column "$1" dev_loss | sed -n "$2p")
    second=$(column "$1" dev_loss | sed -n "$3p")
    awk "BEGIN { exit !($second < 0.95 * $first) }" ||
        fail "dev loss $second, expected below 0.95 of $first"
}

train="steps: 40, batch: 4, micro_batch: 2, samples_per_step: 3, evaluate_every: 20, eval_batch: 4"
write_images sweep.yaml sd35-medium "$models/toy.qzt" "$train, groups: weights" \
    "learning_rate: { values: [0, 3e-3] }"
run 0 "$QZO" run sweep.yaml --out one --threads 2
run 0 "$QZO" report one --csv
cp stdout table.csv
falls table.csv 1 2
[[ $(column table.csv best_step | head -1) == 0 ]] || fail "learning rate 0: another step is better"
[[ -z $(column table.csv dev_score | head -1) ]] || fail "an image has a score: $(<table.csv)"
for ranks in 2 5; do
    run 0 mpirun -n "$ranks" "$QZO" run sweep.yaml --out "on$ranks" --threads 1
    same_journals one "on$ranks" "1 and $ranks ranks"
done
run 137 mpirun -n 2 "$QZO" run sweep.yaml --out killed --threads 1 --inject-fault kill:0@25
run 0 "$QZO" run sweep.yaml --out killed --threads 1
same_journals one killed "a killed run"
run 0 "$QZO" replay one 2 --check
run 0 "$QZO" export one 2 --to tuned
says stdout 'dev +loss [0-9.]+ before the rounding'
run 0 "$QZO" eval tuned "$models/toy.qzt" --split dev --json
loss=$(awk -F': ' '/"loss,none"/ { print $2 + 0 }' stdout)
expected=$(column table.csv dev_loss | sed -n 2p)
awk "BEGIN { d = $loss - $expected; exit !(d * d < 1e-6) }" || # fp16 rounding of the weights
    fail "the exported model has loss $loss, the trial $expected"

# --- quantized at load: the scales train ---
write_images nf4.yaml wide "$models/toy-wide.qzt" "$train, quantize: nf4" \
    "learning_rate: { values: [0, 3e-3] }"
run 0 "$QZO" run nf4.yaml --out nf4
run 0 "$QZO" report nf4 --csv
cp stdout nf4.csv
falls nf4.csv 1 2
run 0 "$QZO" export nf4 2 --to nf4-tuned
says nf4-tuned/config.json bnb_4bit_quant_type
run 0 "$QZO" inspect nf4-tuned
says stdout 'transformer_blocks.0.attn.add_q_proj.weight.absmax' # unread, but diffusers asks for it
run 0 "$QZO" inspect "$models/wide" --quantize nf4
says stdout 'architecture +mmdit: 1 layers'
says stdout 'attn.to_q +bnb '

# --- what takes how long ---
run 0 "$QZO" bench "$models/wide" --quantize nf4 --rows 17 --threads 1 --backend cpu \
    --task "$models/toy-wide.qzt" --batch 4 --steps 2
for operation in 'linear 256 x 64 bnb' modulate 'attention, all rows' 'add gated' digest; do
    says stdout "^$operation  +[0-9.]+ "
done
says stdout '^step of 4 examples, 1 pairs, 68.0 rows per evaluation' # 12 patches and 5 of text each
run 0 "$QZO" bench "$models/sd35-medium" --rows 17 --threads 1 --backend cpu
says stdout '^norm of heads '
run 0 "$QZO" plan nf4.yaml
says stdout 'at most 68 tokens in a forward pass'

# --- objectives ---
write_images other.yaml sd3 "$models/toy.qzt" \
    "$train, groups: weights, timestep_density: mode, loss_weighting: cosmap, timestep_shift: 1" \
    "learning_rate: { value: 1e-3 }; seed: { values: [0, 1] }"
run 0 "$QZO" run other.yaml --out other
run 0 "$QZO" journal other 1
says stdout 'loss_weighting=cosmap'
write_images plain.yaml sd3 "$models/toy.qzt" "$train, groups: weights, timestep_shift: 1" \
    "learning_rate: { value: 0 }"
run 0 "$QZO" run plain.yaml --out plain
sed -i 's/value: 1e-3/value: 0/' other.yaml
run 0 "$QZO" run other.yaml --out resting
for out in plain resting; do
    run 0 "$QZO" report "$out" --csv
    column stdout dev_loss | head -1 >"$out.loss"
done
same plain.loss resting.loss "the dev loss of trials that weigh and draw differently"

# --- what does not fit ---
fixtures=$QZO_SOURCE/tests/fixtures
run 2 "$QZO" eval "$fixtures/tiny-llama" "$models/toy.qzt"
says stderr 'tiny-llama is a model of texts, .*toy.qzt a task of images'
run 2 "$QZO" eval "$models/sd3" "$fixtures/tiny-task.qzt"
says stderr 'sd3 is a model of images, .*tiny-task.qzt a task of texts'
run 2 "$QZO" eval "$models/sd3" "$models/toy-wide.qzt"
says stderr 'text embeddings of width 64, the model .* has 24'
run 2 "$QZO" bench "$models/wide" --quantize nf4 --rows 8 --task "$fixtures/tiny-task.qzt"
says stderr 'wide is a model of images, .*tiny-task.qzt a task of texts'
printf '1 2 3\n' >ids
run 2 "$QZO" generate "$models/sd3" --ids ids --max-new 2 --print-ids
says stderr 'a model of images, expected one of texts'
write_images lora.yaml sd3 "$models/toy.qzt" "$train, groups: lora" "learning_rate: { value: 1e-3 }"
run 2 "$QZO" run lora.yaml --out lora
says stderr 'groups: lora: a model of images has no adapters'
write_images score.yaml sd3 "$models/toy.qzt" "$train, groups: weights" \
    "learning_rate: { value: 1e-3 }"
printf 'metric: { name: dev_score, goal: maximize }\n' >>score.yaml
run 2 "$QZO" run score.yaml --out score
says stderr 'has no score: expected metric dev_loss'
