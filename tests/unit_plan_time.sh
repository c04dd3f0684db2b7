# `qzo plan --calibrate` times three steps, offers every sensible number of ranks per trial, and
# says whether a job's limit is enough. No number of seconds is asserted: only how they hang
# together.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3

write_sweep sweep.yaml "steps: 500, batch: 16, samples_per_step: 2, evaluate_every: 100" \
    "learning_rate: { values: [1e-6, 1e-5, 1e-4] }; seed: { values: [0, 1, 2] }"
run 0 "$QZO" plan sweep.yaml --calibrate --threads 1 --ranks 6 --per-node 4 --time 12:00:00
says stdout 'a step of trial 1 on one rank \(CPU, 1 thread\): [0-9.]+ ms, [0-9.]+ steps/s'
says stdout '4500 steps with scheduler fifo'
for ranks in 1 2 4 6; do says stdout "ranks_per_trial $ranks "; done
says stdout '^ *ranks_per_trial 1 .*as the sweep file has it'
says stdout '^[0-9.e-]+ hours, [0-9.e-]+ core-hours'
says stdout 'fits --time 12:00:00'
says stdout '^sbatch --nodes=2 --ntasks-per-node=4 --time=12:00:00 slurm/run_many_nodes.sbatch '
says stdout ' sweep.yaml OUT$'

# What the command line adds to the file, the job needs too.
fixtures=$QZO_SOURCE/tests/fixtures
run 0 "$QZO" plan "$fixtures/wandb/copa_opt_13b_seeds.yml" --calibrate --threads 1 \
    --model "$fixtures/tiny-llama" --task "$fixtures/tiny-task.qzt"
says stdout "^sbatch .* OUT --model $fixtures/tiny-llama --task $fixtures/tiny-task.qzt\$"

run 0 "$QZO" plan sweep.yaml --calibrate --threads 1 --json --ranks 3
python3 -c 'import json
time = json.load(open("stdout"))["time"]
# One rank each: nine equal trials on three ranks are three in a row. Passes and updates are all
# that a step has; a choice of more ranks is never shorter than the work divided by the ranks.
assert 0 < time["pass_seconds"] <= time["step_seconds"]
alone = time["choices"][0]["seconds"]
assert time["seconds"] == alone and time["starts"] == 1
assert [c["ranks_per_trial"] for c in time["choices"]] == [1, 2, 3], time
assert all(c["seconds"] >= 0.999 * alone for c in time["choices"][2:]), time
steps = 3 * 500 * (4 * time["pass_seconds"] + 2 * time["update_seconds"])
assert 0.999 * steps < alone, (steps, alone)' || fail "the figures do not hang together: $(<stdout)"

write_sweep rungs.yaml "steps: 90, batch: 8, evaluate_every: 10" \
    "learning_rate: { values: [1e-6, 1e-5, 1e-4] }; seed: { values: [0, 1, 2] }" \
    "scheduler: { name: hyperband, min_steps: 10, eta: 3 }"
run 0 "$QZO" plan rungs.yaml --calibrate --threads 1
# Nine trials to 10 steps, three to 30, one to 90: (9 - 3) 10 + (3 - 1) 30 + 90.
says stdout '210 steps with scheduler hyperband'
run 0 "$QZO" plan rungs.yaml --calibrate --threads 1 --time 1
says stdout '(fits --time 00:01:00|--time 00:01:00 is too short to start in)'

# Trials that cannot run are told and not timed, also where they come first or there are no others.
write_sweep missing.yaml "steps: 5, batch: 8" \
    "model: { values: [absent, $QZO_SOURCE/tests/fixtures/tiny-llama] }"
sed -i '/^model:/d' missing.yaml
run 0 "$QZO" plan missing.yaml --calibrate --threads 1
says stdout 'a step of trial 2 on one rank \(CPU, 1 thread\)'
says stdout '1 trial cannot run: .*absent'
run 0 "$QZO" plan missing.yaml --calibrate --threads 1 --json
sed -i 's/, [^,]*tiny-llama\]/]/' missing.yaml
run 2 "$QZO" plan missing.yaml --calibrate --threads 1
says stderr 'no trial can run'
run 2 "$QZO" plan missing.yaml --calibrate --threads 1 --json

for wrong in x 1: 1:2:3:4 -5 1-; do
    run 2 "$QZO" plan sweep.yaml --calibrate --time "$wrong"
    says stderr '--time: expected minutes, MM:SS, HH:MM:SS or D-HH:MM:SS'
done
run 2 "$QZO" plan sweep.yaml --time 10
says stderr '--time needs --calibrate'
write_sweep unlike.yaml "batch: 8" "steps: { values: [18, 20] }" "scheduler: asha"
run 2 "$QZO" plan unlike.yaml
says stderr 'expected trials with equal steps'
