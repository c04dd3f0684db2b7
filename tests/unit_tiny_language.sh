# ctest: timeout=120
# The tiny model cannot have learnt its task from its text: the very rows that it was trained on are
# drawn again; none is a text of the test split with an answer, and the answers in them do not
# depend on the sentiment that the task asks for.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_python 'numpy, tokenizers'

MOST_SE=3 # of a share of random answers
# What tools/make_tiny_model.py draws: training steps times rows per step, from the seed 0.
constant() { awk -v name="$1" '$1 == name && $2 == "=" { print $3 }' \
    "$QZO_SOURCE/tools/make_tiny_model.py"; }
grep -q 'draw = np.random.default_rng(0)' "$QZO_SOURCE/tools/make_tiny_model.py" ||
    fail "make_tiny_model.py draws its text from another seed than this test"

PYTHONPATH=$QZO_SOURCE/tools "$python" - $(($(constant STEPS) * $(constant ROWS))) >counts <<'PY'
import sys

import numpy as np

import tiny_language

draw = np.random.default_rng(0)
rows = [tiny_language.training_row(draw) for _ in range(int(sys.argv[1]))]
asked = [row.split(" ? ") for row in rows if "?" in row]
agree = [("yes" in answer) == any(word in tiny_language.GOOD for word in text.split())
         for text, answer in asked]
assert all(answer in ("yes .", "no .") for _, answer in asked)
_, test = tiny_language.labelled((1300, 1000), seed=1)
shared = len({text for text, _ in test} & {text for text, _ in asked})
print(len(agree), sum(agree), shared)
PY
read -r answers agree shared <counts || fail "the text could not be drawn"
printf '%s of %s answers agree with the sentiment, %s answer a text of the test split\n' "$agree" \
    "$answers" "$shared"
((answers > 10000)) || fail "$answers answers, expected half of the rows"
((shared == 0)) || fail "$shared rows are texts of the test split with an answer"
awk -v n="$answers" -v a="$agree" -v most=$MOST_SE \
    'BEGIN { d = a - n / 2; exit !(d * d <= most * most * n / 4) }' ||
    fail "$agree of $answers answers agree with the sentiment, expected half within $MOST_SE" \
        "standard errors"
