#!/usr/bin/env python3
"""Loads a model folder that `qzo export` wrote, in transformers with the weights decoded by
GPTQModel, and compares its dev loss and score with what export printed:
check_export.py FOLDER TASK EXPORT.json (the output of `qzo export --json`); with --adapter PATH
under the adapters there, in PEFT.

Exit code 0: equal; 1: a difference; 77: a package is missing.
"""
import json
import sys
from pathlib import Path

import numpy as np

import command_line

LOSS_LIMIT = 1e-5  # relative; both sides are fp32 sums of some 100 products
SKIPPED = 77


def load(folder):
    """transformers' model with GPTQModel's weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import tensor_file
    from check_oracle import gptqmodel_weight, modules_in

    config = json.loads((folder / "config.json").read_text())
    for key in ("quantization_config", "architectures", "torch_dtype"):
        config.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
    state = {name: torch.from_numpy(tensor.as_float32())
             for name, tensor in tensor_file.read_folder(folder).items() if ".weight" in name}
    for name, parts, settings in modules_in(folder):
        state[f"{name}.weight"] = torch.from_numpy(gptqmodel_weight(parts, settings))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--adapter", type=Path, help="a PEFT folder")
    given = parser.parse_args()
    try:
        import gptqmodel  # noqa: F401
        import torch
        from llama_torch import Split, classification_loss, option_scores
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED
    report = json.loads(given.report.read_text())
    model = load(given.folder)
    if given.adapter:
        try:
            from peft import PeftModel
        except ImportError as error:
            print(f"skipped: {error}")
            return SKIPPED
        model = PeftModel.from_pretrained(model, given.adapter)
    split = Split(given.task, "dev")
    losses, hits, count = [], 0, split.count()
    with torch.no_grad():
        for begin in range(0, count, 50):
            ids, mask, gold = split.batch(range(begin, min(begin + 50, count)))
            scores = option_scores(Wrapped(model), ids, mask)
            losses.append(float(classification_loss(scores, gold)) * len(gold))
            hits += int((scores.view(len(gold), -1).argmax(-1) == gold).sum())
    loss, score = sum(losses) / count, hits / count
    error = abs(loss - report["exported_dev_loss"]) / loss
    print(f"dev loss {loss:.9g}, export printed {report['exported_dev_loss']:.9g}, relative "
          f"difference {error:.1e}; score {score:.9g}, export printed "
          f"{report['exported_dev_score']:.9g}")
    equal = error <= LOSS_LIMIT and np.isclose(score, report["exported_dev_score"], atol=1e-8)
    return 0 if equal else 1


class Wrapped:
    """What option_scores calls."""

    def __init__(self, model):
        self.model = model

    def forward(self, ids):
        return self.model(ids).logits


if __name__ == "__main__":
    sys.exit(main())
