#!/usr/bin/env python3
"""Makes tests/fixtures/bnb and tests/fixtures/aqlm: make_format_fixtures.py OUT.

    OUT/bnb/VARIANT   untrained models whose linears bitsandbytes quantized
    OUT/aqlm/2x8      one with drawn codes, codebooks and scales of both signs

expected.safetensors holds ids, logits (transformers, float32) and some decoded weights, decoded by
bitsandbytes and aqlm themselves in float32. Needs requirements-oracle.txt, bitsandbytes and aqlm
(docs/oracles.md has the versions). Seeded; some seconds.
"""
import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

import tensor_file
from make_tiny_model import LOGIT_LENGTH, VARIANT_WORDS, build, config_of, randomize

# With blocks of 32, up_proj of the nested variants has more absmax than one nested block of 256.
BNB_VARIANTS = {
    "nf4": dict(quant_type="nf4", blocksize=64, nested=False, hidden=64, ffn=64),
    "nf4-nested": dict(quant_type="nf4", blocksize=32, nested=True, hidden=64, ffn=160),
    "fp4": dict(quant_type="fp4", blocksize=32, nested=False, hidden=32, ffn=64),
    "fp4-nested": dict(quant_type="fp4", blocksize=64, nested=True, hidden=64, ffn=64),
}
KEPT = ("q_proj.weight", "up_proj.weight", "down_proj.weight")  # decoded weights in the file
AQLM_CODEBOOKS, AQLM_ENTRIES, AQLM_GROUP = 2, 256, 8


def array_of(tensor):
    return tensor.detach().cpu().numpy()


def quantize_bnb(name, weight, quant_type, blocksize, nested):
    """{tensor name: array} as transformers saves it, and W in float32 by bitsandbytes."""
    import bitsandbytes.functional as bnb

    codes, state = bnb.quantize_4bit(weight.half(), blocksize=blocksize, quant_type=quant_type,
                                     compress_statistics=nested)
    tensors = {name: array_of(codes)}
    for key, value in state.as_dict(packed=True).items():
        tensors[f"{name}.{key}"] = array_of(value)
    state.dtype = torch.float32
    return tensors, bnb.dequantize_4bit(codes, state)


def draw_aqlm(name, weight, draw):
    from aqlm.utils import _dequantize_weight, pack_int_data, unpack_int_data

    module = name[: -len(".weight")]
    rows, columns = weight.shape
    codes = torch.from_numpy(draw.integers(0, AQLM_ENTRIES, (rows, columns // AQLM_GROUP,
                                                             AQLM_CODEBOOKS)))
    shape = (AQLM_CODEBOOKS, AQLM_ENTRIES, 1, AQLM_GROUP)
    codebooks = torch.from_numpy(draw.normal(size=shape)).half()
    signs = draw.choice((-1.0, 1.0), (rows, 1, 1, 1), p=(0.2, 0.8))
    scales = torch.from_numpy(signs * draw.uniform(0.3, 0.7, signs.shape) / columns**0.5).half()
    packed = pack_int_data(codes.clone(), 8)
    decoded = _dequantize_weight(unpack_int_data(packed, 8), codebooks.float(), scales.float())
    return {f"{module}.codes": array_of(packed), f"{module}.codebooks": array_of(codebooks),
            f"{module}.scales": array_of(scales)}, decoded


def write_model(folder, seed, config, settings, quantize):
    """quantize(name, weight) gives the tensors of one linear and its decoded weight."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build(config)
    randomize(model, seed)
    tensors, expected = {}, {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_proj" not in name:
                tensors[name] = array_of(parameter).astype(np.float16)
                parameter.copy_(torch.from_numpy(tensors[name].astype(np.float32)))
                continue
            parts, decoded = quantize(name, parameter)
            tensors.update(parts)
            parameter.copy_(decoded)
            if name.endswith(KEPT):
                expected[name] = array_of(decoded)
        ids = np.random.default_rng(seed).integers(0, config["vocab_size"], LOGIT_LENGTH)
        expected["logits"] = array_of(model(torch.from_numpy(ids)[None]).logits[0])
    expected["ids"] = ids.astype(np.int32)
    tensor_file.write(folder / "model.safetensors", tensors, {"format": "pt"})
    tensor_file.write(folder / "expected.safetensors", expected,
                      {"decoder": settings["quant_method"], "logits": "transformers, float32"})
    config = {**config, "torch_dtype": "float16", "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def make_bnb(folder, seed, quant_type, blocksize, nested, hidden, ffn):
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
                "bnb_4bit_quant_type": quant_type, "bnb_4bit_use_double_quant": nested,
                "bnb_4bit_compute_dtype": "float16", "bnb_4bit_quant_storage": "uint8"}
    write_model(folder, seed, config_of(hidden, 1, 2, ffn, words=VARIANT_WORDS), settings,
                lambda name, weight: quantize_bnb(name, weight, quant_type, blocksize, nested))


def make_aqlm(folder, seed):
    settings = {"quant_method": "aqlm", "in_group_size": AQLM_GROUP, "out_group_size": 1,
                "num_codebooks": AQLM_CODEBOOKS, "nbits_per_codebook": 8,
                "linear_weights_not_to_quantize": []}
    draw = np.random.default_rng(seed)
    write_model(folder, seed, config_of(32, 1, 2, 64, words=VARIANT_WORDS), settings,
                lambda name, weight: draw_aqlm(name, weight, draw))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, (name, settings) in enumerate(BNB_VARIANTS.items(), start=1):
        make_bnb(given.out / "bnb" / name, seed, **settings)
    make_aqlm(given.out / "aqlm" / "2x8", seed=9)


if __name__ == "__main__":
    os.environ.setdefault("AQ_USE_JIT", "0")
    main()
