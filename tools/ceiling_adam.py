#!/usr/bin/env python3
"""Adam with exact gradients on the scales that QZO trains: MODEL TASK [options].

It bounds what training the scales alone can reach, which no zeroth-order method should be expected
to pass. The learning rate is chosen by the loss on dev, the test split is read once per seed.
"""
import argparse
from pathlib import Path

import torch

from llama_torch import Llama, Split, accuracy, classification_loss, option_scores
from reference_qzo import FLOOR, batches


def mean_loss(model, split):
    with torch.no_grad():
        ids, mask, gold = split.batch(range(split.count()))
        return float(classification_loss(option_scores(model, ids, mask), gold))


def train(model, split, steps, learning_rate, batch_size, seed):
    masters = model.flat_scales().clone().requires_grad_()
    optimizer = torch.optim.Adam([masters], lr=learning_rate)
    draw = batches(split.count(), batch_size, seed)
    for _ in range(steps):
        ids, mask, gold = split.batch(next(draw))
        model.set_flat_scales(masters)
        loss = classification_loss(option_scores(model, ids, mask), gold)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            masters.clamp_(min=FLOOR)
    model.set_flat_scales(masters.detach())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    splits = {name: Split(given.task, name) for name in ("train", "dev", "test")}
    scores = []
    for seed in given.seeds:
        tried = []
        for learning_rate in given.lr:
            model = Llama(given.model)
            train(model, splits["train"], given.steps, learning_rate, given.batch, seed)
            tried.append((mean_loss(model, splits["dev"]), learning_rate, model))
        dev_loss, learning_rate, model = min(tried, key=lambda entry: entry[:2])
        scores.append(accuracy(model, splits["test"]))
        print(f"seed {seed}: lr {learning_rate:g}, dev loss {dev_loss:.5f}, test accuracy "
              f"{scores[-1]:.4f}", flush=True)
    mean = sum(scores) / len(scores)
    print(f"mean {mean:.4f}, least {min(scores):.4f}, most {max(scores):.4f}, "
          f"before {accuracy(Llama(given.model), splits['test']):.4f}")


if __name__ == "__main__":
    main()
