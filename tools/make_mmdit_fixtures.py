#!/usr/bin/env python3
"""Makes tests/fixtures/mmdit: small diffusion transformers of Stable Diffusion 3's kind.

Random weights of a trained model's spread, in float16, written by diffusers itself; the outputs of
its SD3Transformer2DModel in float32 for two examples. A task of random images (toy.qzt), and what
diffusers' functions for training such models give as its losses, with the timesteps and noise that
src/task/flow.h promises, drawn here by NumPy. One of the models again as diffusers loads and saves
it with bitsandbytes' NF4, with the outputs of the decoded weights. Needs requirements-oracle.txt.
"""
import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import SD3Transformer2DModel
from diffusers.training_utils import compute_loss_weighting_for_sd3

import prepare_task
import tensor_file

SMALL = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3,
             attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
             joint_attention_dim=24, pooled_projection_dim=12, pos_embed_max_size=6)
# The place in this table is the seed.
KINDS = {
    "sd3": dict(SMALL),
    "sd35-large": dict(SMALL, qk_norm="rms_norm"),
    "sd35-medium": dict(SMALL, qk_norm="rms_norm", dual_attention_layers=(0, 1)),
    # Rows long enough for blocks of 64, as quantizing at load makes them.
    "wide": dict(SMALL, num_layers=1, attention_head_dim=32, caption_projection_dim=64,
                 joint_attention_dim=64, pooled_projection_dim=64),
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


def inputs_of(config, draw):
    inputs = {
        "latents": draw.normal(size=(EXAMPLES, config.in_channels, HEIGHT, WIDTH)),
        "text": draw.normal(size=(EXAMPLES, TEXT_ROWS, config.joint_attention_dim)),
        "pooled": draw.normal(size=(EXAMPLES, config.pooled_projection_dim)),
        "timesteps": np.array([37.5, 912.25]),
    }
    return {key: value.astype(np.float32) for key, value in inputs.items()}


def record_output(folder, model, inputs):
    """Inputs and what the model, in float32, makes of them."""
    with torch.no_grad():
        output = model(hidden_states=torch.from_numpy(inputs["latents"]),
                       encoder_hidden_states=torch.from_numpy(inputs["text"]),
                       pooled_projections=torch.from_numpy(inputs["pooled"]),
                       timestep=torch.from_numpy(inputs["timesteps"]), return_dict=False)[0]
    tensor_file.write(folder / "expected.safetensors", {**inputs, "output": output.numpy()},
                      {"output": "diffusers, float32"})
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder.name}: {size} bytes, outputs up to {output.abs().max():.3g}")


def make(out, name, seed):
    draw = np.random.default_rng(seed)
    model = SD3Transformer2DModel(**KINDS[name]).eval()
    randomize(model, draw)
    inputs = inputs_of(model.config, draw)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    record_output(folder, model.float(), inputs)


# --- 4 bits by diffusers and bitsandbytes ---


def quantized(folder):
    """The model in `folder` in NF4. diffusers quantizes on a GPU alone; the library has the same
    kernels for a CPU, so what refuses it is taken away."""
    from diffusers import BitsAndBytesConfig
    from diffusers.quantizers.bitsandbytes import BnB4BitDiffusersQuantizer

    BnB4BitDiffusersQuantizer.validate_environment = lambda self, *_, **__: None
    BnB4BitDiffusersQuantizer.update_device_map = lambda self, _: {"": "cpu"}
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                  bnb_4bit_compute_dtype=torch.float32)
    return SD3Transformer2DModel.from_pretrained(folder, quantization_config=settings,
                                                 torch_dtype=torch.float32).eval()


def with_plain_linears(model):
    """Decoded by the library to fp32: its products on a CPU are in bfloat16."""
    import bitsandbytes

    for name, module in list(model.named_modules()):
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        plain = torch.nn.Linear(module.in_features, module.out_features)
        plain.weight.data = bitsandbytes.functional.dequantize_4bit(module.weight.data,
                                                                    module.weight.quant_state)
        plain.bias = module.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain)
    return model


def make_nf4(out, name, seed):
    folder = out / f"{name}-nf4"
    shutil.rmtree(folder, ignore_errors=True)
    model = quantized(out / name)
    model.register_to_config(_name_or_path=name)
    model.save_pretrained(folder)
    inputs = inputs_of(model.config, np.random.default_rng(seed))
    record_output(folder, with_plain_linears(model), inputs)


# --- a task and its losses ---

SPLITS = {"train": 12, "dev": 6, "test": 4}
CAPTIONS = 3
EVALUATION = (1 << 64) - 1  # the round of flow.h
TIME, NOISE = 3, 0  # purposes of base/philox.h
TIMESTEPS = 1000
# density, weighting, logit_mean, logit_std, mode_scale, shift
OBJECTIVES = {
    "default": ("logit_normal", "none", 0.0, 1.0, 1.29, 3.0),
    "cosmap": ("mode", "cosmap", 0.0, 1.0, 1.29, 1.0),
    "sigma_sqrt": ("uniform", "sigma_sqrt", 0.0, 1.0, 1.29, 2.0),
}


def philox(key, counter, third, fourth):
    """Philox4x32-10 (Salmon et al., SC'11): four words."""
    c = [counter & 0xFFFFFFFF, counter >> 32, third, fourth]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        low, high = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(high >> 32) ^ c[1] ^ k[0], high & 0xFFFFFFFF,
             (low >> 32) ^ c[3] ^ k[1], low & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def normals(word0, word1):
    """Box-Muller; the angle is the quadrant of the two top bits and a place about its middle."""
    radius = np.sqrt(-2 * np.log((word0 + 0.5) / 2**32))
    place = (((word1 << 2) + 2**31) % 2**32 - 2**31) / 2**32
    angle = (word1 >> 30) * np.pi / 2 + place * np.pi / 2
    return radius * np.cos(angle), radius * np.sin(angle)


def draw_of(objective, seed, round_, place):
    """sigma and the seed of the noise."""
    density, _, mean, std, scale, shift = OBJECTIVES[objective]
    words = philox(seed, round_, place, TIME)
    u = (words[0] + 0.5) / 2**32
    if density == "logit_normal":
        u = 1 / (1 + np.exp(-(mean + std * normals(*words[:2])[0])))
    elif density == "mode":
        u = 1 - u - scale * (np.cos(np.pi * u / 2)**2 - 1 + u)
    index = min(max(int(u * TIMESTEPS), 0), TIMESTEPS - 1)
    s = (TIMESTEPS - index) / TIMESTEPS
    words = philox(seed ^ (2**64 - 1), round_, place, TIME)
    return shift * s / (1 + (shift - 1) * s), words[0] | words[1] << 32


def noise_of(seed, shape):
    values = []
    for block in range(-(-int(np.prod(shape)) // 4)):
        words = philox(seed, block, 0, NOISE)
        values += [*normals(*words[:2]), *normals(*words[2:])]
    return np.array(values[:int(np.prod(shape))], np.float32).reshape(shape)


def losses_of(folder, task, objective):
    """Of every dev image, as an evaluation meets it."""
    model = SD3Transformer2DModel.from_pretrained(folder).float().eval()
    losses = []
    for example, (latent, caption) in enumerate(zip(task["dev.latents"], task["dev.caption"])):
        sigma, seed = draw_of(objective, 0, EVALUATION, example)
        noise = noise_of(seed, latent.shape)
        noisy = (1 - sigma) * latent + sigma * noise
        with torch.no_grad():
            said = model(hidden_states=torch.from_numpy(noisy.astype(np.float32))[None],
                         encoder_hidden_states=torch.from_numpy(task["text"][caption])[None],
                         pooled_projections=torch.from_numpy(task["pooled"][caption])[None],
                         timestep=torch.tensor([sigma * TIMESTEPS], dtype=torch.float32),
                         return_dict=False)[0][0].numpy()
        weight = compute_loss_weighting_for_sd3(OBJECTIVES[objective][1], torch.tensor([sigma]))
        error = said.astype(np.float64) - (noise - latent)
        losses.append(float(weight[0]) * np.mean(error**2))
    return np.array(losses)


def make_task(path, kind, seed):
    draw = np.random.default_rng(seed)
    task = {"text": draw.normal(size=(CAPTIONS, TEXT_ROWS, KINDS[kind]["joint_attention_dim"])),
            "pooled": draw.normal(size=(CAPTIONS, KINDS[kind]["pooled_projection_dim"]))}
    for split, count in SPLITS.items():
        task[f"{split}.latents"] = draw.normal(size=(count, SMALL["in_channels"], HEIGHT, WIDTH))
    task = {key: value.astype(np.float32) for key, value in task.items()}
    for split, count in SPLITS.items():
        task[f"{split}.caption"] = draw.integers(0, CAPTIONS, count).astype(np.int32)
    prepare_task.write_task(path, task, {"qzo_images_version": "1", "name": path.stem,
                                         "source": "random numbers"})
    return task


def record_losses(out):
    task = make_task(out / "toy.qzt", "sd35-medium", 100)
    expected = {objective: losses_of(out / "sd35-medium", task, objective)
                for objective in OBJECTIVES}
    tensor_file.write(out / "toy-losses.safetensors", expected,
                      {"losses": "of toy.qzt's dev split by sd35-medium, diffusers, float32"})
    print({key: value.mean() for key, value in expected.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(0)
    for seed, name in enumerate(KINDS):
        make(out, name, seed)
    make_nf4(out, "wide", len(KINDS))
    record_losses(out)
    make_task(out / "toy-wide.qzt", "wide", 101)


if __name__ == "__main__":
    main()
