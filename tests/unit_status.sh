# ctest: timeout=300
# The table that redraws in place: `qzo run` on a terminal and `qzo status` from another one, on
# real terminals of 80 columns (tmux), before and after a resize; plain lines elsewhere.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
command -v tmux >/dev/null || skip "no tmux"

tmux_do() { tmux -S "$WORK/tmux" "$@"; }
trap 'tmux_do kill-server 2>/dev/null; remove_work' EXIT

write_sweep sweep.yaml "steps: 400, batch: 16, samples_per_step: 4, evaluate_every: 100" \
    "learning_rate: { values: [1e-5, 1e-4] }"
tmux_do -f /dev/null new-session -d -s run -x 80 -y 24 \
    "'$QZO' run sweep.yaml --out out --threads 1; sleep 100"

# shows SESSION PATTERN: waits until a line of that terminal matches.
shows() {
    local try
    for try in $(seq 1200); do
        tmux_do capture-pane -p -t "$1" >screen 2>/dev/null && grep -qE -- "$2" screen && return
        sleep 0.1
    done
    cat screen
    fail "the terminal $1 never shows: $2"
}

shows run '^ +1 running +[0-9]+/400 '
tmux_do new-session -d -s status -x 80 -y 24 "'$QZO' status out; sleep 100"
shows status '^ +[12] running +[1-9][0-9]*/400 +0\.[0-9]+ '
[[ $(grep -c '^trial status' screen) == 1 ]] || { cat screen; fail "the table is there twice"; }
shows status 'left [0-9]+:[0-9]+'

tmux_do resize-window -t status -x 60 -y 12
sleep 2
tmux_do capture-pane -p -t status >screen
[[ $(tail -n 8 screen | grep -c '^trial status') -le 1 ]] || { cat screen; fail "resized: twice"; }
awk 'length($0) > 60 { exit 1 }' screen || fail "a line is wider than the terminal"

# Both end with the sweep, and show the same.
shows run '2 of 2 ended, 0 running'
shows status '2 of 2 ended, 0 running'

# Elsewhere: plain lines with a time, and a table without control characters.
run 0 "$QZO" status out
says stdout '^test: 2 of 2 ended'
says_not stdout $'\x1b'
run 0 "$QZO" status out --json
says stdout '"status": "finished"'
write_sweep short.yaml "steps: 2" "learning_rate: 1e-5"
sed -i 's/learning_rate: 1e-5/learning_rate: { value: 1e-5 }/' short.yaml
run 0 "$QZO" run short.yaml --out short
says stderr '^[0-9]{4}-[0-9]{2}-[0-9]{2} .*trial 1/1'
says_not stderr $'\x1b'
run 2 "$QZO" status nowhere
