#!/usr/bin/env bash
# ctest: timeout=300
# Makes the tasks, the GPTQ variants and the architectures' models again and compares them with the
# committed files, byte for byte. The trained model is left out: its bits depend on the processor's
# matrix products. So do the expected logits, which check_oracle.py compares by value.
# QZO_ORACLE_PYTHON names the interpreter of an environment made from requirements-oracle.txt.
set -u
source_folder=${QZO_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
fixtures=$source_folder/tests/fixtures
python=${QZO_ORACLE_PYTHON:-python3}

if ! "$python" -c 'import numpy, tokenizers, torch, transformers, xxhash' 2>/dev/null; then
    echo "skipped: $python lacks packages of tools/requirements-oracle.txt; see docs/oracles.md"
    exit 77
fi
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
cp -r "$fixtures/tiny-llama" "$out" || exit 1
for part in tasks variants; do
    "$python" "$source_folder/tools/make_tiny_model.py" "$out" --only "$part" || exit 1
done
"$python" "$source_folder/tools/make_arch_fixtures.py" "$out/arch" || exit 1
"$python" "$source_folder/tools/record_paper_updates.py" "$out" || exit 1

differing=0
compared=0
while IFS= read -r file; do
    compared=$((compared + 1))
    cmp "$file" "$fixtures/${file#"$out"/}" || differing=$((differing + 1))
done < <(find "$out" -name '*.qzt' -o -name 'paper-updates.*' \
    -o -path '*/gptq/*' -type f ! -name expected.safetensors \
    -o -path '*/arch/*' -type f ! -name expected.safetensors)
echo "$compared files made again, $differing differ"
[ "$compared" -gt 0 ] && [ "$differing" -eq 0 ]
