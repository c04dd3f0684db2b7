# ctest: timeout=300 emulated
# qzo bench on a device: every operation and whole steps have figures, of models of texts and of
# images, on one rank and on two that share the device. Peaks are measured; an emulated device only
# pretends to have some, and the output says so to people and to programs.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures
printf '1 5 9\n' >ids
"$QZO" generate "$fixtures/tiny-llama" --ids ids --max-new 1 --backend cuda >answer 2>refusal ||
    skip "$(<refusal)"
origin='measured now'
if [[ :${LD_LIBRARY_PATH-}: == *:$QZO_BUILD/emulated:* ]]; then
    origin="pretended: the device is emulated, times are the host's"
fi

for backend in cuda cuda-bf16; do
    run 0 "$QZO" bench "$fixtures/tiny-llama" --backend $backend --rows 16 \
        --task "$fixtures/tiny-task.qzt" --batch 2 --steps 2
    says stdout "^peak [0-9.]+ GFLOP/s, copy [0-9.]+ GB/s \($origin\)"
    for operation in 'linear 64 x 64 gptq' embed rope attention activate add digest; do
        says stdout "^$operation.* +[0-9.]+ +[0-9.]+ +[0-9.]+%"
    done
    says stdout '^step of 2 examples, 1 pairs'
    if [[ $origin == 'measured now' ]]; then
        says_not stdout pretended
    else
        says stdout 'of the roofline .*, of pretended peaks'
    fi
done
run 0 "$QZO" bench "$fixtures/mmdit/wide" --quantize nf4 --backend cuda --rows 17 \
    --task "$fixtures/mmdit/toy-wide.qzt" --batch 2 --steps 2
says stdout '^attention, all rows'
says stdout '^step of 2 examples, 1 pairs'

ranks=()
if command -v mpirun >/dev/null && "$QZO" --version | grep -q mpi; then ranks=(mpirun -n 2); fi
run 0 env CUDA_VISIBLE_DEVICES=0 "${ranks[@]}" "$QZO" bench "$fixtures/tiny-llama" --backend cuda \
    --rows 16 --task "$fixtures/tiny-task.qzt" --batch 2 --samples 2 --steps 2 --json
says stdout "\"peaks\": \"$origin\""
says stdout '"backend": "cuda"'
for key in ranks share_of_roofline rows_per_evaluation; do says stdout "\"$key\""; done
