# ctest: timeout=600
# Tasks through Hugging Face `datasets`: real rows in the columns that the hub's repositories have,
# as Parquet files in a folder each, give the rows that the local files give. What the hub cannot
# give ends with its name and the way out.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
data=${QZO_TEST_DATA:-}
[[ -d $data/tasks ]] || skip "no tasks in QZO_TEST_DATA"
need_python 'numpy, datasets, pyarrow' requirements-datasets.txt
export PYTHONPATH=$QZO_SOURCE/tools
export HF_HUB_OFFLINE=1 HF_HOME=$PWD/hub HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$python" "$QZO_SOURCE/tests/hub_tasks.py" "$data/tasks" . >stdout 2>&1 || fail "$(<stdout)"
cat stdout
