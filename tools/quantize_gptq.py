#!/usr/bin/env python3
"""Turns a Hugging Face folder into a GPTQ folder: SRC DEST [options].

Every linear of the decoder layers becomes qweight, qzeros, scales and g_idx, fused ones as they
are, GPT-2's (stored in x out) like all others; everything else is copied as it is. The scale of an
output's group is the one with the least squared error among shrunken ranges.

--method rtn rounds to nearest. It needs no calibration text, so --desc-act orders the inputs by the
norms of their weight columns, where GPTQ takes the diagonal of its Hessian. --method gptq rounds as
GPTQ does (gptq_solve.py, small models only) over the training rows of a prepared task.
"""
import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

import gptq_numpy
import gptq_solve
import tensor_file

LINEAR = re.compile(r"^(model\.|transformer\.)?(decoder\.)?(layers|h)\.\d+\."
                    r"(self_attn\.([qkvo]|out|qkv)_proj|mlp\.(gate|up|down|gate_up)_proj|fc[12]"
                    r"|attn\.c_(attn|proj)|mlp\.c_(fc|proj))\.weight$")
SHRINK_STEPS = 40  # ranges from 1 down to 0.5 of the full one
SHRINK_LEAST = 0.5
CALIBRATION_ROWS = 128


class QuantizeError(Exception):
    """A model that cannot be quantized as asked."""


def round_group(weight, low, high, sym, bits):
    """Codes, zeros, fp16 scales and squared errors of one group (out, members) for given ranges."""
    levels = 2**bits - 1
    if sym:
        reach = np.maximum(np.abs(low), high)
        low, high = -reach, reach
    scale = ((high - low) / levels).astype(np.float16)
    # A group of zeros, or one so small that fp16 loses it, gets the smallest normal scale: a scale
    # of 0 could never be trained.
    scale = np.maximum(scale, np.float16(2.0**-14))
    wide = scale.astype(np.float32)
    zero = (np.full(len(wide), 2.0 ** (bits - 1), np.float32) if sym
            else np.clip(np.rint(-low / wide), 0, levels))
    codes = np.clip(np.rint(weight / wide[:, None]) + zero[:, None], 0, levels)
    error = (((codes - zero[:, None]) * wide[:, None] - weight) ** 2).sum(axis=1)
    return codes.astype(np.int32), zero.astype(np.int32), scale, error


def quantize_group(weight, sym, bits):
    """The best of SHRINK_STEPS ranges for each output."""
    low, high = np.minimum(weight.min(axis=1), 0), np.maximum(weight.max(axis=1), 0)
    best = round_group(weight, low, high, sym, bits)
    for factor in np.linspace(1, SHRINK_LEAST, SHRINK_STEPS + 1, dtype=np.float32)[1:]:
        tried = round_group(weight, low * factor, high * factor, sym, bits)
        better = tried[3] < best[3]
        best = tuple(np.where(better[:, None] if new.ndim == 2 else better, new, old)
                     for new, old in zip(tried, best))
    return best[:3]


def groups_of(weight, group_size, desc_act):
    in_features = weight.shape[1]
    rank = np.arange(in_features)
    if desc_act:
        order = np.argsort(-np.linalg.norm(weight, axis=0), kind="stable")
        rank[order] = np.arange(in_features)
    size = in_features if group_size == -1 else group_size
    return (rank // size).astype(np.int32)


def quantize_weight(weight, settings):
    """W (out, in) to the tensors of a module. The last group may be short, as packers allow."""
    g_idx = groups_of(weight, settings["group_size"], settings["desc_act"])
    groups = int(g_idx.max()) + 1
    codes = np.zeros(weight.shape, np.int32)
    zeros = np.zeros((weight.shape[0], groups), np.int32)
    scales = np.zeros((weight.shape[0], groups), np.float16)
    for group in range(groups):
        members = np.flatnonzero(g_idx == group)
        codes[:, members], zeros[:, group], scales[:, group] = quantize_group(
            weight[:, members], settings["sym"], settings["bits"])
    return gptq_numpy.encode(codes, zeros, scales, g_idx, settings)


def check_linears(tensors, bits):
    """Names of the linears to quantize."""
    packed = gptq_numpy.PACKED[bits]
    names = [name for name in tensors if LINEAR.match(name)]
    for name in names:
        rows, columns = tensors[name].array.shape
        if rows % packed or columns % packed:
            raise QuantizeError(f"{name}: expected both sizes to be multiples of {packed}, "
                                f"found ({rows}, {columns})")
    if not names:
        raise QuantizeError("expected linears such as model.layers.0.self_attn.q_proj.weight, "
                            "found none")
    return names


def round_to_nearest(tensors, settings, config):
    """{module: its tensors}."""
    transposed = config["model_type"] == "gpt2"
    names = check_linears(tensors, settings["bits"])
    weights = {name: tensors[name].as_float32() for name in names}
    return {name[: -len(".weight")]: quantize_weight(weight.T if transposed else weight, settings)
            for name, weight in weights.items()}


def calibration_rows(path):
    """Token ids of the first option of the first training examples of a prepared task."""
    task, _ = tensor_file.read(path)
    begin, tokens = task["train.token_begin"].array, task["train.tokens"].array
    options = task["train.option_begin"].array[:-1][:CALIBRATION_ROWS]
    return [tokens[begin[option] : begin[option + 1]] for option in options]


def round_by_gptq(tensors, settings, config, calibration):
    """{module: its tensors}; layer by layer, each fed by the rounded ones before it."""
    check_linears(tensors, settings["bits"])
    if config["model_type"] != "llama":
        raise QuantizeError(f"expected a Llama model for --method gptq, found "
                            f"{config['model_type']}: --method rtn takes all")
    weights = {name: tensor.as_float32().astype(np.float64) for name, tensor in tensors.items()}
    rows = [weights["model.embed_tokens.weight"][ids] for ids in calibration]
    modules = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        found = gptq_solve.hessians(rows, weights, prefix, config)
        for kind, linears in gptq_solve.LINEARS.items():
            for linear in linears:
                module = f"{prefix}.{linear}"
                solved = gptq_solve.solve(weights[f"{module}.weight"], found[kind],
                                          settings["group_size"], settings["desc_act"],
                                          quantize_group, settings["sym"], settings["bits"])
                modules[module] = gptq_numpy.encode(*solved, settings)
                weights[f"{module}.weight"] = gptq_numpy.decode(
                    modules[module], settings).astype(np.float64)
        rows = [gptq_solve.layer_forward(x, weights, prefix, config)[0] for x in rows]
    return modules


def quantize_folder(source, target, settings, shards=1, calibration=None):
    """settings as settings_of gives them; calibration: rows of token ids for GPTQ, or None."""
    source, target = Path(source), Path(target)
    config = json.loads((source / "config.json").read_text())
    if "quantization_config" in config:
        raise QuantizeError(f"{source}: expected an unquantized model, found quantization_config")
    tensors = tensor_file.read_folder(source)
    modules = (round_to_nearest(tensors, settings, config) if calibration is None
               else round_by_gptq(tensors, settings, config, calibration))
    tensors = {name: tensor for name, tensor in tensors.items() if not LINEAR.match(name)}
    for module, parts in modules.items():
        for part, array in parts.items():
            tensors[f"{module}.{part}"] = tensor_file.tensor_of(array)
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".model", ".txt") and "safetensors" not in path.name:
            shutil.copyfile(path, target / path.name)
    config["quantization_config"] = settings
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (target / "quantize_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tensor_file.write_folder(target, tensors, shards)


def settings_of(group_size=128, sym=True, desc_act=False, checkpoint_format="gptq", bits=4):
    """quantization_config as checkpoints of this kind have it."""
    return {"bits": bits, "group_size": group_size, "desc_act": desc_act, "sym": sym,
            "lm_head": False, "quant_method": "gptq", "checkpoint_format": checkpoint_format,
            "pack_dtype": "int32", "true_sequential": False, "static_groups": False}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--bits", type=int, default=4, choices=sorted(gptq_numpy.PACKED))
    parser.add_argument("--group-size", type=int, default=128, choices=(32, 64, 128, -1))
    parser.add_argument("--asym", action="store_true", help="zero points per group, not 8")
    parser.add_argument("--desc-act", action="store_true", help="permuted g_idx")
    parser.add_argument("--checkpoint-format", default="gptq", choices=("gptq", "gptq_v2"))
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--method", default="rtn", choices=("rtn", "gptq"))
    parser.add_argument("--calibration", type=Path, metavar="TASK.qzt", help="for --method gptq")
    given = parser.parse_args()
    if (given.method == "gptq") != (given.calibration is not None):
        parser.error("expected --calibration with --method gptq, and only there")
    settings = settings_of(given.group_size, not given.asym, given.desc_act,
                           given.checkpoint_format, given.bits)
    try:
        calibration = calibration_rows(given.calibration) if given.calibration else None
        quantize_folder(given.source, given.target, settings, given.shards, calibration)
    except (QuantizeError, OSError) as error:
        sys.exit(f"quantize_gptq: {error}")


if __name__ == "__main__":
    main()
