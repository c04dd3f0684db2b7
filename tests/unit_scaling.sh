# The model of docs/scaling.md predicts the committed measurements within its limit, and the tables
# of that page are what the tool prints.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_python3
model=$QZO_SOURCE/tools/scaling_model.py page=$QZO_SOURCE/docs/scaling.md
[[ -e $page ]] || skip "no docs here"

in_page() { # every line of the table in `stdout`
    grep '^|' stdout >table || fail "no table: $(<stdout)"
    while read -r line; do grep -qxF -- "$line" "$page" || fail "not in $page: $line"; done <table
}
run 0 python3 "$model" compare "$QZO_SOURCE/docs/scaling.json"
in_page
for options in "" "--directions rademacher" "--samples 64"; do
    run 0 python3 "$model" predict $options
    in_page
done

# It can disagree: an update ten times as long as the measured one.
sed 's/"update_seconds": [^,]*/"update_seconds": 4e-4/' "$QZO_SOURCE/docs/scaling.json" >wrong.json
run 1 python3 "$model" compare wrong.json
says stderr 'a prediction is off by a factor of'

# On an idle network and with nothing to apply, ranks share evaluations and nothing else.
run 0 python3 "$model" predict --values 0 --jitter 0 --ring-base-us 0 --hop-inside-us 0 \
    --hop-between-us 0
grep '^| [0-9]' stdout | while read -r line; do
    [[ $line == *'| 1.00 |' ]] || fail "expected an efficiency of 1: $line"
done || exit 1
