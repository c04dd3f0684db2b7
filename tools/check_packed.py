#!/usr/bin/env python3
"""Loads model folders that `qzo export` wrote with the libraries that own their formats, and
compares the dev loss with what export printed: check_packed.py TASK NAME...; each NAME is a folder
beside NAME.json, the output of `qzo export --json`.

compressed-tensors: transformers opens the folder itself. AWQ, HQQ: GPTQModel and hqq decode its
tensors, since their own products are in 16 bits or want a GPU. Exit code 0: equal; 1: a difference;
77: a package is missing.
"""
import json
import os
import sys
from pathlib import Path

import command_line
from check_quantize import dev_loss

LOSS_LIMIT = 1e-5  # relative; both sides are fp32 sums of some 100 products
SKIPPED = 77


def awq_weight(parts, settings):
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    return dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].float(),
                           settings["bits"], settings["group_size"]).T


def hqq_weight(parts, settings):
    import torch
    from hqq.core.quantize import HQQLinear, Quantizer

    layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
    layer.load_state_dict(parts)
    meta = {**layer.meta, "compute_dtype": torch.float32}
    return Quantizer.dequantize(layer.W_q, {
        **meta, "scale": meta["scale"].float(), "zero": meta["zero"].float()})


def load(folder):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = json.loads((folder / "config.json").read_text())
    settings = config["quantization_config"]
    method = settings["quant_method"]
    if method == "compressed-tensors":
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    for key in ("quantization_config", "architectures", "torch_dtype"):
        config.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
    modules, state = {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        module, part = name.rsplit(".", 1)
        if "_proj." in name:
            modules.setdefault(module, {})[part] = tensor
        else:
            state[name] = tensor.float()
    decode = {"awq": awq_weight, "hqq": hqq_weight}[method]
    state.update({f"{name}.weight": decode(parts, settings) for name, parts in modules.items()})
    model.load_state_dict(state)
    return model


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    try:
        import compressed_tensors  # noqa: F401
        import gptqmodel  # noqa: F401
        import hqq  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED
    failures = 0
    for folder in given.folders:
        printed = json.loads(folder.with_name(folder.name + ".json").read_text())
        loss = dev_loss(load(folder), given.task)
        error = abs(loss - printed["exported_dev_loss"]) / loss
        failures += not error <= LOSS_LIMIT
        print(f"{folder.name}: dev loss {loss:.9g}, export printed "
              f"{printed['exported_dev_loss']:.9g}, relative difference {error:.1e}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
