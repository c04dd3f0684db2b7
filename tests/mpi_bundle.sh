# ctest: timeout=300
# What tools/bundle makes runs from another place, with an empty environment and with none of this
# machine's MPI: the same journals, alone and on two ranks; its own tests run, and every library
# but the C library's comes from the folder.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_mpi
need_python3
command -v ompi_info >/dev/null || skip "no ompi_info: not Open MPI, or without its tools"

run 0 "$QZO_SOURCE/tools/bundle" made --build "$QZO_BUILD"
run 2 "$QZO_SOURCE/tools/bundle" made --build "$QZO_BUILD"
says stderr 'exists'
mkdir elsewhere
mv made elsewhere/moved
bundle=$WORK/elsewhere/moved
[[ -x $bundle/bin/mpirun ]] || fail "the bundle holds no mpirun"
write_sweep sweep.yaml "steps: 4, batch: 8, samples_per_step: 3, evaluate_every: 2" \
    "learning_rate: { value: 1e-4 }; seed: { values: [0, 1] }"

# bare COMMAND...: in the bundle, in an environment that says where home is and nothing else. This
# machine's Open MPI is out of sight where the test may hide it.
hide='true'
if ((EUID == 0)) && unshare --mount true 2>/dev/null; then
    plugins=$(ompi_info --parsable --path pkglibdir | sed 's/.*://')
    hide="mount -t tmpfs none $plugins"
fi
bare() {
    if [[ $hide == true ]]; then
        env -i HOME="$WORK" TMPDIR="$WORK" "$bundle/run" "$@"
    else
        unshare --mount bash -c "$hide && exec \"\$@\"" bash \
            env -i HOME="$WORK" TMPDIR="$WORK" "$bundle/run" "$@"
    fi
}

run 0 "$QZO" run sweep.yaml --out here --backend cpu --threads 1 --quiet
run 0 bare qzo run "$WORK/sweep.yaml" --out "$WORK/alone" --backend cpu --threads 1 --quiet
same_journals here alone "a bundle, alone"
run 0 bare mpirun --oversubscribe -n 2 qzo run "$WORK/sweep.yaml" --out "$WORK/ranks" \
    --backend cpu --threads 1 --quiet
same_journals here ranks "a bundle, on two ranks"

# What the list names is there, and nothing in it wants sources or the emulated device.
run 0 bare "$bundle/test" --list
says_not stdout '^(emulated_|nccl_states|(text_scores|style|scaling) )'
for word in $(grep -oE '(^| )(build|tests)/[^ ]+' stdout); do
    [[ -e $bundle/$word ]] || fail "the bundle's list names $word"
done
[[ -e $bundle/docs/bundle.md ]] || fail "the bundle holds no docs/bundle.md"
run 0 bare "$bundle/test" unit mpi -R '^(philox|forward|options|comm_2)$'
says stdout '^4 passed, 0 failed, 0 skipped$'
run 0 bare ldd "$bundle/build/qzo" "$bundle/build/tests/test_forward"
says_not stdout 'not found'
grep '=> /' stdout | grep -vE "=> $bundle/|/(libc|libm|libdl|libpthread|librt)\.so" >strangers
[[ ! -s strangers ]] || fail "libraries from outside the bundle: $(<strangers)"
(($(du -sm "$bundle" | cut -f 1) < 64)) || fail "the bundle takes $(du -sh "$bundle")"
