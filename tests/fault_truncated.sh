# ctest: timeout=120
# A model file that another process cuts while a sweep runs: exit code 3 and the file's name, alone
# and under mpirun; with the file back, the sweep goes on and ends as if nothing had happened.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

cp -r "$QZO_SOURCE/tests/fixtures/tiny-llama" whole
write_sweep sweep.yaml "steps: 600, batch: 8, samples_per_step: 1, evaluate_every: 600" \
    "learning_rate: { value: 1e-5 }" "ranks_per_trial: all"
sed -i "s|^model: .*|model: model|" sweep.yaml
cp -r whole model
run 0 "$QZO" run sweep.yaml --out undisturbed --backend cpu

# cut NAME COMMAND...: runs the sweep into NAME and cuts the model when the journal has grown.
cut() {
    local name=$1 job code
    shift
    rm -rf model
    cp -r whole model
    "$@" run sweep.yaml --out "$name" --backend cpu --threads 1 >"$name.out" 2>"$name.err" &
    job=$!
    JOBS+=("$job")
    until (($(steps_of "$name" 1) >= 20)) || ! kill -0 "$job" 2>/dev/null; do sleep 0.02; done
    truncate -s 64 model/model.safetensors
    wait "$job"
    code=$?
    ((code == 3)) || fail "$name: exit code $code, expected 3: $(tail -n 5 "$name.err")"
    says "$name.err" 'qzo: .*model/model\.safetensors: the file became shorter while it was in use'
    rm -rf model
    cp -r whole model
    run 0 "$QZO" run sweep.yaml --out "$name" --backend cpu
    same_journals undisturbed "$name" "undisturbed and $name"
}

cut alone "$QZO"
if command -v mpirun >/dev/null && "$QZO" --version | grep -qi mpi; then
    cut ranks mpirun -n 2 "$QZO"
fi
