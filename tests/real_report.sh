# ctest: timeout=300
# tools/report over a sweep with a lost trial, in a real browser: the table sorts and filters,
# figures follow, nothing is fetched, no script fails. Screenshots stay in the build folder.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python plotly
write_sweep sweep.yaml "steps: 20, batch: 16, samples_per_step: 2, evaluate_every: 10, clip: 5" \
    "learning_rate: { values: [1e-4, 1e-3] }; eps: { values: [1e-3, 1e-2] }; \
seed: { values: [0, 1] }"
ranks=1 launcher=()
if command -v mpirun >/dev/null && "$QZO" --version | grep -qi mpi; then
    ranks=2 launcher=(mpirun -n 2)
    sed -i 's/^train:/ranks_per_trial: all\ntrain:/' sweep.yaml
fi
run 1 "${launcher[@]}" "$QZO" run sweep.yaml --out out --threads 1 --inject-fault nan-loss:0@15
run 0 "$python" "$QZO_SOURCE/tools/report" out --qzo "$QZO" # the runs noted the model's bytes
grep -q '"model_bytes": [1-9]' out/report.html || fail "no bytes of the model without --model"
run 0 "$python" "$QZO_SOURCE/tools/report" out --qzo "$QZO" \
    --model "$QZO_SOURCE/tests/fixtures/tiny-llama"
run 1 "$python" "$QZO_SOURCE/tools/report" nothing --qzo "$QZO"
says stderr 'nothing: not an output folder of qzo'
run 1 "$python" "$QZO_SOURCE/tools/report" out --qzo ./no-such-program
says stderr 'no-such-program: .*--qzo names the program'

"$python" -c 'import selenium' 2>/dev/null || skip "no selenium (tools/test installs it in .venv)"
command -v chromium >/dev/null && command -v chromedriver >/dev/null || skip "no chromium"
run 0 "$QZO" report out --json
mv stdout table.json
mkdir -p "$QZO_BUILD/report"
run 0 "$python" "$QZO_SOURCE/tests/click_report.py" "$PWD/out/report.html" table.json \
    "$QZO_BUILD/report" $ranks
