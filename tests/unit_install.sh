# ctest: timeout=60
# What `cmake --install` puts elsewhere runs there.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

run 0 cmake --install "$QZO_BUILD" --prefix "$WORK/prefix"
[[ -x prefix/bin/qzo ]] || fail "no prefix/bin/qzo: $(cat stdout)"
run 0 "$QZO" --version
mv stdout version
run 0 prefix/bin/qzo --version
same version stdout "the installed program's version"
[[ -f prefix/share/qzo/sweeps/quickstart.yaml ]] || fail "sweeps/quickstart.yaml is not installed"
[[ -f prefix/share/qzo/slurm/run_sweep.sh ]] || fail "the batch files are not installed"
[[ ! -e prefix/share/qzo/slurm/cluster.env ]] || fail "a site's settings are installed"
for file in bash-completion/completions/qzo zsh/site-functions/_qzo; do
    [[ -s prefix/share/$file ]] || fail "share/$file is not installed"
done
run 0 prefix/bin/qzo completion bash
same stdout prefix/share/bash-completion/completions/qzo "the installed completion"
if [[ -e prefix/share/man/man1/qzo.1 ]]; then
    says prefix/share/man/man1/qzo.1 'plan'
fi
