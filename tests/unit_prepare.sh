# ctest: timeout=300
# tools/prepare_task.py refuses what would give a file that means nothing, in a sentence that names
# the file, the row or the option, and loses no input (tests/prepare_cases.py).
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_python 'numpy, safetensors, tokenizers, xxhash, yaml'
export PYTHONPATH=$QZO_SOURCE/tools
run 0 "$python" "$QZO_SOURCE/tests/prepare_cases.py" "$QZO_SOURCE/tests/fixtures/tiny-llama"
cat stdout
