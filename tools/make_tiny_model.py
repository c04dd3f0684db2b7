#!/usr/bin/env python3
"""Makes the tiny models of tests/fixtures: make_tiny_model.py OUT [--only tiny|tasks|variants].

    OUT/tiny-llama-fp32     trained here from nothing on the text of tiny_language.py
    OUT/tiny-llama          the same as GPTQ int4, symmetric, groups of 32: 2560 scales
    OUT/tiny-task.qzt       the task on its text; OUT/tiny-task-shuffled.qzt: its labels permuted;
                            OUT/tiny-task-shots.qzt: with demonstrations
    OUT/gptq/VARIANT        untrained models, one for each kind of GPTQ file

It takes half a minute. Everything is seeded and runs on one thread; the same versions of torch and
numpy give the same files. Needs requirements-oracle.txt.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import gptq_numpy
import quantize_gptq
import tensor_file
import tiny_language

STEPS = 600
ROWS = 64
# Norm weights that start at 2 keep the linears, and so their scales, small: a perturbation of 1e-3
# then moves the loss about as it does in a large model.
LEARNING_RATE = 6.5e-4
NORM_START = 2.0
TASK_ROWS = (1300, 1000)  # train and dev, test
LOGIT_LENGTH = 12

# name: sizes, quantization and file layout. Models of 32 words keep the files small. With groups of
# 128 the rows of down_proj have two groups and all other rows one short group, as packers allow.
VARIANTS = {
    "v1-asym-g64-gqa": dict(ffn=128, kv_heads=2, group_size=64, sym=False),
    "v1-asym-g32-desc-act": dict(hidden=64, ffn=32, kv_heads=1, sym=False, desc_act=True),
    "v2-asym-g32-sharded": dict(sym=False, checkpoint_format="gptq_v2", shards=2, dtype="BF16"),
    "v2-sym-g32-desc-act": dict(desc_act=True, checkpoint_format="gptq_v2"),
    "v1-sym-g128": dict(hidden=16, ffn=256, kv_heads=2, group_size=128),
    "v1-asym-whole-row-tied": dict(sym=False, group_size=-1, tied=True, kv_heads=1),
    "v1-asym-2bit": dict(bits=2, ffn=32, sym=False, kv_heads=2),
    "v1-asym-3bit": dict(bits=3, ffn=32, sym=False),
    "v2-asym-3bit-desc-act": dict(bits=3, sym=False, desc_act=True, checkpoint_format="gptq_v2"),
    "v1-asym-8bit-g16": dict(bits=8, ffn=32, kv_heads=1, group_size=16, sym=False),
}
VARIANT_WORDS = 32


def config_of(hidden=64, layers=2, kv_heads=4, ffn=128, tied=False, words=64):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": kv_heads, "vocab_size": words,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 2,
        "initializer_range": 0.02, "use_cache": True,
    }


def build(config):
    known = {key: value for key, value in config.items() if key != "architectures"}
    return LlamaForCausalLM(LlamaConfig(**known, attn_implementation="eager"))


def stored(array, dtype):
    """Rounds to the type of the file; bfloat16 by truncation: the weights are random anyway."""
    if dtype == "BF16":
        bits = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16)
        return tensor_file.Tensor("BF16", bits)
    return tensor_file.tensor_of(array.astype(tensor_file.DTYPES[dtype]))


def save(model, config, folder, dtype="F32"):
    folder.mkdir(parents=True, exist_ok=True)
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    (folder / "config.json").write_text(
        json.dumps({**config, "torch_dtype": names[dtype]}, indent=2) + "\n")
    tensor_file.write_folder(folder, {name: stored(parameter.detach().numpy(), dtype)
                                      for name, parameter in model.named_parameters()})


def training_batch(tokenizer, draw):
    rows = [tokenizer.encode(tiny_language.training_row(draw)).ids + [2] for _ in range(ROWS)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    labels = ids.masked_fill(torch.arange(longest)[None] >= lengths[:, None], -100)
    return ids, labels


def train(config):
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    model, tokenizer = build(config), tiny_language.tokenizer()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, NORM_START)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, LEARNING_RATE / 10)
    for step in range(STEPS):
        ids, labels = training_batch(tokenizer, draw)
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1),
                                                 labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
    return model


def prepare_task(out, name, *more):
    """tiny-task.qzt; the rows themselves follow from the seed and are not kept."""
    with tempfile.TemporaryDirectory() as scratch:
        for part, rows in zip(("train", "test"), tiny_language.labelled(TASK_ROWS, seed=1)):
            tiny_language.write_labelled(Path(scratch) / f"{part}.jsonl", rows)
        subprocess.run([sys.executable, Path(__file__).with_name("prepare_task.py"), scratch,
                        out / f"{name}.qzt", "--tokenizer", out / "tiny-llama", "--name", name,
                        "--template", "{text} ?", "--options", " no", " yes",
                        "--max-length", "64", *more], check=True)


def make_tiny(out):
    config = config_of()
    model = train(config)
    folder = out / "tiny-llama-fp32"
    save(model, config, folder)
    tiny_language.tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tiny_language.tokenizer_config(), indent=2) + "\n")
    settings = quantize_gptq.settings_of(32)
    quantize_gptq.quantize_folder(folder, out / "tiny-llama", settings)
    expected_values(out / "tiny-llama", config, settings, seed=0, with_weights=False)


def make_tasks(out):
    prepare_task(out, "tiny-task", "--dev", "300", "--test", "1000")
    prepare_task(out, "tiny-task-shuffled", "--train", "700", "--dev", "100", "--test", "200",
                 "--shuffle-labels", "1")
    prepare_task(out, "tiny-task-shots", "--train", "60", "--dev", "60", "--test", "40",
                 "--shots", "3", "--shots-shared")


def randomize(model, seed):
    """Weights of a trained model's spread, some groups of one sign: their zero points are 0 or 15,
    and a zero point of 0 makes the words of v1 borrow."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.from_numpy(1 + 0.1 * draw.normal(size=parameter.shape)))
                continue
            values = draw.normal(size=parameter.shape) * draw.uniform(0.5, 2, parameter.shape[-1])
            if "proj" in name:
                values[::5] = np.abs(values[::5])
                values[3::7] = -np.abs(values[3::7])
            parameter.copy_(torch.from_numpy(values * 0.7 / parameter.shape[-1] ** 0.5))


def expected_values(folder, config, settings, seed, with_weights=True):
    """Decoded weights by NumPy, logits by transformers over them, into expected.safetensors."""
    tensors = tensor_file.read_folder(folder)
    expected = {}
    model = build(config)
    state = {name: torch.from_numpy(tensor.as_float32()) for name, tensor in tensors.items()
             if name.endswith(".weight")}
    for module in gptq_numpy.modules_of(tensors):
        parts = gptq_numpy.module_tensors(tensors, module, settings)
        weight = gptq_numpy.decode(parts, settings)
        if with_weights:
            expected[f"{module}.weight"] = weight
        state[f"{module}.weight"] = torch.from_numpy(weight)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    ids = np.random.default_rng(seed).integers(0, config["vocab_size"], LOGIT_LENGTH)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    expected["ids"], expected["logits"] = ids.astype(np.int32), logits
    tensor_file.write(folder / "expected.safetensors", expected,
                      {"decoder": "tools/gptq_numpy.py", "logits": "transformers, float32"})


def make_variant(out, name, seed, hidden=32, ffn=64, kv_heads=4, tied=False, shards=1,
                 dtype="F16", **chosen):
    config = config_of(hidden, 1, kv_heads, ffn, tied, VARIANT_WORDS)
    settings = quantize_gptq.settings_of(**{"group_size": 32, **chosen})
    model = build(config)
    randomize(model, seed)
    with tempfile.TemporaryDirectory() as scratch:
        save(model, config, Path(scratch), dtype)
        shutil.rmtree(out / name, ignore_errors=True)
        quantize_gptq.quantize_folder(scratch, out / name, settings, shards)
    expected_values(out / name, config, settings, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("tiny", "tasks", "variants"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only in (None, "tiny"):
        make_tiny(given.out)
    if given.only in (None, "tasks"):
        make_tasks(given.out)
    if given.only in (None, "variants"):
        for seed, (name, settings) in enumerate(VARIANTS.items(), start=1):
            make_variant(given.out / "gptq", name, seed, **settings)


if __name__ == "__main__":
    main()
