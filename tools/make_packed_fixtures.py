#!/usr/bin/env python3
"""Makes tests/fixtures/awq, compressed and hqq: make_packed_fixtures.py OUT.

    OUT/awq/VARIANT         untrained models packed by GPTQModel's AWQ code
    OUT/compressed/VARIANT  the same by the compressed-tensors package
    OUT/hqq/VARIANT         the same quantized by the hqq package

expected.safetensors holds ids, logits (transformers, float32) and some decoded weights, decoded by
these packages in float32. A fifth of the scales is negative, which no quantizer writes but every
decoder takes. Needs requirements-oracle.txt (docs/oracles.md has the versions). Seeded; seconds.
"""
import argparse
from pathlib import Path

import numpy as np
import torch

from make_format_fixtures import array_of, write_model
from make_tiny_model import VARIANT_WORDS, config_of

AWQ_VARIANTS = {"g32": dict(group_size=32), "whole-row": dict(group_size=-1)}
COMPRESSED_VARIANTS = {
    "int4-g32": dict(num_bits=4, strategy="group", group_size=32),
    "int4-g16-asym": dict(num_bits=4, strategy="group", group_size=16, symmetric=False),
    "int4-channel-asym": dict(num_bits=4, strategy="channel", symmetric=False),
    "int3-g32-asym": dict(num_bits=3, strategy="group", group_size=32, symmetric=False),
    "int8-channel": dict(num_bits=8, strategy="channel"),
    "int8-bytes": dict(num_bits=8, strategy="channel", form="int-quantized"),
    "int8-bytes-asym": dict(num_bits=8, strategy="group", group_size=16, symmetric=False,
                            form="naive-quantized"),
}
HQQ_VARIANTS = {"4bit-g32": dict(nbits=4, group_size=32), "8bit-g16": dict(nbits=8, group_size=16),
                "3bit-g16": dict(nbits=3, group_size=16), "2bit-g16": dict(nbits=2, group_size=16),
                "1bit-g8": dict(nbits=1, group_size=8)}
CONFIG = config_of(32, 1, 4, 64, words=VARIANT_WORDS)


def signs(draw, shape):
    return torch.from_numpy(draw.choice((-1.0, 1.0), shape, p=(0.2, 0.8))).float()


def quantize_awq(name, weight, draw, group_size):
    """{tensor name: array}, and W (out, in) in float32 by GPTQModel."""
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm, pack_awq

    module = name[: -len(".weight")]
    rows, columns = weight.shape
    group_size = columns if group_size < 0 else group_size
    groups = weight.reshape(rows, -1, group_size)
    least, most = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    scales = ((most - least) / 15 * signs(draw, least.shape)).half().float()
    zeros = torch.round(torch.where(scales > 0, -least, -most) / scales).clamp(0, 15)
    codes = torch.round(groups / scales[:, :, None] + zeros[:, :, None]).clamp(0, 15)
    codes = codes.reshape(rows, columns)
    qweight, qzeros = pack_awq(codes.T.int().contiguous(), zeros.T.int().contiguous(), 4)
    scales = scales.T.contiguous()
    decoded = dequantize_gemm(qweight, qzeros, scales, 4, group_size).T.contiguous()
    return {f"{module}.qweight": array_of(qweight), f"{module}.qzeros": array_of(qzeros),
            f"{module}.scales": array_of(scales.half())}, decoded


def make_awq(folder, seed, group_size):
    settings = {"quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True,
                "version": "gemm", "modules_to_not_convert": ["lm_head"]}
    draw = np.random.default_rng(seed)
    write_model(folder, seed, CONFIG, settings,
                lambda name, weight: quantize_awq(name, weight.detach(), draw, group_size))


def quantize_compressed(name, weight, draw, scheme, form):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = scheme.weights
    compressor = BaseCompressor.get_value_from_registry(form)
    groups = weight.reshape(len(weight), -1, arguments.group_size or weight.shape[1])
    scale, zero_point = calculate_qparams(groups.amin(2), groups.amax(2), arguments)
    scale = (scale * signs(draw, scale.shape)).half().float()
    if not arguments.symmetric:
        zero_point = torch.where(scale > 0, zero_point, -1 - zero_point)
    parts = {"weight": weight, "weight_scale": scale,
             "weight_zero_point": zero_point.to(torch.int8)}
    stored = compressor.compress(parts, scheme)
    decoded = compressor.decompress(stored, scheme)["weight"]
    stored["weight_scale"] = stored["weight_scale"].half()
    module = name[: -len("weight")]
    return {module + key: array_of(value) for key, value in stored.items()}, decoded


def make_compressed(folder, seed, form="pack-quantized", **weights):
    from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig,
                                                 QuantizationScheme)

    scheme = QuantizationScheme(targets=["Linear"], format=form, weights=QuantizationArgs(
        **{"type": "int", "symmetric": True, **weights}))
    settings = QuantizationConfig(config_groups={"group_0": scheme}, format=form,
                                  quantization_status="compressed", ignore=["lm_head"]).to_dict()
    draw = np.random.default_rng(seed)
    write_model(folder, seed, CONFIG, settings, lambda name, weight: quantize_compressed(
        name, weight.detach(), draw, scheme, form))


def quantize_hqq(name, weight, draw, settings):
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer

    linear = torch.nn.Linear(*weight.shape[::-1], bias=False)
    linear.weight.data = weight
    layer = HQQLinear(linear, BaseQuantizeConfig(axis=1, **settings), device="cpu",
                      compute_dtype=torch.float16)
    layer.meta["scale"] *= signs(draw, layer.meta["scale"].shape).half()
    stored = layer.state_dict()
    decoded = Quantizer.dequantize(layer.W_q, {
        **layer.meta, "compute_dtype": torch.float32, "scale": layer.meta["scale"].float(),
        "zero": layer.meta["zero"].float()})
    module = name[: -len("weight")]
    return {module + key: array_of(value) for key, value in stored.items()}, decoded


def make_hqq(folder, seed, **weights):
    from hqq.core.quantize import BaseQuantizeConfig

    settings = {"quant_method": "hqq", "quant_config": BaseQuantizeConfig(axis=1, **weights),
                "skip_modules": ["lm_head"]}
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    write_model(folder, seed, CONFIG, settings,
                lambda name, weight: quantize_hqq(name, weight.detach().clone(), draw, weights))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed, (name, settings) in enumerate(AWQ_VARIANTS.items(), start=20):
        make_awq(given.out / "awq" / name, seed, **settings)
    for seed, (name, settings) in enumerate(COMPRESSED_VARIANTS.items(), start=30):
        make_compressed(given.out / "compressed" / name, seed, **settings)
    for seed, (name, settings) in enumerate(HQQ_VARIANTS.items(), start=50):
        make_hqq(given.out / "hqq" / name, seed, **settings)


if __name__ == "__main__":
    main()
