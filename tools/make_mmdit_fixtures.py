#!/usr/bin/env python3
"""Makes tests/fixtures/mmdit: small diffusion transformers of Stable Diffusion 3's kind.

Random weights of a trained model's spread, in float16, written by diffusers itself; the outputs of
its SD3Transformer2DModel in float32 for two examples. Needs requirements-oracle.txt.
"""
import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import SD3Transformer2DModel

import tensor_file

SMALL = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3,
             attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
             joint_attention_dim=24, pooled_projection_dim=12, pos_embed_max_size=6)
# The place in this table is the seed.
KINDS = {
    "sd3": dict(SMALL),
    "sd35-large": dict(SMALL, qk_norm="rms_norm"),
    "sd35-medium": dict(SMALL, qk_norm="rms_norm", dual_attention_layers=(0, 1)),
}
EXAMPLES, HEIGHT, WIDTH, TEXT_ROWS = 2, 8, 6, 5


def randomize(model, draw):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = draw.normal(size=parameter.shape)
            if parameter.ndim == 1:
                values = 0.2 * values + (1.0 if ".norm" in name and "weight" in name else 0.0)
            else:
                values *= 0.9 / np.sqrt(np.prod(parameter.shape[1:]))
            parameter.copy_(torch.from_numpy(values.astype(np.float16).astype(np.float32)))
        for buffer in model.buffers():
            buffer.copy_(buffer.half().float())


def make(out, name, seed):
    draw = np.random.default_rng(seed)
    model = SD3Transformer2DModel(**KINDS[name]).eval()
    randomize(model, draw)
    config = model.config
    inputs = {
        "latents": draw.normal(size=(EXAMPLES, config.in_channels, HEIGHT, WIDTH)),
        "text": draw.normal(size=(EXAMPLES, TEXT_ROWS, config.joint_attention_dim)),
        "pooled": draw.normal(size=(EXAMPLES, config.pooled_projection_dim)),
        "timesteps": np.array([37.5, 912.25]),
    }
    inputs = {key: value.astype(np.float32) for key, value in inputs.items()}
    with torch.no_grad():
        output = model(hidden_states=torch.from_numpy(inputs["latents"]),
                       encoder_hidden_states=torch.from_numpy(inputs["text"]),
                       pooled_projections=torch.from_numpy(inputs["pooled"]),
                       timestep=torch.from_numpy(inputs["timesteps"]), return_dict=False)[0]
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    tensor_file.write(folder / "expected.safetensors", {**inputs, "output": output.numpy()},
                      {"output": "diffusers, float32"})
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name}: {size} bytes, outputs up to {output.abs().max():.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(0)
    for seed, name in enumerate(KINDS):
        make(out, name, seed)


if __name__ == "__main__":
    main()
