#!/usr/bin/env python3
"""Records slopes of the loss along fixed directions, tensor by tensor: MODEL TASK OUT.safetensors.

Computed by autograd in float64 (llama_torch.py) over the first 16 training examples of the task,
for every tensor that a group may train: unquantized ones, and weights of linear layers; with
--lora RANK ALPHA TARGETS the A and B of adapters, whose scores must be those of PEFT too. A
direction is v[i] = (2654435761 i mod 2^32) / 2^31 - 1 over the elements in row-major order, which C
computes with the same bits; A is fp32(0.5 v[7 i + 3]), B fp32(0.2 v[7 i + 3]).

    loss        F64 (1)
    slope.NAME  F64 (1)    v . gradient of NAME
"""
import argparse
from pathlib import Path

import numpy as np
import torch

import tensor_file
from llama_torch import AdaptedLlama, Llama, Split, classification_loss, option_scores

BATCH = 16
PEFT_LIMIT = 1e-5  # of a score; transformers computes norms and angles in float32


def direction_at(index):
    words = (index.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    return words.astype(np.float64) / 2**31 - 1


def direction(shape):
    return torch.from_numpy(direction_at(np.arange(int(np.prod(shape)))).reshape(shape))


def first_values(shape, size):
    index = 7 * np.arange(int(np.prod(shape))) + 3
    values = (size * direction_at(index)).astype(np.float32).astype(np.float64)
    return torch.from_numpy(values.reshape(shape))


def peft_model(model, rank, alpha, targets):
    """The same model in transformers, adapted by PEFT."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {key: value for key, value in model.config.items()
              if key not in ("quantization_config", "architectures", "torch_dtype")}
    base = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager")).double()
    state = {**model.dense, **{f"{name}.weight": model.weight(name) for name in model.modules()}}
    missing, unexpected = base.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    adapted = get_peft_model(base, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets,
                                              task_type="CAUSAL_LM"))
    tensors = {name: tensor.detach() for name, tensor in model.adapter_tensors().items()}
    result = set_peft_model_state_dict(adapted, tensors)
    assert not result.unexpected_keys, result.unexpected_keys
    return adapted


class Wrapped:
    """What option_scores calls."""

    def __init__(self, model):
        self.model = model

    def forward(self, ids):
        return self.model(ids).logits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lora", nargs="+", metavar="RANK ALPHA TARGET",
                        help="rank, alpha and names of linear layers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    split = Split(given.task, "train")
    ids, mask, gold = split.batch(np.arange(BATCH))
    versions = {"arithmetic": "float64", "torch": torch.__version__}
    if given.lora:
        rank, alpha, targets = int(given.lora[0]), float(given.lora[1]), given.lora[2:]
        model = AdaptedLlama(given.model, torch.float64, rank, alpha, targets)
        tensors = model.adapter_tensors()
        for name, tensor in tensors.items():
            tensor.copy_(first_values(tensor.shape, 0.5 if "lora_A" in name else 0.2))
    else:
        model = Llama(given.model, torch.float64)
        tensors = model.dense
    for tensor in tensors.values():
        tensor.requires_grad_()
    scores = option_scores(model, ids, mask)
    loss = classification_loss(scores, gold)
    loss.backward()
    if given.lora:
        import peft

        versions["peft"] = peft.__version__
        with torch.no_grad():
            theirs = option_scores(Wrapped(peft_model(model, rank, alpha, targets)), ids, mask)
        error = float((theirs - scores).detach().abs().max())
        print(f"scores of PEFT {peft.__version__}: largest difference {error:.2g}")
        assert error <= PEFT_LIMIT, error
    out = {"loss": np.array([loss.item()])}
    for name, tensor in tensors.items():
        slope = float((direction(tensor.shape) * tensor.grad).sum())
        out[f"slope.{name}"] = np.array([slope])
        print(f"{name} {slope:.6g}")
    tensor_file.write(given.out, out, versions)


if __name__ == "__main__":
    main()
