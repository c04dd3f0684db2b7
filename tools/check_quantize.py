#!/usr/bin/env python3
"""Lets transformers and bitsandbytes quantize a model at load and open an exported folder, and
compares dev losses with those of `qzo`: check_quantize.py MODEL TASK REPORT.json FOLDER.

REPORT.json: {"nf4": loss, "fp4": loss, "exported": loss}. The weights are bitsandbytes' own,
decoded by it to fp32 and multiplied in fp32: its CPU products are in bfloat16. Exit code 0: equal;
1: a difference; 77: a package is missing.
"""
import json
import sys
from pathlib import Path

import command_line

LOSS_LIMIT = 1e-6  # relative; both sides are fp32 sums of some 100 products
SKIPPED = 77


def with_plain_linears(model):
    import bitsandbytes
    import torch

    for name, module in list(model.named_modules()):
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        state = module.weight.quant_state
        state.dtype = torch.float32
        plain = torch.nn.Linear(module.in_features, module.out_features, bias=False)
        plain.weight.data = bitsandbytes.functional.dequantize_4bit(module.weight.data, state)
        parent, own = name.rsplit(".", 1)
        setattr(model.get_submodule(parent), own, plain)
    return model


def dev_loss(model, task):
    import torch
    from check_export import Wrapped
    from llama_torch import Split, classification_loss, option_scores

    split, total = Split(task, "dev"), 0.0
    with torch.no_grad():
        for begin in range(0, split.count(), 50):
            ids, mask, gold = split.batch(range(begin, min(begin + 50, split.count())))
            scores = option_scores(Wrapped(model), ids, mask)
            total += float(classification_loss(scores, gold)) * len(gold)
    return total / split.count()


def main():
    parser = command_line.parser_of(__doc__)
    for name in ("model", "task", "report", "folder"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    try:
        import accelerate  # noqa: F401
        import bitsandbytes  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED
    different = 0
    for name, reported in json.loads(given.report.read_text()).items():
        folder, settings = given.folder, {}
        if name != "exported":
            folder = given.model
            settings["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True,
                                                                 bnb_4bit_quant_type=name)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **settings)
        found = dev_loss(with_plain_linears(model), given.task)
        error = abs(found - reported) / reported
        different += not error <= LOSS_LIMIT
        print(f"{name}: dev loss {found:.9g} by bitsandbytes, {reported:.9g} by qzo: relative "
              f"difference {error:.1e}, limit {LOSS_LIMIT:.0e}")
    return different > 0


if __name__ == "__main__":
    sys.exit(main())
