#!/usr/bin/env python3
"""Loads adapters that `qzo export` wrote in PEFT, beside their base model in transformers, and
compares the logits with those of the folder that `qzo export --merge` wrote:
check_adapters.py BASE ADAPTERS MERGED [BASE ADAPTERS MERGED ...]; fp32 folders.

Exit code 0: equal, and different from those of the base alone; 1: not; 77: a package is missing.
"""
import sys
from pathlib import Path

import command_line

LIMIT = 1e-5  # of the largest logit; fp32 on both sides, a merged weight is rounded once
LEAST_CHANGE = 100 * LIMIT  # by the adapters, or the comparison would say nothing
TOKENS = (1, 2, 3, 5, 8, 13, 4, 1)
SKIPPED = 77


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="BASE ADAPTERS MERGED")
    given = parser.parse_args()
    try:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED

    def load(folder):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                    attn_implementation="eager").eval()

    ids, wrong = torch.tensor([TOKENS]), 0
    while given.folders:
        base_folder, adapter_folder, merged_folder, *given.folders = given.folders
        with torch.no_grad():
            base = load(base_folder)
            alone = base(ids).logits
            adapted = PeftModel.from_pretrained(base, adapter_folder).eval()(ids).logits
            merged = load(merged_folder)(ids).logits
        size = float(adapted.abs().max())
        error, change = (float((adapted - other).abs().max()) / size for other in (merged, alone))
        print(f"{base_folder.name}: PEFT and merged logits differ by {error:.1e} of the largest, "
              f"adapters change them by {change:.1e}")
        wrong += not error <= LIMIT or change < LEAST_CHANGE
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
