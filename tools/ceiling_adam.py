#!/usr/bin/env python3
"""Adam with exact gradients on what QZO trains: MODEL TASK [options].

--train scales, lora (adapters of q and v, MeZO's and PEFT's choice) or two-phases (adapters in the
first half of the steps, then the scales of the layers without them). It bounds what training these
values can reach, which no zeroth-order method should be expected to pass. The learning rate is
chosen by the loss on dev, the test split is read once per seed.
"""
import argparse
from pathlib import Path

import torch

from llama_torch import AdaptedLlama, Llama, Split, accuracy, classification_loss, option_scores
from reference_qzo import FLOOR, batches


def mean_loss(model, split):
    with torch.no_grad():
        ids, mask, gold = split.batch(range(split.count()))
        return float(classification_loss(option_scores(model, ids, mask), gold))


def step_on(tensors, model, split, steps, learning_rate, draw, before=None, after=None):
    """Adam on the tensors; `before` each forward pass, `after` each update."""
    optimizer = torch.optim.Adam(tensors, lr=learning_rate)
    for _ in range(steps):
        ids, mask, gold = split.batch(next(draw))
        if before:
            before()
        loss = classification_loss(option_scores(model, ids, mask), gold)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after:
            after()


def train_scales(model, split, steps, learning_rate, draw, without=()):
    """On all scales but those of the modules `without`."""
    names = [name for name in model.modules() if name not in without]
    masters = [model.scales[name].clone().requires_grad_() for name in names]

    def use():
        model.scales.update(zip(names, masters))

    def bound():
        with torch.no_grad():
            for master in masters:
                master.clamp_(min=FLOOR)

    step_on(masters, model, split, steps, learning_rate, draw, use, bound)
    model.scales.update(zip(names, (master.detach() for master in masters)))


def train_adapters(model, split, steps, learning_rate, draw):
    tensors = list(model.adapter_tensors().values())
    for tensor in tensors:
        tensor.requires_grad_()
    step_on(tensors, model, split, steps, learning_rate, draw)
    for tensor in tensors:
        tensor.requires_grad_(False)


def trained(given, split, learning_rate, seed):
    """A model after its steps; --lr has the rates of adapters where there are two phases."""
    torch.manual_seed(seed)
    draw = batches(split.count(), given.batch, seed)
    if given.train == "scales":
        model = Llama(given.model)
        train_scales(model, split, given.steps, learning_rate, draw)
        return model
    model = AdaptedLlama(given.model, rank=given.rank, alpha=given.alpha)
    steps = given.steps if given.train == "lora" else given.steps // 2
    train_adapters(model, split, steps, learning_rate, draw)
    if given.train == "two-phases":
        train_scales(model, split, given.steps - steps, given.scales_lr, draw, model.adapters)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", choices=("scales", "lora", "two-phases"), default="scales")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--scales-lr", type=float, default=1e-3, help="of the second phase")
    given = parser.parse_args()
    torch.set_num_threads(1)
    splits = {name: Split(given.task, name) for name in ("train", "dev", "test")}
    scores = []
    for seed in given.seeds:
        tried = []
        for learning_rate in given.lr:
            model = trained(given, splits["train"], learning_rate, seed)
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
