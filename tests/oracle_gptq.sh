#!/usr/bin/env bash
# ctest: timeout=300
# Compares the expected values of the fixtures with GPTQModel and transformers. Skipped where torch
# is absent; where only GPTQModel is, the rest is compared and the test is reported as skipped too.
# QZO_ORACLE_PYTHON names the interpreter of an environment made from requirements-oracle.txt.
set -u
source_folder=${QZO_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
python=${QZO_ORACLE_PYTHON:-python3}

if ! "$python" -c 'import numpy, torch' 2>/dev/null; then
    echo "skipped: $python has no numpy or no torch; see docs/oracles.md"
    exit 77
fi
exec "$python" "$source_folder/tools/check_oracle.py" "$source_folder/tests/fixtures"
