#!/usr/bin/env python3
"""Makes tests/fixtures/arch: an untrained model of each architecture, OUT [--only NAME ...].

    OUT/NAME/{config.json, model.safetensors, expected.safetensors}

Sizes are the smallest that reach every code path: two layers, several heads, windows, caps and
rotary scalings that change what a dozen tokens see. Weights are fp16, so that every reader starts
from the same numbers; where `gptq` stands the linears are GPTQ int4 beside them, fused and
transposed ones as GPTQModel stores them: (in, out) packed along the inputs whatever the module was.
The expected logits are those of transformers in fp32, quantized weights decoded by gptq_numpy.py;
beside them stands how the ids go on greedily.
Everything is seeded. Needs requirements-oracle.txt.
"""
import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import gptq_numpy
import quantize_gptq
import tensor_file

VOCAB, LENGTH = 64, 20  # the vocabulary of tiny-task.qzt
LLAMA = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=VOCAB, max_position_embeddings=64)
OPT = dict(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
           vocab_size=VOCAB, max_position_embeddings=64, word_embed_proj_dim=32)
GPT2 = dict(n_embd=24, n_layer=2, n_head=4, n_positions=64, vocab_size=VOCAB)
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
               "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32}

# name: model_type, settings, then "old_rope" (keys as transformers 4 wrote them), "gptq" (settings
# of the quantizer), "stripped" (names without the base, as checkpoints without a head have them).
# The place in this list is the seed: new ones come last.
ARCHS = {
    "llama3-rope-tied-biases": ("llama", dict(
        LLAMA, head_dim=16, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True,
        attention_bias=True, mlp_bias=True), {}),
    "llama-linear-rope": ("llama", dict(
        LLAMA, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.5},
        tie_word_embeddings=False), {"old_rope": True}),
    "opt": ("opt", OPT, {}),
    "opt-projected-post-norm": ("opt", dict(
        OPT, word_embed_proj_dim=16, do_layer_norm_before=False), {}),
    "opt-gptq": ("opt", OPT, {"gptq": dict(group_size=32, sym=False)}),
    "gpt2": ("gpt2", GPT2, {"stripped": True}),
    "gpt2-gptq": ("gpt2", dict(GPT2, n_embd=32, n_inner=64),
                  {"gptq": dict(group_size=16, desc_act=True)}),
    "mistral": ("mistral", dict(LLAMA, sliding_window=5), {}),
    "qwen2": ("qwen2", dict(LLAMA, use_sliding_window=True, max_window_layers=1, sliding_window=7,
                            tie_word_embeddings=True), {}),
    "qwen3-gptq": ("qwen3", dict(LLAMA, head_dim=16), {"gptq": dict(group_size=-1, sym=False)}),
    "phi3": ("phi3", dict(LLAMA, sliding_window=9, pad_token_id=0), {}),
    "phi3-gptq": ("phi3", dict(LLAMA, pad_token_id=0), {"gptq": dict(group_size=32, sym=False)}),
    "gemma2": ("gemma2", dict(LLAMA, head_dim=8, query_pre_attn_scalar=12, sliding_window=6,
                              attn_logit_softcapping=4.0, final_logit_softcapping=3.0), {}),
    "opt-gelu": ("opt", dict(OPT, hidden_size=16, word_embed_proj_dim=16, ffn_dim=32,
                             activation_function="gelu"), {}),
}


def randomize(model, seed):
    """fp16 numbers of a trained model's spread; gains near what leaves a norm alone."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = draw.normal(size=parameter.shape)
            if parameter.ndim == 1:
                base = parameter.mean().item() if name.endswith("weight") else 0.0
                values = base + 0.2 * values
            else:
                values *= 0.9 / min(parameter.shape) ** 0.5
            parameter.copy_(torch.from_numpy(values.astype(np.float16).astype(np.float32)))


def save(model, folder, old_rope=False, stripped=False):
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = [type(model).__name__]
    config["dtype"] = "float16"
    if old_rope:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    base = f"{model.base_model_prefix}." if stripped else ""
    tensors = {name.removeprefix(base): tensor_file.tensor_of(
        parameter.detach().numpy().astype(np.float16))
        for name, parameter in model.named_parameters()}
    tensor_file.write_folder(folder, tensors)


def load_decoded(model, folder, settings):
    """Puts the decoded weights of a quantized folder into the model."""
    tensors = tensor_file.read_folder(folder)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for module in gptq_numpy.modules_of(tensors):
            parts = gptq_numpy.module_tensors(tensors, module, settings)
            weight = torch.from_numpy(gptq_numpy.decode(parts, settings))
            target = parameters[f"{module}.weight"]
            is_conv = type(model.get_submodule(module)).__name__ == "Conv1D"
            target.copy_(weight.T if is_conv else weight)


def greedy(model, ids):
    """The ids and as many more as text, none of them decided by less than rounding can do."""
    rows = ids.tolist()
    with torch.no_grad():
        for _ in range(LENGTH):
            best, second = model(torch.tensor([rows])).logits[0, -1].topk(2).values.tolist()
            assert best - second > 1e-3, f"the two best tokens are {best} and {second}"
            rows.append(int(model(torch.tensor([rows])).logits[0, -1].argmax()))
    return " ".join(map(str, rows))


def make(out, name, seed):
    model_type, sizes, how = ARCHS[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomize(model, seed)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save(model, folder, how.get("old_rope", False), how.get("stripped", False))
    if "gptq" in how:
        settings = quantize_gptq.settings_of(**how["gptq"])
        with tempfile.TemporaryDirectory() as scratch:
            source = shutil.move(folder, Path(scratch) / name)
            quantize_gptq.quantize_folder(source, folder, settings)
        load_decoded(model, folder, settings)
    ids = np.random.default_rng(seed).integers(0, VOCAB, LENGTH)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    tensor_file.write(folder / "expected.safetensors",
                      {"ids": ids.astype(np.int32), "logits": logits},
                      {"logits": "transformers, float32", "greedy": greedy(model, ids)})
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name}: {size} bytes, logits up to {np.abs(logits).max():.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=ARCHS, default=list(ARCHS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, name in enumerate(ARCHS, start=1):
        if name in given.only:
            make(given.out, name, seed)


if __name__ == "__main__":
    main()
