# ctest: timeout=300
# Tools say what they do without the packages that they need to do it, which packages those are,
# and what is wrong with their arguments; never a traceback. Random checkpoints of every format run.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python 'numpy, tokenizers, xxhash'
tools=$QZO_SOURCE/tools
export COLUMNS=300

mkdir missing
for package in torch PIL diffusers transformers; do
    printf 'raise ModuleNotFoundError("No module named %s", name="%s")\n' "'$package'" $package \
        >missing/$package.py
done
export PYTHONPATH=$PWD/missing

# --- what --help says -----------------------------------------------------------------------------
# helps TOOL PATTERN: the help has that line, and its first part does not end in a colon.
helps() {
    run 0 "$python" "$tools/$1" --help
    says stdout "$2"
    [[ $(awk '/^(positional arguments|options|optional arguments):/ { exit } NF { last = $0 }
        END { print last }' stdout) != *: ]] || fail "the help of $1 breaks off: $(<stdout)"
}
helps gpu_figures 'gradients \([0-9]+ s\)'
helps gpu_figures '^ +11 +kernel-table'
helps prepare_images.py 'metadata.jsonl'
helps sample_images.py '^CHECKPOINT is a folder of Stable Diffusion'
helps compare_gradients.py 'Cosine: of'
helps make_random_checkpoint 'Formats: gptq, awq, hqq, compressed'
helps make_random_task 'OUT.qzt --model FOLDER'
helps prepare_task.py 'docs/task-file.md'
helps make_toy_mmdit.py 'text encoders of random weights'
helps make_toy_images.py 'Four shapes in six colours'
helps bench_reference.py "default: $QZO_SOURCE/build/qzo"

# --- packages that are not there ------------------------------------------------------------------
needs() {
    local requirements=$1
    shift
    run 1 "$python" "$tools/$1" "${@:2}"
    says stderr "^$1: No module named .*; it needs tools/$requirements: pip install -r"
    says_not stderr Traceback
}
mkdir pictures
printf 'x' >pictures/a.png
printf 'a picture' >pictures/a.txt
needs requirements-images.txt sample_images.py out.png --model none --after none
needs requirements-images.txt make_toy_mmdit.py pictures out
needs requirements-images.txt make_toy_images.py out flat
needs requirements-oracle.txt bench_reference.py none none.qzt

# --- arguments ------------------------------------------------------------------------------------
run 1 "$python" "$tools/compare_gradients.py" none none.qzt --qzo ./none
says stderr '^compare_gradients: ./none: No such file'
run 2 "$python" "$tools/make_random_checkpoint" tiny made --layers -1
says stderr 'argument --layers: expected a whole number, 1 or more, found -1'
run 2 "$python" "$tools/make_random_checkpoint" tiny made --format hqq --holes
says stderr 'hqq keeps its settings in the data'
run 2 "$python" "$tools/make_random_checkpoint" tiny made --format awq --group-size 96
says stderr 'group-size 96: expected a divisor of the 256 inputs'
[[ ! -e made ]] || fail "a folder of a refused checkpoint"
run 0 "$python" "$tools/make_random_task" sst2 task.qzt --vocab 1024 --examples 8
for format in gptq awq hqq compressed aqlm-1x16 aqlm-2x8 nf4 dense; do
    rm -rf made
    run 0 "$python" "$tools/make_random_checkpoint" tiny made --layers 1 --format $format
    run 0 "$QZO" eval made task.qzt --split dev --threads 1 --json
    "$python" -c 'import json, math; found = json.load(open("stdout"))["results"]
assert all(0 < task["loss,none"] < 3 for task in found.values()), found' ||
        fail "$format: $(<stdout)"
done
