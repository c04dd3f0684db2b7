#!/usr/bin/env python3
"""Draws the same prompts with the same noises before and after tuning, side by side in one PNG:

    sample_images.py OUT.png --model CHECKPOINT --after FOLDER [--before FOLDER] [--prompts FILE]

CHECKPOINT is a folder of Stable Diffusion 3 or 3.5 in diffusers' layout; FOLDER a transformer that
`qzo export` wrote, 4-bit or not. Before is the checkpoint's own transformer unless another is given
(`qzo export DIR TRIAL --step 0 --to FOLDER` is the quantized one before tuning). FILE has a prompt
per line; eight are built in. A column is a prompt, its noise is that of --seed and its place. Where
there is no GPU, 4-bit weights are decoded to float32. Needs tools/requirements-images.txt.
"""
import json
import sys
from pathlib import Path

import command_line


def parse_arguments():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--after", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    parser.add_argument("--prompts", type=Path, metavar="FILE")
    parser.add_argument("--side", type=command_line.whole(1), default=512,
                        help="of a picture, in pixels")
    parser.add_argument("--steps", type=command_line.whole(1), default=28)
    parser.add_argument("--guidance", type=float, default=4.5)
    parser.add_argument("--seed", type=command_line.whole(0), default=0)
    parser.add_argument("--text-rows", type=command_line.whole(1), default=256,
                        help="tokens of T5")
    parser.add_argument("--scale", type=command_line.whole(1), default=1,
                        help="each pixel so many times as large")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    return parser.parse_args()


given_arguments = parse_arguments() if __name__ == "__main__" else None
with command_line.needed("requirements-images.txt"):
    import numpy as np

    import tensor_file
    from prepare_images import TRANSFORMER, ImageError, load_pipeline, move_text_encoders

PROMPTS = (
    "a lighthouse on a cliff", "a cat asleep on a windowsill", "a bowl of fruit on a table",
    "a steam train crossing a bridge", "an old man reading a newspaper", "a castle in the snow",
    "a red bicycle against a brick wall", "a sailing ship in a storm")
MARGIN, LINE = 6, 14  # pixels


# --- the transformer ----------------------------------------------------------------------------


def decoded(tensors):
    """Tensors of a bitsandbytes folder, its 4-bit weights as float32 matrices."""
    plain = {}
    for name, tensor in tensors.items():
        absmax = tensors.get(f"{name}.absmax")
        if absmax is not None:
            kind = next(key for key in tensors if key.startswith(f"{name}.quant_state."))
            state = json.loads(bytes(tensors[kind].array))
            if "nested_blocksize" in state:
                raise ImageError(f"{name}: its absmax is quantized too, which only a GPU decodes "
                                 "here")
            levels = tensors[f"{name}.quant_map"].array
            codes = tensor.array.reshape(-1)
            codes = np.stack([codes >> 4, codes & 15], axis=1).reshape(-1, state["blocksize"])
            plain[name] = (levels[codes] * absmax.array[:, None]).reshape(state["shape"])
        elif not any(mark in name for mark in (".absmax", ".quant_map", ".quant_state.")):
            plain[name] = tensor.as_float32()
    return plain


def load_transformer(folder, device, dtype):
    import torch
    from diffusers import SD3Transformer2DModel

    if not (folder / "config.json").exists():
        raise ImageError(f"{folder}: expected a transformer's folder with config.json")
    config = json.loads((folder / "config.json").read_text())
    if config.pop("quantization_config", None) is None or device != "cpu":
        return SD3Transformer2DModel.from_pretrained(folder, dtype=dtype).to(device).eval()
    tensors = {}
    for path in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
        tensors |= tensor_file.read(path)[0]
    model = SD3Transformer2DModel.from_config(config)
    model.load_state_dict({name: torch.from_numpy(np.array(array, np.float32))
                           for name, array in decoded(tensors).items()})
    return model.to(device, dtype).eval()


# --- pictures -----------------------------------------------------------------------------------


def embeddings_of(pipe, prompts, given, device):
    """What the pipeline takes instead of each prompt."""
    import torch

    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
             "negative_pooled_prompt_embeds")
    move_text_encoders(pipe, device)
    with torch.no_grad():
        made = [dict(zip(names, pipe.encode_prompt(prompt, None, None, device=device,
                                                   max_sequence_length=given.text_rows)))
                for prompt in prompts]
    move_text_encoders(pipe, "cpu")
    return made


def draw_all(pipe, transformer, embeddings, given):
    import torch
    from diffusers import StableDiffusion3Pipeline

    drawing = StableDiffusion3Pipeline(
        transformer=transformer, vae=pipe.vae, scheduler=pipe.scheduler, text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None,
        tokenizer_3=None)
    drawing.set_progress_bar_config(disable=True)
    return [drawing(**embeds, height=given.side, width=given.side, guidance_scale=given.guidance,
                    num_inference_steps=given.steps,
                    generator=torch.Generator().manual_seed(given.seed + i)).images[0]
            for i, embeds in enumerate(embeddings)]


def sheet_of(rows, labels, prompts, scale):
    """One picture: a row per transformer, a column per prompt."""
    from PIL import Image, ImageDraw

    side = rows[0][0].width * scale
    left = MARGIN + max(int(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(label))
                        for label in labels) + MARGIN
    sheet = Image.new("RGB", (left + len(prompts) * (side + MARGIN),
                              MARGIN + LINE + len(rows) * (side + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, prompt in enumerate(prompts):
        text = prompt
        while pen.textlength(text) > side:
            text = text.removesuffix("…")[:-1] + "…"
        pen.text((left + column * (side + MARGIN), MARGIN // 2), text, fill="black")
    for row, (label, pictures) in enumerate(zip(labels, rows)):
        top = MARGIN + LINE + row * (side + MARGIN)
        pen.text((MARGIN, top + side // 2), label, fill="black")
        for column, picture in enumerate(pictures):
            sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST),
                        (left + column * (side + MARGIN), top))
    return sheet


def sample(given):
    import torch

    prompts = list(PROMPTS)
    if given.prompts:
        prompts = [line.strip() for line in given.prompts.read_text().splitlines() if line.strip()]
        if not prompts:
            raise ImageError(f"{given.prompts}: expected a prompt per line")
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device == "cpu" else torch.float16
    pipe = load_pipeline(given.model, dtype=dtype)
    embeddings = embeddings_of(pipe, prompts, given, device)
    pipe.vae.to(device)
    rows = []
    for folder in (given.before or given.model / TRANSFORMER, given.after):
        rows.append(draw_all(pipe, load_transformer(folder, device, dtype), embeddings, given))
    sheet_of(rows, ("before", "after"), prompts, given.scale).save(given.out, optimize=True)
    pixels = [np.stack([np.asarray(picture, np.float64) for picture in row]) for row in rows]
    print(f"{given.out}: {len(prompts)} prompts; before and after differ by "
          f"{np.abs(pixels[0] - pixels[1]).mean():.1f} of 255 on average")


def main():
    try:
        with command_line.needed("requirements-images.txt"):
            sample(given_arguments)
    except (ImageError, OSError) as error:
        sys.exit(f"sample_images: {error}")


if __name__ == "__main__":
    main()
