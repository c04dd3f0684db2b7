# ctest: timeout=60
# The scripts of `qzo completion`: bash completes with its own, zsh where it is installed.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program

run 0 "$QZO" completion bash
mv stdout completion.bash
[[ ! -s stderr ]] || fail "completion bash wrote to stderr: $(<stderr)"
bash -n completion.bash || fail "bash cannot read its script"
run 2 "$QZO" completion fish
says stderr "completion: expected bash\|zsh, found 'fish'"

mkdir -p folder/inner "with blank"
touch sweep.yaml other.yml notes.txt task.qzt

# offers EXPECTED WORD...: what bash offers for the last of the words after `qzo`, sorted.
offers() {
    local expected=$1 found
    shift
    found=$(
        source ./completion.bash
        COMP_WORDS=(qzo "$@")
        COMP_CWORD=$#
        _qzo
        printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' '
    ) 2>complaints
    [[ ${found% } == "$expected" ]] || fail "'qzo $*': offered '$found', expected '$expected'"
    [[ ! -s complaints ]] || fail "'qzo $*': $(<complaints)"
}

offers 'replay report run' r
offers '--help --version' --
offers '--backend' run x --ba
offers '--csv' report --cs
offers '--csv' journal x 1 --c
offers '' report --ra
offers 'auto cpu cpu-bf16 cuda cuda-bf16' run --backend ''
offers 'cpu cpu-bf16 cuda cuda-bf16' run --backend c
offers 'cpu cpu-bf16 cuda cuda-bf16' run --backend = c
offers 'auto cpu cpu-bf16 cuda cuda-bf16' run --backend =
offers 'folder with blank' run sweep.yaml --out ''
offers 'folder/inner' run --out folder/
offers 'folder other.yml sweep.yaml with blank' plan ''
offers 'sweep.yaml' run --out folder s
offers 'sweep.yaml' run --out = folder --threads 3 --quiet s
offers 'folder with blank' eval ''
offers 'folder task.qzt with blank' eval folder ''
offers 'task.qzt' eval --backend cpu folder --threads 2 t
offers 'notes.txt' generate folder --ids n
offers '' run --threads ''
offers '' report folder ''
offers '' diff folder 1 ''
offers 'bash zsh' completion ''
offers '' nonsense ''

# Every command and every option of every command is offered.
for command in $("$QZO" --help | sed -n 's/^  \([a-z]\+\) .*/\1/p'); do
    offers "$command" "$command"
    options=$("$QZO" "$command" --help | grep -o '^ \+--[a-z-]\+' | tr -d ' ' | sort | tr '\n' ' ')
    offers "${options% }" "$command" --
done

# bash itself: the function is registered, and a real completion reaches it.
bash --norc -c 'source ./completion.bash && complete -p qzo' >stdout
says stdout '^complete -F _qzo qzo$'

run 0 "$QZO" completion zsh
mv stdout _qzo
command -v zsh >/dev/null || {
    printf 'without zsh: its script was not tried\n'
    exit 0
}
zsh -n _qzo || fail "zsh cannot read its script"
# A terminal of zsh's own, in which TAB is pressed.
cat >drive.zsh <<'ZSH'
zmodload zsh/zpty
zpty terminal zsh -f -i
press() {
    zpty -w -n terminal "$1"
    local text all= deadline=$((SECONDS + 10))
    while ((SECONDS < deadline)); do
        if zpty -r -t terminal text; then all+=${text//[$'\a\b']/}; else sleep 0.05; fi
        [[ $all == *$2* ]] && break
    done
    print -r -- "$all"
}
press $'fpath=($PWD $fpath); autoload -U compinit; compinit -D -u; echo do""ne\n' done
press $'qzo repo\t' 'report'
press $'--c\t' '--csv'
press $'\nqzo run sweep.yaml --backend=cu\t' 'cuda'
ZSH
timeout 60 zsh -f drive.zsh >stdout 2>stderr
says stdout 'zo report'
says stdout '--csv'
says stdout '--backend=cuda'
