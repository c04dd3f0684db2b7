# ctest: timeout=600
# tools/export_metrics: what TensorBoard, MLflow and W&B read back is what `qzo report` says.
# QZO_ORACLE_PYTHON names an interpreter that has them; one that is missing is left out.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python=${QZO_ORACLE_PYTHON:-python3}
write_sweep sweep.yaml "steps: 6, batch: 16, samples_per_step: 2, evaluate_every: 3" \
    "learning_rate: { values: [1e-4, 1e-3] }"
run 0 "$QZO" run sweep.yaml --out out --threads 1
run 0 "$QZO" report out --json
mv stdout table.json
run 0 "$QZO" journal out 2 --csv
mv stdout records.csv
export WANDB_MODE=offline HOME=$WORK
compared=0
for format in tensorboard mlflow wandb; do
    "$python" -c "import $format" 2>/dev/null || continue
    export=("$python" "$QZO_SOURCE/tools/export_metrics" out --qzo "$QZO" \
        --to "$format" --out "$format")
    run 0 "${export[@]}"
    run 0 "$python" "$QZO_SOURCE/tests/read_metrics.py" "$format" table.json records.csv
    run 1 "${export[@]}"
    says stderr "$format exists already"
    compared=$((compared + 1))
done
((compared > 0)) || skip "$python has none of tensorboard, mlflow, wandb"
echo "$compared of 3 compared"
