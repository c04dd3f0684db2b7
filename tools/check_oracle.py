#!/usr/bin/env python3
"""Compares the project's expected values with independent programs: check_oracle.py FIXTURES.

    gptqmodel     decodes every module of every GPTQ fixture; bit for bit with gptq_numpy.py
    transformers  logits over the decoded weights; against expected.safetensors and against the
                  float64 forward of llama_torch.py
    architectures transformers' own reading of each folder of arch/, against its expected logits
    autograd      the recorded gradient, along its own direction, against the quotient of losses

Exit code 0: all equal; 1: a difference; 77: a package is missing, the rest is equal.
docs/oracles.md has the versions that this was run with.
"""
import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

import gptq_numpy
import tensor_file

# Both sides are correct to rounding; float32 sums of some 100 products differ by this much.
LOGIT_LIMIT = 2e-5
# Central differences in float64 along a unit vector with eps 1e-5: their own error, which goes with
# eps^2, is 2e-6 with an eps of 1e-4.
GRADIENT_EPS = 1e-5
GRADIENT_LIMIT = 1e-6
SKIPPED = 77


def gptq_folders(fixtures):
    return sorted(path.parent for path in fixtures.rglob("quantize_config.json"))


def llama_folders(fixtures):
    """Those of gptq_folders that llama_torch.py reads."""
    return [folder for folder in gptq_folders(fixtures) if folder.parent.name != "arch"]


def modules_in(folder):
    """[(module, its four arrays, quantization settings)]."""
    settings = json.loads((folder / "quantize_config.json").read_text())
    tensors = tensor_file.read_folder(folder)
    return [(name, gptq_numpy.module_tensors(tensors, name, settings), settings)
            for name in gptq_numpy.modules_of(tensors)]


def gptqmodel_weight(parts, settings):
    """W (out, in) by the Torch kernel of GPTQModel, with the scales widened to float32 so that its
    product is exact, as ours is."""
    import torch
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

    bits = settings["bits"]
    in_features = parts["qweight"].shape[0] * 32 // bits
    module = TorchLinear(bits=bits, group_size=settings["group_size"], sym=settings["sym"],
                         desc_act=settings["desc_act"], in_features=in_features,
                         out_features=parts["qweight"].shape[1], bias=False)
    module.eval()
    for part in ("qweight", "qzeros", "scales", "g_idx"):
        buffer = getattr(module, part)
        value = torch.from_numpy(parts[part].copy())
        assert buffer.shape == value.shape, f"{part}: {buffer.shape} but {value.shape}"
        setattr(module, part, value.float() if part == "scales" else value)
    if settings["checkpoint_format"] == "gptq":
        convert_gptq_v1_to_v2_format_module(module, bits=bits, pack_dtype=torch.int32)
    return module.dequantize_weight().T.contiguous().numpy()


def check_gptqmodel(fixtures):
    import gptqmodel

    failures = modules = 0
    for folder in gptq_folders(fixtures):
        for name, parts, settings in modules_in(folder):
            ours = gptq_numpy.decode(parts, settings)
            theirs = gptqmodel_weight(parts, settings)
            modules += 1
            # +0 and -0 are one weight: a product with a code equal to its zero has either sign.
            if theirs.dtype != np.float32 or not np.array_equal(ours, theirs):
                failures += 1
                print(f"{folder.name} {name}: decoded weights differ")
    print(f"gptqmodel {gptqmodel.__version__}: {modules} modules decoded, {failures} differ")
    return failures


def transformers_logits(folder, ids):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = json.loads((folder / "config.json").read_text())
    for key in ("quantization_config", "architectures", "torch_dtype"):
        config.pop(key, None)
    tied = config["tie_word_embeddings"]
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
    state = {name: torch.from_numpy(tensor.as_float32())
             for name, tensor in tensor_file.read_folder(folder).items() if ".weight" in name}
    for name, parts, settings in modules_in(folder):
        weight = gptq_numpy.decode(parts, settings)
        state[f"{name}.weight"] = torch.from_numpy(weight)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and (not missing or tied), (missing, unexpected)
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()


def check_transformers(fixtures):
    import torch
    import transformers
    from llama_torch import Llama

    failures, worst = 0, 0.0
    for folder in llama_folders(fixtures):
        expected, _ = tensor_file.read(folder / "expected.safetensors")
        ids, logits = expected["ids"].array, expected["logits"].array
        with torch.no_grad():
            rows = torch.from_numpy(ids.astype(np.int64))[None]
            wide = Llama(folder, torch.float64).forward(rows)[0].numpy()
        for name, found in (("transformers", transformers_logits(folder, ids)), ("float64", wide)):
            error = float(np.abs(found - logits).max() / np.abs(logits).max())
            worst = max(worst, error)
            if not error <= LOGIT_LIMIT:
                failures += 1
                print(f"{folder.name}: recorded logits differ from {name} by {error:.1e}, "
                      f"expected at most {LOGIT_LIMIT:.0e}")
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: worst relative "
          f"difference of logits {worst:.1e}, {failures} beyond {LOGIT_LIMIT:.0e}")
    return failures


def architecture_model(folder):
    """transformers' own reading of a folder; it knows no GPTQ without a GPU, so that quantized
    linears are put into it decoded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    eager = {"dtype": torch.float32, "attn_implementation": "eager"}
    if not (folder / "quantize_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(folder, **eager).eval()
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, **eager).eval()
    state = {name: torch.from_numpy(tensor.as_float32())
             for name, tensor in tensor_file.read_folder(folder).items()}
    for name, parts, settings in modules_in(folder):
        weight = torch.from_numpy(gptq_numpy.decode(parts, settings))
        conv = type(model.get_submodule(name)).__name__ == "Conv1D"
        state[f"{name}.weight"] = weight.T if conv else weight
    missing, _ = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing
    return model


def check_architectures(fixtures):
    import torch

    failures, worst = 0, 0.0
    folders = sorted((fixtures / "arch").iterdir())
    for folder in folders:
        expected, _ = tensor_file.read(folder / "expected.safetensors")
        ids, logits = expected["ids"].array, expected["logits"].array
        with torch.no_grad():
            rows = torch.from_numpy(ids.astype(np.int64))[None]
            found = architecture_model(folder)(rows).logits[0].numpy()
        error = float(np.abs(found - logits).max() / np.abs(logits).max())
        worst = max(worst, error)
        if not error <= LOGIT_LIMIT:
            failures += 1
            print(f"{folder.name}: recorded logits differ from transformers by {error:.1e}, "
                  f"expected at most {LOGIT_LIMIT:.0e}")
    print(f"architectures: {len(folders)} folders read by transformers, worst relative difference "
          f"of logits {worst:.1e}, {failures} beyond {LOGIT_LIMIT:.0e}")
    return failures


def check_gradients(fixtures):
    import torch
    from llama_torch import Llama, Split
    from record_gradients import estimate

    recorded, _ = tensor_file.read(fixtures / "gradients.safetensors")
    model = Llama(fixtures / "tiny-llama", torch.float64)
    split, masters = Split(fixtures / "tiny-task.qzt", "train"), model.flat_scales().clone()
    failures = 0
    for examples, gradient in zip(recorded["examples"].array, recorded["gradient"].array):
        norm = float(np.linalg.norm(gradient))
        unit = torch.from_numpy(gradient / norm)
        found = estimate(model, masters, unit, GRADIENT_EPS, split.batch(examples))
        error = abs(found - norm) / norm
        failures += not error <= GRADIENT_LIMIT
        print(f"autograd: slope along the gradient {found:.9g}, its norm {norm:.9g}, "
              f"relative difference {error:.1e}")
    return failures


CHECKS = {"gptqmodel": (check_gptqmodel, "gptqmodel"),
          "transformers": (check_transformers, "transformers"),
          "architectures": (check_architectures, "transformers"),
          "autograd": (check_gradients, "torch")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixtures", type=Path)
    parser.add_argument("--only", choices=sorted(CHECKS))
    given = parser.parse_args()
    failures, skipped = 0, False
    for name, (check, package) in CHECKS.items():
        if given.only not in (None, name):
            continue
        if importlib.util.find_spec(package) is None:
            print(f"{name}: skipped, {package} is not installed")
            skipped = True
        else:
            failures += check(given.fixtures)
    sys.exit(1 if failures else SKIPPED if skipped else 0)


if __name__ == "__main__":
    main()
