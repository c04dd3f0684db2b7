# ctest: timeout=300
# Folders of AWQ, HQQ and compressed-tensors that `qzo export` wrote, under the decoders of the
# libraries that own these formats: the dev losses that export printed. QZO_ORACLE_PYTHON names the
# interpreter of an environment made from requirements-oracle.txt.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
task=$QZO_SOURCE/tests/fixtures/tiny-task.qzt
names=()
for variant in awq/g32 hqq/3bit-g16 compressed/int4-g32 \
    compressed/int8-bytes-asym; do
    name=${variant//\//-}
    widened "$QZO_SOURCE/tests/fixtures/$variant" "base-$name"
    cat >sweep.yaml <<TEXT
model: base-$name
task: $task
train: { steps: 20, batch: 16, samples_per_step: 4, evaluate_every: 20, eps: 1e-2 }
parameters: { learning_rate: { values: [1e-2] } }
TEXT
    run 0 "$QZO" run sweep.yaml --out "out-$name" --threads 1
    run 0 "$QZO" export "out-$name" 1 --step 20 --to "$name" --json
    mv stdout "$name.json"
    names+=("$name")
done
"$python" "$QZO_SOURCE/tools/check_packed.py" "$task" "${names[@]}" || exit

# A loss that is no number is a difference.
cp -r awq-g32 not-a-number
sed 's/\("exported_dev_loss": \)[^,]*/\1NaN/' awq-g32.json >not-a-number.json
run 1 "$python" "$QZO_SOURCE/tools/check_packed.py" "$task" not-a-number
says stdout 'export printed nan'
