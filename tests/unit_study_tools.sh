# The reports of a study say what its journals hold: forward passes by rule, of steps whose records
# count one, two or three of them; dev at the end; one line per rule, one entry per learning rate.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' || skip "no Python 3.8"

write_sweep sweep.yaml "steps: 4, batch: 16, micro_batch: 8, samples_per_step: 2, \
evaluate_every: 2" "update_rule: { values: [plain, fzoo, spsa_1_5, mezo_gv] }
  learning_rate: { values: [1e-5, 2e-5] }
  seed: { values: [0, 1] }"
run 0 "$QZO" run sweep.yaml --out out --threads 1
tools=$QZO_SOURCE/tools

run 0 python3 "$tools/compare_estimators.py" out --qzo "$QZO" --loss 100 --by update_rule
cp stdout table
[[ $(wc -l <table) == 6 ]] || fail "4 rules in $(wc -l <table) lines, 2 of them the head"
grep -q '^| plain | 1e-05, 2e-05 | 2 | 0, 0 | 0 |' table || fail "the line of plain: $(cat table)"

# A folder that names a default and one that does not share a line, whose entries count their own.
write_sweep named.yaml "steps: 2, batch: 16, evaluate_every: 2, samples_per_step: 2" \
    "quantize: { values: [none] }
  learning_rate: { values: [1e-5] }
  seed: { values: [2] }"
run 0 "$QZO" run named.yaml --out named --threads 1
run 0 python3 "$tools/compare_estimators.py" out named --qzo "$QZO" --by update_rule quantize
grep -q '^| plain | default | 1e-05, 2e-05 | 3, 2 |' stdout || fail "two folders: $(cat stdout)"
[[ $(wc -l <stdout) == 6 ]] || fail "4 rules of two folders in $(wc -l <stdout) lines"

python3 - "$QZO" "$tools" <<'PY' || fail "evaluations of a step"
import sys
sys.path.insert(0, sys.argv[2])
from compare_estimators import Trial, interval
assert interval([0, 10], 3) == "5.000 ± 63.530", interval([0, 10], 3)
# 11 values: t is 2.228 in any table.
assert interval(range(11), 3) == "5.000 ± 2.228", interval(range(11), 3)
for trial, expected in ((1, 4), (5, 3), (9, 5), (13, 4)):
    found = Trial(sys.argv[1], "out", {"trial": str(trial)})
    assert found.evaluations_per_step == expected, (trial, found.evaluations_per_step)
    assert found.passes_to((100, True)) == 0 and found.dev[-1][0] == 4, found.dev
    found.dev = found.dev[1:]
    assert found.passes_to((100, True)) == 2 * expected * 2, found.passes_to((100, True))
PY

run 0 python3 "$tools/record_learning.py" out --qzo "$QZO" --score 0
grep -q '^| plain | 1e-05 | 2 |.*| 0, 0 |$' stdout || fail "record_learning: $(cat stdout)"
