"""A Llama forward in PyTorch over dense or GPTQ weights, differentiable in the scales.

transformers computes RMSNorm and the rotary angles in float32 whatever the model's type; expected
values in float64 need a forward that does not. Rows are padded on the right: attention is causal,
so the padding changes nothing before it.
"""
import json
from pathlib import Path

import numpy as np
import torch

import gptq_numpy
import tensor_file

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


class Llama:
    """One model folder. `scales` maps a module to its (out, groups) tensor; replace them freely."""

    def __init__(self, folder, dtype=torch.float32):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.dtype = dtype
        tensors = tensor_file.read_folder(folder)
        quantization = self.config.get("quantization_config", {})
        self.dense, self.offsets, self.groups, self.scales = {}, {}, {}, {}
        for module in gptq_numpy.modules_of(tensors):
            parts = gptq_numpy.module_tensors(tensors, module, quantization)
            offsets = gptq_numpy.code_offsets(parts, quantization["checkpoint_format"],
                                              quantization["bits"])
            self.offsets[module] = torch.from_numpy(offsets).to(dtype)
            self.groups[module] = torch.from_numpy(parts["g_idx"].astype(np.int64))
            scales = np.ascontiguousarray(parts["scales"].T.astype(np.float32))
            self.scales[module] = torch.from_numpy(scales).to(dtype)
        for name, tensor in tensors.items():
            if name.endswith((".weight", ".bias")):
                self.dense[name] = torch.from_numpy(tensor.as_float32()).to(dtype)

    def modules(self):
        """Quantized modules in canonical order: by layer, then q, k, v, o, gate, up, down."""
        names = [f"model.layers.{layer}.{linear}"
                 for layer in range(self.config["num_hidden_layers"]) for linear in LINEARS]
        return [name for name in names if name in self.offsets]

    def flat_scales(self):
        """All scales; within a module element = output row * groups + group."""
        return torch.cat([self.scales[name].reshape(-1) for name in self.modules()])

    def set_flat_scales(self, flat):
        """Differentiable: the scales become views of flat."""
        begin = 0
        for name in self.modules():
            shape = self.scales[name].shape
            self.scales[name] = flat[begin : begin + shape.numel()].reshape(shape)
            begin += shape.numel()

    def weight(self, module):
        if module in self.offsets:
            return self.offsets[module] * self.scales[module][:, self.groups[module]]
        return self.dense[module + ".weight"]

    def linear(self, x, module):
        return torch.nn.functional.linear(x, self.weight(module),
                                          self.dense.get(module + ".bias"))

    def norm(self, x, name):
        mean = (x * x).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean + self.config["rms_norm_eps"]) * self.dense[name + ".weight"]

    def rotary(self, length, size):
        exponent = torch.arange(0, size, 2, dtype=self.dtype) / size
        angles = torch.arange(length, dtype=self.dtype)[:, None] / (self.rope_theta() ** exponent)
        return torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()

    def rope_theta(self):
        parameters = self.config.get("rope_parameters") or {}
        return self.config.get("rope_theta", parameters.get("rope_theta", 10000.0))

    def attention(self, x, prefix):
        rows, length, hidden = x.shape
        heads, shared = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        size = self.config.get("head_dim") or hidden // heads
        cos, sin = self.rotary(length, size)

        def turned(y):
            swapped = torch.cat((-y[..., size // 2 :], y[..., : size // 2]), -1)
            return y * cos + swapped * sin

        def split(name, count):
            return self.linear(x, f"{prefix}.{name}_proj").view(rows, length, count, size
                                                                ).transpose(1, 2)

        query = turned(split("q", heads))
        key = turned(split("k", shared)).repeat_interleave(heads // shared, 1)
        value = split("v", shared).repeat_interleave(heads // shared, 1)
        scores = query @ key.transpose(2, 3) / size**0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ value
        return self.linear(mixed.transpose(1, 2).reshape(rows, length, heads * size),
                           f"{prefix}.o_proj")

    def forward(self, ids):
        """Logits (rows, length, vocabulary) of ids (rows, length)."""
        x = self.dense["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            x = x + self.attention(self.norm(x, f"{prefix}.input_layernorm"),
                                   f"{prefix}.self_attn")
            y = self.norm(x, f"{prefix}.post_attention_layernorm")
            gate = torch.nn.functional.silu(self.linear(y, f"{prefix}.mlp.gate_proj"))
            x = x + self.linear(gate * self.linear(y, f"{prefix}.mlp.up_proj"),
                                f"{prefix}.mlp.down_proj")
        tied = self.config.get("tie_word_embeddings", False)
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        return torch.nn.functional.linear(self.norm(x, "model.norm"), self.dense[head])


class AdaptedLlama(Llama):
    """A Llama with adapters beside the linear layers whose last names are among `targets`: A drawn
    as PEFT draws it, B 0."""

    def __init__(self, folder, dtype=torch.float32, rank=8, alpha=16, targets=("q_proj", "v_proj")):
        super().__init__(folder, dtype)
        self.adapter_scale, self.adapters = alpha / rank, {}
        for layer in range(self.config["num_hidden_layers"]):
            for linear in LINEARS:
                module = f"model.layers.{layer}.{linear}"
                if linear.split(".")[-1] in targets:
                    outputs, inputs = self.weight(module).shape
                    a = torch.empty(rank, inputs, dtype=dtype)
                    torch.nn.init.kaiming_uniform_(a, a=5**0.5)
                    self.adapters[module] = (a, torch.zeros(outputs, rank, dtype=dtype))

    def adapter_tensors(self):
        """A and B by PEFT's names."""
        return {f"base_model.model.{module}.lora_{part}.weight": tensor
                for module, pair in self.adapters.items() for part, tensor in zip("AB", pair)}

    def linear(self, x, module):
        y = super().linear(x, module)
        if module not in self.adapters:
            return y
        a, b = self.adapters[module]
        return y + self.adapter_scale * ((x @ a.T) @ b.T)


class Split:
    """One split of a prepared task (*.qzt)."""

    def __init__(self, path, name):
        tensors, self.metadata = tensor_file.read(path)
        self.option_begin, self.token_begin, self.answer_tokens, self.gold, self.tokens = (
            tensors[f"{name}.{part}"].array
            for part in ("option_begin", "token_begin", "answer_tokens", "gold", "tokens"))

    def count(self):
        return len(self.gold)

    def options(self, example):
        """[(ids, answer tokens)] of one example."""
        return [(self.tokens[self.token_begin[o] : self.token_begin[o + 1]],
                 int(self.answer_tokens[o]))
                for o in range(self.option_begin[example], self.option_begin[example + 1])]

    def batch(self, examples):
        """ids (options, longest) padded with 0, targets' mask (options, longest - 1), gold."""
        rows = [option for example in examples for option in self.options(example)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
        for row, (tokens, answer) in enumerate(rows):
            ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
            mask[row, len(tokens) - 1 - answer : len(tokens) - 1] = True
        return ids, mask, torch.from_numpy(self.gold[list(examples)].astype(np.int64))


def option_scores(model, ids, mask):
    """Mean log-probability of each option's answer tokens."""
    log_probs = model.forward(ids)[:, :-1].log_softmax(-1)
    picked = log_probs.gather(-1, ids[:, 1:, None])[..., 0]
    return (picked * mask).sum(-1) / mask.sum(-1)


def classification_loss(scores, gold):
    """Mean over examples of the cross-entropy over options; every example has as many options."""
    return torch.nn.functional.cross_entropy(scores.view(len(gold), -1), gold)


def accuracy(model, split, chunk=256):
    right = 0
    with torch.no_grad():
        for begin in range(0, split.count(), chunk):
            examples = range(begin, min(begin + chunk, split.count()))
            ids, mask, gold = split.batch(examples)
            scores = option_scores(model, ids, mask).view(len(gold), -1)
            right += int((scores.argmax(-1) == gold).sum())
    return right / split.count()
