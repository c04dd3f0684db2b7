# ctest: timeout=120
# qzo bench --task: a whole step beside the operations, each phase with its share, on one rank and
# on two; what cannot be measured is refused.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
fixtures=$QZO_SOURCE/tests/fixtures
phases='decode matmul attention elements loss update transfer exchange host'

run 0 "$QZO" bench "$fixtures/tiny-llama" --backend cpu --rows 16 --task "$fixtures/tiny-task.qzt" \
    --batch 4
says stdout '^linear 64 x 64 gptq'
says stdout '^step of 4 examples, 1 pairs'
for phase in $phases; do says stdout "^  $phase +[0-9]+ +[0-9.]+ +[0-9.]+%"; done

if command -v mpirun >/dev/null && "$QZO" --version | grep -q mpi; then
    run 0 mpirun -n 2 "$QZO" bench "$fixtures/tiny-llama" --backend cpu --rows 16 --threads 1 \
        --task "$fixtures/tiny-task.qzt" --batch 4 --samples 3 --steps 7 --json
    for key in $phases ranks share_of_roofline rows_per_evaluation; do says stdout "\"$key\""; done
    says stdout '"samples": 3'
    says stdout '"steps": 7'
fi

run 2 "$QZO" bench "$fixtures/tiny-llama" --backend cpu --rows 16 --task absent.qzt
says stderr 'absent.qzt'
run 2 "$QZO" bench "$fixtures/tiny-llama-fp32" --backend cpu --rows 16 \
    --task "$fixtures/tiny-task.qzt"
says stderr 'nothing to train'
