# ctest: timeout=300 emulated
# --pairs says when both signs of a perturbation are computed at once, and nothing else: the same
# journals with it and without, on any number of ranks, by the CPU and on a device where there is
# one. Where memory has no room for pairs, plan and run say so and go on without.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
need_mpi

train="batch: 6, micro_batch: 2, evaluate_every: 3"
write_sweep sweep.yaml "steps: 6, samples_per_step: 3, $train" \
    "learning_rate: { value: 1e-4 }; update_rule: { values: [plain, spsa_1_5] }" \
    "ranks_per_trial: all"
for pairs in never always auto; do
    run 0 "$QZO" run sweep.yaml --out $pairs --backend cpu --pairs $pairs --threads 1 --quiet
    same_journals never $pairs "--pairs $pairs"
done
for ranks in 2 4; do
    run 0 mpirun -n $ranks "$QZO" run sweep.yaml --out on-$ranks --backend cpu --pairs always \
        --threads 1 --quiet
    same_journals never on-$ranks "pairs on $ranks ranks"
done

# Images: batches of a diffusion transformer.
cat >images.yaml <<YAML
model: $QZO_SOURCE/tests/fixtures/mmdit/sd35-medium
task: $QZO_SOURCE/tests/fixtures/mmdit/toy.qzt
train: { steps: 4, batch: 3, micro_batch: 2, samples_per_step: 2, evaluate_every: 2,
         groups: unquantized }
parameters: { learning_rate: { value: 1e-4 } }
YAML
for pairs in never always; do
    run 0 "$QZO" run images.yaml --out images-$pairs --backend cpu --pairs $pairs --threads 1 \
        --quiet
    same_journals images-never images-$pairs "images, --pairs $pairs"
done

# Where there is a device, or one that is emulated, its kernels read codes once.
printf '1 5\n' >ids
if "$QZO" generate "$QZO_SOURCE/tests/fixtures/tiny-llama" --ids ids --max-new 1 --backend cuda \
    >stdout 2>stderr; then
    write_sweep device.yaml "steps: 3, samples_per_step: 1, $train" "learning_rate: { value: 1e-4 }"
    for pairs in never auto; do
        run 0 "$QZO" run device.yaml --out device-$pairs --backend cuda --pairs $pairs --quiet
    done
    same_journals device-never device-auto "a device, --pairs never and auto"
fi

# pair_rows_of ARGUMENT...: what a plan with them says.
pair_rows_of() {
    run 0 "$QZO" plan "$@" --json
    python3 -c 'import json; plan = json.load(open("stdout"))
print(plan["pair_rows"], plan["memory_bytes"]["sum"])'
}
read -r rows sum < <(pair_rows_of sweep.yaml --backend cpu)
((rows == 0)) || fail "the CPU's plan has pairs of $rows rows"
read -r pair_rows pair_sum < <(pair_rows_of sweep.yaml --backend cpu --pairs always)
((pair_rows > 0)) || fail "no pairs with --pairs always"
read -r rows sum < <(pair_rows_of images.yaml --backend cpu --pairs always)
((rows > 0)) || fail "no pairs of images with --pairs always"
read -r rows device_sum < <(pair_rows_of sweep.yaml --backend cuda --pairs never)
((rows == 0)) || fail "pairs of $rows rows with --pairs never"
read -r rows device_pair_sum < <(pair_rows_of sweep.yaml --backend cuda)
((rows == pair_rows && device_pair_sum > device_sum)) ||
    fail "a device's plan: $rows rows, $device_pair_sum bytes, without pairs $device_sum"
run 0 "$QZO" plan sweep.yaml --backend cuda
says stdout "both signs of a perturbation at once, up to $pair_rows tokens each"

# One byte less than pairs take, on the device's plan: without them it fits.
below=$((device_pair_sum - 1))
read -r rows found < <(pair_rows_of sweep.yaml --backend cuda --memory-limit $below)
((rows == 0 && found == device_sum)) || fail "pairs of $rows rows in $found of $below bytes"
run 0 "$QZO" plan sweep.yaml --backend cuda --memory-limit $below
says stdout 'one after the other: at once they take more than --memory-limit'
for name in fzoo mezo_gv; do
    sed "s/plain, spsa_1_5/$name/; s/samples_per_step: 3/samples_per_step: 4/" \
        sweep.yaml >$name.yaml
    read -r rows found < <(pair_rows_of $name.yaml --backend cuda)
    ((rows == 0)) || fail "$name has pairs of $rows rows"
done

# The same of a run, where its evaluations are small enough that pairs need more.
sed 's/batch: 6, micro_batch: 2/batch: 16, eval_batch: 1/' sweep.yaml >small.yaml
read -r rows sum < <(pair_rows_of small.yaml --backend cpu --threads 1)
read -r rows pair_sum < <(pair_rows_of small.yaml --backend cpu --threads 1 --pairs always)
((pair_sum > sum)) || fail "pairs take $pair_sum bytes, without them $sum"
for limit in $sum $pair_sum; do
    run 0 "$QZO" run small.yaml --out small-$limit --backend cpu --threads 1 --pairs always \
        --memory-limit $limit
    cp stderr log-$limit
done
says log-$sum "take more than $sum bytes on a rank: they are computed one after the other"
says_not log-$pair_sum 'one after the other'
same_journals small-$sum small-$pair_sum "with pairs and without"
