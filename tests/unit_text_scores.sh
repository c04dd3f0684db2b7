# ctest: timeout=120
# F1 and exact match of texts equal SQuAD's published rules in Python, bit by bit: made texts, and
# the real answers and contexts of SQuAD and DROP where they are there.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
command -v "${CC:-cc}" >/dev/null || skip "no C compiler"
need_python3
"${CC:-cc}" -std=c17 -D_GNU_SOURCE -O1 -Wall -Wextra -I "$QZO_SOURCE/src" \
    "$QZO_SOURCE/tests/text_scores.c" "$QZO_SOURCE/src/task/text_score.c" -o scores ||
    fail "text_scores.c does not compile"
python3 "$QZO_SOURCE/tests/text_scores.py" pairs "${QZO_TEST_DATA:-absent}/tasks" >pairs ||
    fail "no pairs"
./scores <pairs >found || fail "text_scores ended with $?"
python3 "$QZO_SOURCE/tests/text_scores.py" check pairs found || fail "scores differ"
