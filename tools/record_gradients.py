#!/usr/bin/env python3
"""Records what the C tests compare the estimator with: MODEL TASK OUT.safetensors.

Everything is computed in float64 (llama_torch.py) over the first training examples of the task.
Flat arrays of scales are in canonical order: modules by layer, then q, k, v, o, gate, up, down;
within a module element = output row * groups + group.

    masters               F32 (scales)             the scales of the file
    examples              I32 (batches, 16)        indices into the training split
    loss                  F64 (batches)            classification loss at the masters
    scores                F64 (batches, 16, 2)     mean log-probability of each option's answer
    gradient              F64 (batches, scales)    of the loss, by autograd
    residual_rms, _max    F64 (batches, epsilons)  of d - z . gradient over 1000 normal z, where
                                                   d = (L(s + eps z) - L(s - eps z)) / (2 eps)
    residual_eps          F64 (epsilons)
    z                     F32 (8, scales)          8 perturbations
    eps                   F32 (2)                  1e-3 and 0.05 (almost half are negative then)
    loss_plus, loss_minus F64 (2, 8)               of batch 0 at fp32(masters +- eps z)

The residual is the estimator's own error, in eps^2: what a C test may add to its rounding. It is
measured, since a proven bound on the third derivative along z would be of no use here (orders of
magnitude too large).
"""
import argparse
from pathlib import Path

import numpy as np
import torch

import tensor_file
from llama_torch import Llama, Split, classification_loss, option_scores

BATCH = 16
BATCHES = 2
PERTURBATIONS = 8
EPSILONS = np.array([1e-3, 0.05], np.float32)
RESIDUAL_EPSILONS = (1e-3, 1e-4)
RESIDUAL_DRAWS = 1000


def loss_at(model, flat, batch):
    ids, mask, gold = batch
    with torch.no_grad():
        model.set_flat_scales(flat)
        return float(classification_loss(option_scores(model, ids, mask), gold))


def clean(model, masters, batch):
    """(loss, scores, gradient)."""
    ids, mask, gold = batch
    flat = masters.clone().requires_grad_()
    model.set_flat_scales(flat)
    scores = option_scores(model, ids, mask)
    loss = classification_loss(scores, gold)
    loss.backward()
    return loss.item(), scores.detach().view(len(gold), -1).numpy(), flat.grad.numpy()


def estimate(model, masters, z, eps, batch):
    plus = loss_at(model, masters + eps * z, batch)
    return (plus - loss_at(model, masters - eps * z, batch)) / (2 * eps)


def residuals(model, masters, gradient, batch, seed):
    """(rms, max) for each of RESIDUAL_EPSILONS."""
    draw = np.random.default_rng(seed)
    found = []
    for eps in RESIDUAL_EPSILONS:
        errors = []
        for _ in range(RESIDUAL_DRAWS):
            z = torch.from_numpy(draw.normal(size=len(masters)))
            errors.append(estimate(model, masters, z, eps, batch) - float(z.numpy() @ gradient))
        found.append((np.sqrt(np.mean(np.square(errors))), np.max(np.abs(errors))))
    return found


def perturbed_losses(model, masters, z, batch):
    """(2, epsilons, 8): the scales are rounded to fp32 once, as fma(+-eps, z, master) does."""
    losses = np.empty((2, len(EPSILONS), len(z)))
    for i, eps in enumerate(EPSILONS.astype(np.float64)):
        for j, direction in enumerate(torch.from_numpy(z).double()):
            for k, sign in enumerate((1, -1)):
                scales = (masters + sign * eps * direction).float().double()
                losses[k, i, j] = loss_at(model, scales, batch)
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, split = Llama(given.model, torch.float64), Split(given.task, "train")
    masters = model.flat_scales().clone()
    examples = np.arange(BATCHES * BATCH, dtype=np.int32).reshape(BATCHES, BATCH)
    batches = [split.batch(row) for row in examples]
    losses, scores, gradients = zip(*(clean(model, masters, batch) for batch in batches))
    found = np.array([residuals(model, masters, gradient, batch, seed)
                      for seed, (gradient, batch) in enumerate(zip(gradients, batches))])
    z = np.random.default_rng(0).normal(size=(PERTURBATIONS, len(masters))).astype(np.float32)
    plus, minus = perturbed_losses(model, masters, z, batches[0])
    tensor_file.write(given.out, {
        "masters": masters.numpy().astype(np.float32), "examples": examples,
        "loss": np.array(losses), "scores": np.array(scores), "gradient": np.array(gradients),
        "residual_rms": found[:, :, 0].copy(), "residual_max": found[:, :, 1].copy(),
        "residual_eps": np.array(RESIDUAL_EPSILONS), "z": z, "eps": EPSILONS,
        "loss_plus": plus, "loss_minus": minus,
    }, {"arithmetic": "float64", "torch": torch.__version__, "draws": str(RESIDUAL_DRAWS)})
    print(f"loss {losses}, |gradient| {[float(np.linalg.norm(g)) for g in gradients]}")
    print(f"residual rms and max for eps {RESIDUAL_EPSILONS}:\n{found}")
    print(f"plus\n{plus}\nminus\n{minus}")


if __name__ == "__main__":
    main()
