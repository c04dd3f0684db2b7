# A trial that failed or diverged is run anew only when that is asked for; its old journal stays
# beside the new one, and no command takes it for a trial's.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

write_sweep sweep.yaml "steps: 6, batch: 16, evaluate_every: 3" "seed: { values: [0, 1] }"
run 0 "$QZO" run sweep.yaml --out calm --threads 1
run 0 "$QZO" report calm --csv
mv stdout calm.csv

run 1 "$QZO" run sweep.yaml --out out --threads 1 --inject-fault nan-loss:0@4
run 0 "$QZO" report out --csv
[[ $(column stdout status | paste -sd ,) == diverged,finished ]] || fail "not so: $(<stdout)"
id=$(column stdout id | head -n 1)
cp "out/trials/$id.qzj" diverged.qzj

run 1 "$QZO" run sweep.yaml --out out --threads 1
run 1 "$QZO" run sweep.yaml --out out --threads 1 --retry failed
cmp -s diverged.qzj "out/trials/$id.qzj" || fail "--retry failed touched a diverged trial"

run 0 "$QZO" run sweep.yaml --out out --threads 1 --retry diverged
says stderr '1 diverged trials are run anew'
same diverged.qzj "out/trials/$id.qzj.1" "the journal that was set aside"
run 0 "$QZO" report out --csv
same calm.csv stdout "the table after a retry"
same_journals calm out "the journals after a retry"

# A journal that is another trial's makes a failure as well.
mapfile -t ids < <(column stdout id)
cp -r out mixed
cp "mixed/trials/${ids[1]}.qzj" "mixed/trials/${ids[0]}.qzj"
run 1 "$QZO" run sweep.yaml --out mixed --threads 1
run 0 "$QZO" run sweep.yaml --out mixed --threads 1 --retry failed
says stderr '1 failed trials are run anew'
same_journals calm mixed "the journals after a retry of an unreadable one"

# The second retry keeps both.
rm "out/trials/$id.qzj"
run 1 "$QZO" run sweep.yaml --out out --threads 1 --inject-fault nan-loss:0@2
run 0 "$QZO" run sweep.yaml --out out --threads 1 --retry diverged --slice 1/1
same diverged.qzj "out/trials/$id.qzj.1" "the first journal that was set aside"
[[ -s out/trials/$id.qzj.2 ]] || fail "the second journal was not kept"
same_journals calm out "the journals after two retries"
run 2 "$QZO" run sweep.yaml --out out --retry finished
says stderr '--retry: expected failed\|diverged'
