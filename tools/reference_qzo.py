#!/usr/bin/env python3
"""QZO on a small model in PyTorch, from the method's definition: MODEL TASK [options].

It shares no code with `qzo` and draws other noise: what may be compared is how well it learns.
The masters are fp32 and never perturbed in place; scales = max(master - lr clip(d) z / samples,
1e-7) once per step. Needs requirements-oracle.txt.
"""
import argparse
from pathlib import Path

import numpy as np
import torch

from llama_torch import Llama, Split, accuracy, classification_loss, option_scores

CLIP = 100.0
FLOOR = 1e-7


def batches(count, size, seed):
    """Shuffled epochs without replacement; a batch may span two of them."""
    draw, queue = np.random.default_rng(seed), []
    while True:
        while len(queue) < size:
            queue += list(draw.permutation(count))
        yield queue[:size]
        queue = queue[size:]


def loss_at(model, scales, batch):
    model.set_flat_scales(scales)
    ids, mask, gold = batch
    return float(classification_loss(option_scores(model, ids, mask), gold))


def train(model, split, steps, learning_rate, eps, samples, batch_size, seed):
    masters = model.flat_scales().clone()
    noise = torch.Generator().manual_seed(seed)
    largest = 0.0
    draw = batches(split.count(), batch_size, seed)
    with torch.no_grad():
        for _ in range(steps):
            batch = split.batch(next(draw))
            update = torch.zeros_like(masters)
            for _ in range(samples):
                z = torch.randn(masters.shape, generator=noise, dtype=masters.dtype)
                plus = loss_at(model, masters + eps * z, batch)
                minus = loss_at(model, masters - eps * z, batch)
                gradient = (plus - minus) / (2 * eps)
                largest = max(largest, abs(gradient))
                update += learning_rate / samples * min(max(gradient, -CLIP), CLIP) * z
            masters = (masters - update).clamp(min=FLOOR)
    model.set_flat_scales(masters)
    return largest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--eps", type=float, default=1e-3)
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-5, 3e-5, 1e-4, 3e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    train_split, test_split = Split(given.task, "train"), Split(given.task, "test")
    print(f"before: test accuracy {accuracy(Llama(given.model), test_split):.3f}")
    for learning_rate in given.lr:
        for seed in given.seeds:
            model = Llama(given.model)
            largest = train(model, train_split, given.steps, learning_rate, given.eps,
                            given.samples, given.batch, seed)
            score = accuracy(model, test_split)
            print(f"lr {learning_rate:g} seed {seed}: test accuracy {score:.3f}, "
                  f"largest |gradient| {largest:.1f}", flush=True)


if __name__ == "__main__":
    main()
