# ctest: timeout=120
# `--backend cpu-bf16`: its name stands in the journal; the journal does not depend on ranks and
# threads; a trial begun in fp32 goes on in bf16 and says so; ranks of both are refused together.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
"$QZO" --version | grep -qE '\((avx512|amx)\)' || skip "neither AMX nor AVX-512"

train="steps: 8, batch: 16, micro_batch: 4, samples_per_step: 3, evaluate_every: 4"
write_sweep sweep.yaml "$train" "learning_rate: { values: [1e-4] }" "ranks_per_trial: all"
run 0 "$QZO" run sweep.yaml --out alone --backend cpu-bf16 --threads 1
run 0 "$QZO" journal alone 1
says stdout 'arithmetic cpu bf16 2$'
run 0 "$QZO" replay alone 1 --check --backend cpu-bf16
for threads in 2 3; do
    run 0 "$QZO" run sweep.yaml --out "threads-$threads" --backend cpu-bf16 --threads "$threads"
    same_journals alone "threads-$threads" "1 and $threads threads"
done
for ranks in 2 3 4; do
    run 0 mpirun -n "$ranks" "$QZO" run sweep.yaml --out "ranks-$ranks" --backend cpu-bf16 \
        --threads 1
    same_journals alone "ranks-$ranks" "alone and $ranks ranks"
done

# Without AMX the same bits; without AVX-512 a clear refusal.
run 0 "$QZO" run sweep.yaml --out avx512 --backend cpu-bf16 --cpu-limit avx512 --threads 1
same_journals alone avx512 "AMX and AVX-512"
run 3 "$QZO" run sweep.yaml --out avx2 --backend cpu-bf16 --cpu-limit avx2 --threads 1
says stderr 'AMX or AVX-512, this one has avx2'

# Another arithmetic, other losses: a bf16 run that computed in fp32 would go unnoticed otherwise.
run 0 "$QZO" run sweep.yaml --out fp32 --backend cpu --threads 1
run 0 "$QZO" journal fp32 1 --csv
cp stdout fp32.csv
run 0 "$QZO" journal alone 1 --csv
! cmp -s stdout fp32.csv || fail "bf16 and fp32 give the same losses"

# Killed after 5 steps in fp32, resumed in bf16.
run 137 "$QZO" run sweep.yaml --out mixed --backend cpu --threads 1 --inject-fault kill:0@5
run 0 "$QZO" run sweep.yaml --out mixed --backend cpu-bf16 --threads 1
cat stdout stderr >said
says said 'arithmetic "cpu bf16 2" after "cpu fp32 2"'
run 0 "$QZO" journal mixed 1
says stdout 'arithmetic cpu fp32 2$'
says stdout 'CHANGE .*arithmetic.*cpu bf16 2'
run 0 "$QZO" report mixed --csv
[[ $(column stdout steps) == 8 ]] || fail "the resumed trial has $(column stdout steps) steps"

run 3 mpirun -n 1 "$QZO" run sweep.yaml --out both --backend cpu --threads 1 : \
    -n 1 "$QZO" run sweep.yaml --out both --backend cpu-bf16 --threads 1
cat stdout stderr >said
says said 'cpu bf16 2'

run 0 "$QZO" bench "$QZO_SOURCE/tests/fixtures/tiny-llama" --backend cpu-bf16 --rows 27 --threads 1
says stdout 'cpu bf16 2'
