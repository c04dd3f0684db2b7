#!/usr/bin/env python3
"""Times qzo's step beside the paper's procedure in PyTorch, on one model and task, in one run.

    bench_reference.py MODEL TASK.qzt --qzo build/qzo [--threads N] [--steps N]

The procedure is that of the QZO code: transformers' Llama with every quantized layer decoded to a
full matrix before each product; scales perturbed in place by +eps, -2 eps, +eps with z drawn again
each time from the step's seed; one row per option, padded to the longest of the batch; the update
in place. Here it runs in fp32 like qzo's CPU arithmetic (the paper's fp16 has no fast products on
a CPU). "prompts" gives it qzo's advantage of rows: one row per example, without answer tokens.
Both sides get the same threads; the best step of each counts, because noise only adds.
Needs torch and transformers (tools/requirements-oracle.txt).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, LlamaForCausalLM

import tensor_file
from gptq_numpy import FORMATS, unpack_rows, unpack_zeros


class DecodedLinear(torch.nn.Module):
    """A GPTQ layer as the paper's kernel computes it: W = scale (code - zero), then one product."""

    def __init__(self, tensors, name, checkpoint_format):
        super().__init__()
        codes = unpack_rows(tensors[f"{name}.qweight"].array)  # (in, out)
        zeros = unpack_zeros(tensors[f"{name}.qzeros"].array, checkpoint_format)
        groups = tensors[f"{name}.g_idx"].array
        self.differences = torch.from_numpy((codes - zeros[groups]).astype(np.int8))
        self.scales = torch.from_numpy(tensors[f"{name}.scales"].as_float32().copy())
        self.groups = torch.from_numpy(groups.astype(np.int64))
        self.group_size = codes.shape[0] // self.scales.shape[0]
        self.in_order = bool((np.diff(groups) >= 0).all())

    def weight(self):
        if not self.in_order:
            return self.scales[self.groups] * self.differences
        shape = (self.scales.shape[0], self.group_size, self.scales.shape[1])
        return (self.scales[:, None, :] * self.differences.view(shape)).view(-1, shape[2])

    def forward(self, x):
        return x @ self.weight()


def load_model(folder):
    config = AutoConfig.from_pretrained(folder)
    quantization = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]
    checkpoint_format = quantization.get("checkpoint_format", "gptq")
    assert checkpoint_format in FORMATS and quantization["bits"] == 4
    del config.quantization_config
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        if path.name != "expected.safetensors":
            tensors.update(tensor_file.read(path)[0])
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    layers = []
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and f"{name}.qweight" in tensors:
            parent = model.get_submodule(name.rpartition(".")[0])
            layers.append(DecodedLinear(tensors, name, checkpoint_format))
            setattr(parent, name.rpartition(".")[2], layers[-1])
    state = {name: torch.from_numpy(tensor.as_float32().copy())
             for name, tensor in tensors.items() if name.endswith(".weight")}
    if "lm_head.weight" not in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=False, assign=True)
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config)
    return model.eval(), layers


def read_train(path):
    tensors, metadata = tensor_file.read(path)
    get = lambda name: tensors[f"train.{name}"].array
    tokens, begin, option_begin = get("tokens"), get("token_begin"), get("option_begin")
    examples = []
    for e in range(len(option_begin) - 1):
        options = range(option_begin[e], option_begin[e + 1])
        rows = [tokens[begin[o] : begin[o + 1]] for o in options]
        answers = [int(get("answer_tokens")[o]) for o in options]
        examples.append((rows, answers, int(get("gold")[e])))
    return examples, metadata


def padded(rows, pad):
    """Left padding, as MeZO's collator does."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
        mask[i, width - len(row) :] = 1
    return ids, mask


@torch.inference_mode()
def loss_by_options(model, batch):
    """One padded row per option; cross entropy over length-normalised scores."""
    rows = [row for options, _, _ in batch for row in options]
    lengths = [n for _, counts, _ in batch for n in counts]
    ids, mask = padded(rows, 0)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    log_probs = torch.log_softmax(logits, dim=-1)
    picked = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
    scores = torch.stack([picked[i, -n:].mean() for i, n in enumerate(lengths)])
    return cross_entropy(scores, batch)


@torch.inference_mode()
def loss_by_prompts(model, batch):
    """One padded row per example, where the options are single tokens after one prompt."""
    ids, mask = padded([options[0][:-1] for options, _, _ in batch], 0)
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=1).logits[:, -1].float()
    log_probs = torch.log_softmax(logits, dim=-1)
    scores = torch.cat([log_probs[i, [int(row[-1]) for row in options]]
                        for i, (options, _, _) in enumerate(batch)])
    return cross_entropy(scores, batch)


def cross_entropy(scores, batch):
    at, total = 0, 0.0
    for options, _, gold in batch:
        of = scores[at : at + len(options)]
        total += float(torch.logsumexp(of, 0) - of[gold])
        at += len(options)
    return total / len(batch)


def perturb(layers, seed, factor):
    torch.manual_seed(seed)
    for layer in layers:
        layer.scales.add_(torch.randn(layer.scales.shape), alpha=factor)


def reference_step(model, layers, loss, batch, seed, eps, learning_rate, clip):
    perturb(layers, seed, eps)
    plus = loss(model, batch)
    perturb(layers, seed, -2 * eps)
    minus = loss(model, batch)
    perturb(layers, seed, eps)
    gradient = max(-clip, min(clip, (plus - minus) / (2 * eps)))
    torch.manual_seed(seed)
    for layer in layers:
        layer.scales.sub_(learning_rate * gradient * torch.randn(layer.scales.shape))
        layer.scales.clamp_(min=1e-7)
    return plus, minus


def time_reference(arguments, examples, packed):
    torch.set_num_threads(arguments.threads)
    model, layers = load_model(arguments.model)
    loss = loss_by_prompts if packed else loss_by_options
    seconds = []
    for step in range(arguments.steps):
        first = step * arguments.batch
        batch = [examples[(first + i) % len(examples)] for i in range(arguments.batch)]
        start = time.perf_counter()
        losses = reference_step(model, layers, loss, batch, step, 1e-3, 1e-7, 100.0)
        seconds.append(time.perf_counter() - start)
    return seconds, losses


def time_qzo(arguments):
    """Seconds per step from the run's own timing file, evaluations left out."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep.yaml"
        sweep.write_text(
            f"model: {Path(arguments.model).resolve()}\ntask: {Path(arguments.task).resolve()}\n"
            f"train: {{ steps: {arguments.steps}, batch: {arguments.batch}, eps: 1e-3 }}\n"
            "parameters:\n  learning_rate: { value: 1e-7 }\n")
        subprocess.run([arguments.qzo, "run", str(sweep), "--out", f"{folder}/out", "--threads",
                        str(arguments.threads), "--quiet", "--log-level", "warn"],
                       check=True)
        (timing,) = Path(folder, "out", "timing").glob("*.jsonl")
        last = [json.loads(line) for line in timing.read_text().splitlines()][-1]
        return last["step_seconds"] / arguments.steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--qzo", default="build/qzo")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    examples, _ = read_train(arguments.task)
    ours = time_qzo(arguments)
    result = {"model": str(arguments.model), "threads": arguments.threads,
              "batch": arguments.batch, "torch": torch.__version__,
              "qzo_seconds_per_step": ours}
    single = all(n == 1 for _, counts, _ in examples for n in counts)
    for name, packed in (("padded_options", False), ("prompts", True)):
        if packed and not single:
            continue
        seconds, losses = time_reference(arguments, examples, packed)
        result[name] = {"seconds_per_step": min(seconds), "ratio": min(seconds) / ours,
                        "last_losses": losses}
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
