#!/usr/bin/env python3
"""Records what bitsandbytes makes of weights on a CPU: record_bnb_codes.py OUT.

    OUT/bnb-codes.safetensors   TYPE.weight (24, 128), TYPE.KIND.codes and TYPE.KIND.absmax

Blocks of 64 of every type that a checkpoint has, quantized by the library's own quantize_4bit to
NF4 and FP4: usual weights, a block of zeros, blocks of one value, the smallest and largest numbers
of the type, values on and beside the bounds between two levels. Needs requirements-oracle.txt.
"""
import argparse
from pathlib import Path

import numpy as np
import torch

import tensor_file

ROWS, COLUMNS, BLOCK = 24, 128, 64
TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def array_of(tensor):
    if tensor.dtype == torch.bfloat16:
        return tensor_file.Tensor("BF16", tensor.view(torch.uint16).numpy())
    return tensor.numpy()


def drawn(dtype, bounds):
    """(ROWS, COLUMNS); the rows' scales go from tiny to usual to large."""
    draw = np.random.default_rng(7)
    scales = 10.0 ** draw.uniform(-3, 0.5, (ROWS, 1))
    weight = torch.from_numpy((draw.normal(size=(ROWS, COLUMNS)) * scales).astype(np.float32))
    blocks = weight.view(-1, BLOCK)
    small, large = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    blocks[0] = 0.0
    blocks[1] = 0.25
    blocks[2] = -3.0
    blocks[3] = torch.linspace(-1, 1, BLOCK) * small
    blocks[4] = torch.linspace(-1, 1, BLOCK) * large
    blocks[5] = 0.0
    blocks[5, 7] = small / 4  # not a normal number
    for block, shift in ((6, 0.0), (7, 1e-7), (8, -1e-7)):  # absmax 1: the bounds themselves
        blocks[block, :15] = bounds + shift
        blocks[block, 15:] = torch.linspace(-1, 1, BLOCK - 15)
    for block, scale in ((9, 0.7), (10, 3.3), (11, 1e-4)):
        blocks[block, :15] = bounds * scale
        blocks[block, 15:] = torch.linspace(-scale, scale, BLOCK - 15)
    return weight.to(dtype)


def main():
    import bitsandbytes
    import bitsandbytes.functional as bnb

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cpu, tensors = torch.device("cpu"), {}
    for name, dtype in TYPES.items():
        levels = bnb.get_4bit_type("nf4", device=cpu)
        weight = drawn(dtype, (levels[1:] + levels[:-1]) / 2)
        tensors[f"{name}.weight"] = array_of(weight)
        for kind in ("nf4", "fp4"):
            codes, state = bnb.quantize_4bit(weight, blocksize=BLOCK, quant_type=kind)
            assert state.absmax.dtype == torch.float32
            tensors[f"{name}.{kind}.codes"] = codes.numpy()
            tensors[f"{name}.{kind}.absmax"] = state.absmax.numpy()
            tensors[f"{kind}.quant_map"] = state.code.numpy()
    notes = {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__}
    tensor_file.write(given.out / "bnb-codes.safetensors", tensors, notes)


if __name__ == "__main__":
    main()
