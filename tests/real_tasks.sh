# ctest: timeout=1200
# The eleven tasks of MeZO's protocol, from real files: what tools/prepare_task.py writes is what an
# encoding that shares nothing with it (tests/mezo_encoding.py) makes of the same examples.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
data=${QZO_TEST_DATA:-}
for folder in tasks tokenizers models/stories260K; do
    [[ -d $data/$folder ]] || skip "no $folder in QZO_TEST_DATA"
done
need_python 'numpy, safetensors, tokenizers, xxhash'
export PYTHONPATH=$QZO_SOURCE/tools
"$python" "$QZO_SOURCE/tests/compare_tasks.py" "$data" . >stdout 2>&1 ||
    fail "$(grep -v ' rows cut$\|\.qzt: \|^train\|^There' stdout)"
grep ' rows cut$\|^no ' stdout
