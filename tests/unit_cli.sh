# ctest: timeout=120
# The command line: help, version, exit codes, and the formats that other programs read.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures

# --- help, version, usage errors -----------------------------------------------------------------
run 0 "$QZO" --help
commands="run plan report replay journal diff inspect"
for command in $commands; do says stdout "(^|[^a-z])$command"; done
for command in $commands; do
    run 0 "$QZO" "$command" --help
    says stdout "$command"
done
run 0 "$QZO" --version
says stdout '^qzo [0-9]+\.[0-9]+\.[0-9]+'
run 2 "$QZO"
run 2 "$QZO" walk
says stderr 'walk'
run 2 "$QZO" --no-such-option
run 2 "$QZO" run
run 2 "$QZO" run sweep.yaml --out
run 2 "$QZO" report out --no-such-option
says stderr 'no-such-option'

# --- plan -----------------------------------------------------------------------------------------
write_sweep sweep.yaml "steps: 4, batch: 16, samples_per_step: 3, evaluate_every: 2" \
    "learning_rate: { values: [1e-5, 1e-4] }; seed: { values: [0, 1, 2] }"
run 0 "$QZO" plan sweep.yaml
says stdout '(^|[^0-9])6($|[^0-9])'
run 0 "$QZO" plan sweep.yaml --json
python3 -c 'import json, sys; json.load(sys.stdin)' <stdout || fail "plan --json is not JSON"
[[ ! -e out ]] || fail "plan made a folder"
sed 's/steps: 4/steps: -4/' sweep.yaml >bad.yaml
run 2 "$QZO" plan bad.yaml
says stderr 'bad\.yaml:5:[0-9]+: '
sed 's/steps: 4/stepz: 4/' sweep.yaml >bad.yaml
run 2 "$QZO" run bad.yaml --out bad-out
says stderr 'bad\.yaml:5:[0-9]+: .*stepz'
run 0 "$QZO" plan "$QZO_SOURCE/sweeps/quickstart.yaml"

# --- run and report -------------------------------------------------------------------------------
run 0 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
head -n 1 stdout >head.csv
printf '%s,%s\n' trial,id,status,steps,best_step,zero_shot_dev,dev_score,dev_loss,test_score \
    test_loss,learning_rate,seed >expected
same expected head.csv "the head of report --csv"
cp stdout table.csv
[[ $(column table.csv status | sort -u) == finished ]] || fail "not all finished: $(<table.csv)"
rates="1e-05 1e-05 1e-05 0.0001 0.0001 0.0001 "
[[ $(column table.csv learning_rate | tr '\n' ' ') == "$rates" ]] ||
    fail "the order of learning rates is $(column table.csv learning_rate | tr '\n' ' ')"
[[ $(column table.csv seed | tr '\n' ' ') == "0 1 2 0 1 2 " ]] ||
    fail "the order of seeds is $(column table.csv seed | tr '\n' ' ')"
for id in $(column table.csv id); do
    [[ $id =~ ^[0-9a-f]{32}$ && -s out/trials/$id.qzj ]] || fail "no journal of trial $id"
done
run 0 "$QZO" report out
says stdout 'learning_rate'
run 0 "$QZO" report out --json
python3 -c 'import json, sys; json.load(sys.stdin)' <stdout || fail "report --json is not JSON"

# --- journal, replay, diff ------------------------------------------------------------------------
first=$(column table.csv trial | sed -n 1p)
second=$(column table.csv trial | sed -n 2p)
id=$(column table.csv id | sed -n 1p)
run 0 "$QZO" journal out "$first" --csv
[[ $(head -n 1 stdout) == step,sample,seed,loss_plus,loss_minus,gradient,k,flags ]] ||
    fail "the head of journal --csv is $(head -n 1 stdout)"
[[ $(tail -n +2 stdout | cut -d, -f1,2 | tr '\n' ' ') == \
    "1,0 1,1 1,2 2,0 2,1 2,2 3,0 3,1 3,2 4,0 4,1 4,2 " ]] ||
    fail "steps and samples are $(tail -n +2 stdout | cut -d, -f1,2 | tr '\n' ' ')"
cp stdout rows.csv
run 0 "$QZO" journal out "${id:0:12}" --csv
same rows.csv stdout "a trial named by a prefix of its id"
run 0 "$QZO" journal out "$first"
says stdout 'HEADER'
says stdout 'STEP'
says stdout 'EVAL'
says stdout 'END'

run 0 "$QZO" replay out "$first" --check
says stdout '^step 4 digest [0-9a-f]{16}$'
cp stdout last
run 0 "$QZO" replay out "$first" --step 4
same last stdout "replay of the last step"
run 0 "$QZO" replay out "$first" --step 0
says stdout '^step 0 digest [0-9a-f]{16}$'
cut -d' ' -f4 stdout >initial
run 0 "$QZO" replay out "$second" --step 0
cut -d' ' -f4 stdout >other
same initial other "the initial state of two trials of one model"
run 2 "$QZO" replay out "$first" --step 5
run 2 "$QZO" replay out 99
says stderr '99'

run 0 "$QZO" diff out "$first" "$second"
says stdout 'step 1'
run 0 "$QZO" diff out "$first" "$first"

# --- inspect --------------------------------------------------------------------------------------
run 0 "$QZO" inspect "$fixtures/tiny-llama"
says stdout '2560'
says stdout 'gptq'
run 0 "$QZO" inspect "$fixtures/tiny-llama" --json
python3 -c 'import json, sys; json.load(sys.stdin)' <stdout || fail "inspect --json is not JSON"
run 2 "$QZO" inspect absent
says stderr 'absent'
