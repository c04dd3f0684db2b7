# ctest: timeout=300 emulated
# Text on a device is the CPU's. --transport on a device: the same journals from one process twice,
# from 1, 2 and 4 ranks that share the device over MPI, and over NCCL; NCCL between ranks that share
# a device is refused with our own words. With two devices and more, NCCL between them too.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
printf '1 5 9\n' >ids
"$QZO" generate "$QZO_SOURCE/tests/fixtures/tiny-llama" --ids ids --max-new 1 --backend cuda \
    >answer 2>refusal || skip "$(<refusal)"

# The same ids, one prompt alone and several side by side. Where two tokens are nearly as likely the
# arithmetic would decide: of these prompts 16-bit products on the CPU choose the same.
printf '%s\n' '1 5 9' '3 8 21 22 30 4' '7' >prompts
for model in tiny-llama arch/gemma2 gptq/v1-asym-g64-gqa; do
    for settings in '' '--temperature 1 --seed 3' '--temperature 2 --top-k 5 --seed 4'; do
        for ids in 'ids' 'prompts --each-line'; do
            for backend in cpu cuda; do
                # Unquoted: words of their own.
                run 0 "$QZO" generate "$QZO_SOURCE/tests/fixtures/$model" --ids $ids $settings \
                    --max-new 8 --print-ids --backend $backend
                cp stdout $backend.ids
            done
            same cpu.ids cuda.ids "text of $model, $ids $settings"
        done
    done
done

write_sweep sweep.yaml \
    "steps: 6, batch: 8, micro_batch: 4, samples_per_step: 4, evaluate_every: 6" \
    "learning_rate: { value: 1e-4 }" "ranks_per_trial: all"
run 0 "$QZO" run sweep.yaml --out alone --backend cuda
says stderr 'memory of a device: [0-9]+ bytes in use \(rank 0\)' # which tools/gpu_figures reads
run 0 "$QZO" run sweep.yaml --out again --backend cuda
same_journals alone again "one process, twice"
# The first device alone, so that the ranks share it.
for count in 1 2 4; do
    run 0 env CUDA_VISIBLE_DEVICES=0 mpirun -n $count "$QZO" run sweep.yaml --out shared-$count \
        --backend cuda
    same_journals alone shared-$count "alone and $count ranks on one device"
    ((count == 1)) || says stderr 'ranks 0.* share GPU-.*travel over MPI'
done
emulated=$([[ :${LD_LIBRARY_PATH-}: == *:$QZO_BUILD/emulated:* ]] && echo yes)
[[ $emulated ]] || "$QZO" --version | grep -q '^transports .*NCCL' ||
    skip "the rest: built without NCCL"
run 0 "$QZO" run sweep.yaml --out world-of-one --backend cuda --transport nccl
same_journals alone world-of-one "a world of one over NCCL"
says world-of-one/timing/*.jsonl '"transport": "nccl"'

run 3 env CUDA_VISIBLE_DEVICES=0 mpirun -n 2 "$QZO" run sweep.yaml --out refused --backend cuda \
    --transport nccl
says stderr 'NCCL wants a GPU per rank of a trial: ranks 0 and 1 share GPU-'
[[ ! -e refused ]] || fail "a refused transport left the folder"

devices=2
[[ $emulated ]] || devices=$(nvidia-smi -L | wc -l)
for ((count = 2; count <= devices; count *= 2)); do
    run 0 mpirun -n $count "$QZO" run sweep.yaml --out nccl-$count --backend cuda
    same_journals alone nccl-$count "alone and $count devices over NCCL"
    says nccl-$count/timing/*.jsonl '"transport": "nccl"'
    run 0 mpirun -n $count "$QZO" run sweep.yaml --out mpi-$count --backend cuda --transport mpi
    same_journals alone mpi-$count "alone and $count devices over MPI"
done
printf '%d devices\n' "$devices"
