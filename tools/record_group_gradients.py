#!/usr/bin/env python3
"""Records slopes of the loss along fixed directions, tensor by tensor: MODEL TASK OUT.safetensors.

Computed by autograd in float64 (llama_torch.py) over the first 16 training examples of the task,
for every tensor that a group may train: unquantized ones, and weights of linear layers. A direction
is v[i] = (2654435761 i mod 2^32) / 2^31 - 1 over the elements in row-major order, which C computes
with the same bits.

    loss        F64 (1)
    slope.NAME  F64 (1)    v . gradient of NAME
"""
import argparse
from pathlib import Path

import numpy as np
import torch

import tensor_file
from llama_torch import Llama, Split, classification_loss, option_scores

BATCH = 16


def direction(shape):
    count = int(np.prod(shape))
    words = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    return torch.from_numpy((words.astype(np.float64) / 2**31 - 1).reshape(shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, split = Llama(given.model, torch.float64), Split(given.task, "train")
    ids, mask, gold = split.batch(np.arange(BATCH))
    for tensor in model.dense.values():
        tensor.requires_grad_()
    loss = classification_loss(option_scores(model, ids, mask), gold)
    loss.backward()
    out = {"loss": np.array([loss.item()])}
    for name, tensor in model.dense.items():
        slope = float((direction(tensor.shape) * tensor.grad).sum())
        out[f"slope.{name}"] = np.array([slope])
        print(f"{name} {slope:.6g}")
    tensor_file.write(given.out, out, {"arithmetic": "float64", "torch": torch.__version__})


if __name__ == "__main__":
    main()
