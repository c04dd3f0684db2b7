#!/usr/bin/env python3
"""Compares a prepared task of images with what diffusers' own pipelines give their transformer for
the same pictures and prompts: check_images.py FOLDER TASK.qzt CHECKPOINT [FIXTURE].

The text embeddings are caught on their way into the transformer of StableDiffusion3Pipeline, the
latents are those of StableDiffusion3InpaintPipeline, whose seeded draw is the same. FIXTURE is a
4-bit folder with recorded outputs: tools/sample_images.py must decode it to them. Exit code 0:
equal; 1: a difference.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline

import command_line
import prepare_images
import sample_images
import tensor_file

ROUNDING = 2.0**-11  # to float16, of a number's size
SUMS = 1e-4  # in another order in float32, as of outputs (docs/error-analysis.md, "Logits")


class Caught(Exception):
    """What the transformer was given."""


def caught_text(pipe, caption, text_rows, side):
    def catch(*_, **given):
        raise Caught(given["encoder_hidden_states"], given["pooled_projections"])

    pipe.transformer.forward = catch
    try:
        pipe(caption, guidance_scale=1.0, max_sequence_length=text_rows, num_inference_steps=1,
             height=side, width=side)
    except Caught as error:
        return [tensor[0].float().numpy() for tensor in error.args]
    raise AssertionError("the pipeline never called its transformer")


def share_of_limit(found, expected, rounding=ROUNDING):
    """At most 1 where all numbers are right."""
    error = np.abs(found.astype(np.float64) - expected)
    return (error / (SUMS + rounding * np.abs(expected))).max()


def check(name, found, expected, rounding=ROUNDING):
    share = share_of_limit(found, expected, rounding)
    print(f"{name}: up to {np.abs(expected).max():.2g}, at worst {share:.2f} of the limit")
    return share <= 1.0 and np.abs(expected).max() > 0.1


def check_task(given):
    tensors, metadata = tensor_file.read(given.task)
    side, text_rows = int(metadata["side"]), int(metadata["text_rows"])
    pairs = prepare_images.read_pairs(given.folder)
    pipe = StableDiffusion3Pipeline.from_pretrained(given.checkpoint)
    inpaint = StableDiffusion3InpaintPipeline.from_pipe(pipe)
    captions = sorted({caption for _, caption in pairs})
    text, pooled = zip(*(caught_text(pipe, caption, text_rows, side) for caption in captions))
    good = check("text", tensors["text"].array, np.stack(text))
    good &= check("pooled", tensors["pooled"].array, np.stack(pooled))
    expected = {}
    for index, (path, caption) in enumerate(pairs):
        pixels = torch.from_numpy(prepare_images.open_picture(path, side))[None]
        draw = prepare_images.draw_of(path, int(metadata["seed"]))
        with torch.no_grad():
            expected[index] = inpaint._encode_vae_image(pixels, draw)[0].numpy(), caption
    seen, right = set(), True
    for split in ("train", "dev", "test"):
        latents, rows = tensors[f"{split}.latents"].array, tensors[f"{split}.caption"].array
        for latent, row in zip(latents, rows):
            index = min(expected, key=lambda i: np.abs(expected[i][0] - latent).max())
            right &= share_of_limit(latent, expected[index][0]) <= 1.0
            right &= expected[index][1] == captions[row]
            seen.add(index)
    print(f"latents: {len(seen)} pictures of {len(pairs)} found, each with its caption: {right}")
    return good and right and len(seen) == len(pairs)


def check_decoded(folder):
    recorded = {name: tensor.array for name, tensor
                in tensor_file.read(folder / "expected.safetensors")[0].items()}
    model = sample_images.load_transformer(folder, "cpu", torch.float32)
    given = {name: torch.from_numpy(recorded[name].copy()) for name in recorded}
    with torch.no_grad():
        output = model(hidden_states=given["latents"], encoder_hidden_states=given["text"],
                       pooled_projections=given["pooled"], timestep=given["timesteps"],
                       return_dict=False)[0].numpy()
    return check("4-bit outputs", output, recorded["output"], 0.0)


def main():
    parser = command_line.parser_of(__doc__)
    for name in ("folder", "task", "checkpoint"):
        parser.add_argument(name, type=Path)
    parser.add_argument("fixture", type=Path, nargs="?")
    given = parser.parse_args()
    good = check_task(given)
    if given.fixture:
        good &= check_decoded(given.fixture)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
