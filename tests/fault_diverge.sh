# ctest: timeout=120
# A trial that diverges is marked as such; the others finish; the sweep's exit code is 1, also when
# it is run again. Nothing of its last step, whose losses are not finite, is applied.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3

# With a final norm this large the loss is finite and its slope is not usable: clipped, it does
# little; not clipped, the first step throws the scales so far that the second one gives NaN.
cp -rL "$QZO_SOURCE/tests/fixtures/tiny-llama" model
chmod -R u+w model
python3 - <<'PYTHON' || fail "cannot change the model"
import json
import struct
data = bytearray(open("model/model.safetensors", "rb").read())
header_bytes = struct.unpack_from("<Q", data)[0]
place = json.loads(data[8:8 + header_bytes])["model.norm.weight"]
assert place["dtype"] == "F32"
begin, end = (8 + header_bytes + offset for offset in place["data_offsets"])
values = struct.unpack_from(f"<{(end - begin) // 4}f", data, begin)
struct.pack_into(f"<{len(values)}f", data, begin, *[value * 1e25 for value in values])
open("model/model.safetensors", "wb").write(data)
PYTHON
write_sweep fixture.yaml "steps: 20, batch: 16, samples_per_step: 2" \
    "learning_rate: { value: 1e-5 }; clip: { values: [1, .inf, 10] }"
sed 's|^model:.*|model: model|' fixture.yaml >sweep.yaml

run 1 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
cp stdout table.csv
found=$(column table.csv status | tr '\n' ' ')
[[ $found == "finished diverged finished " ]] || fail "the statuses are: $found"
(($(column table.csv steps | sed -n 2p) < 20)) || fail "the diverged trial took every step"

# Nothing of a trial that diverged is done again.
cp -r out/trials before
run 1 "$QZO" run sweep.yaml --out out
run 0 "$QZO" report out --csv
same table.csv stdout "the table of the second run"
for journal in before/*.qzj; do same "$journal" "out/trials/${journal##*/}" "the second run"; done

# Its journal replays like any other; a record with a loss that is not finite never moved a scale.
trial=$(column table.csv trial | sed -n 2p)
run 0 "$QZO" replay out "$trial" --check
run 0 "$QZO" journal out "$trial" --csv
awk -F, '/nan|inf/ { found = 1; if ($7 != 0) exit 1 } END { exit !found }' stdout ||
    fail "expected a record that is not finite, with k = 0: $(tail -n 3 stdout)"

# Nor does a metric hide it: comparisons with what is no number are false, and right by chance.
cp -rL "$QZO_SOURCE/tests/fixtures/tiny-llama" nan-model
chmod -R u+w nan-model
nan_head nan-model
sed 's|^model:.*|model: nan-model|; s/^train: {/& objective: metric,/' fixture.yaml >metric.yaml
run 1 "$QZO" run metric.yaml --out metric
run 0 "$QZO" report metric --csv
[[ $(column stdout status | tr '\n' ' ') == "diverged diverged diverged " ]] ||
    fail "a metric of what is no number: $(<stdout)"
[[ $(column stdout steps | sort -u) == 1 ]] || fail "more than one step: $(<stdout)"
run 0 "$QZO" journal metric 1 --csv
awk -F, 'NR > 1 && ($4 != "nan" || $7 != 0) { exit 1 }' stdout || fail "it was applied: $(<stdout)"

if command -v mpirun >/dev/null; then
    run 1 mpirun -n 2 "$QZO" run sweep.yaml --out ranks
    run 0 "$QZO" report ranks --csv
    same table.csv stdout "the table over two ranks"
    same_journals out ranks "the journals over two ranks"
fi

# One loss of one rank that is NaN, or losses that collapse to zero, end a trial too.
for fault in nan-loss zero-loss; do
    run 1 "$QZO" run fixture.yaml --out "$fault" --inject-fault "$fault:0@5"
    run 0 "$QZO" report "$fault" --csv
    found=$(column stdout status | tr '\n' ' ')
    [[ $found == "diverged finished finished " ]] || fail "$fault: the statuses are: $found"
    [[ $(column stdout steps | head -n 1) == 5 ]] || fail "$fault: not at step 5: $(<stdout)"
done
