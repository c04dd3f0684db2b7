#!/usr/bin/env python3
"""Makes a prepared task of a folder of pictures with captions, for diffusion transformers:

    prepare_images.py FOLDER OUT.qzt --model CHECKPOINT [--side 512] [--dev N] [--test N]
                      [--vae FOLDER] [--text-encoders CHECKPOINT] [--text-rows 256]

FOLDER holds NAME.png (or jpg, jpeg, webp, bmp) with NAME.txt beside each, or a metadata.jsonl with
"file_name" and "text" per line, as Hugging Face's imagefolder has it. CHECKPOINT is a folder of
Stable Diffusion 3 or 3.5 in diffusers' layout: its VAE makes the latents (one draw per picture,
seeded), its text encoders the embeddings, so that none of them runs during training. Of the
transformer only config.json is read. --vae is the folder of another VAE, --text-encoders another
checkpoint whose text encoders are taken. A picture is turned as its camera says, laid on white,
scaled so that its shorter side fits and cut about its middle. Latents and embeddings are stored as
float16: with 77 + 256 rows of text a caption takes 2.7 MB (captions that are equal share it).
Needs tools/requirements-images.txt. docs/task-file.md describes the file.
"""
import json
import sys
from pathlib import Path

import numpy as np
import xxhash

import command_line
from prepare_task import write_task

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
SPLIT_SHARE, SPLIT_MAX = 10, 500  # dev and test: a tenth of the pictures, at most so many
TRANSFORMER = "transformer"


class ImageError(Exception):
    """What is wrong with the input, for the user."""


# --- pictures and captions ----------------------------------------------------------------------


def pairs_of_metadata(folder, path, field):
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pairs.append((folder / row["file_name"], row[field]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ImageError(f"{path}, line {number}: expected an object with \"file_name\" and "
                             f"\"{field}\": {error!r}") from error
    return pairs


def read_pairs(folder, field="text"):
    """[(picture, caption)] in the order of the files' names."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: expected a folder of pictures")
    metadata = folder / "metadata.jsonl"
    if metadata.exists():
        pairs = pairs_of_metadata(folder, metadata, field)
    else:
        pictures = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        pairs = [(path, path.with_suffix(".txt")) for path in pictures]
        missing = [path for path, caption in pairs if not caption.exists()]
        if missing:
            raise ImageError(f"{missing[0]}: expected its caption in {missing[0].stem}.txt, or a "
                             f"metadata.jsonl in {folder} ({len(missing)} pictures without one)")
        pairs = [(path, caption.read_text(encoding="utf-8").strip()) for path, caption in pairs]
    for path, caption in pairs:
        if not isinstance(caption, str) or not path.is_file():
            raise ImageError(f"{path}: expected a picture with a text as its caption")
    if not pairs:
        raise ImageError(f"{folder}: no metadata.jsonl and no picture that ends in "
                         f"{', '.join(sorted(SUFFIXES))}")
    return sorted(pairs)


def check_pictures(pairs):
    """The heads of all files, before anything that takes long."""
    from PIL import Image

    for path, _ in pairs:
        try:
            Image.open(path).close()
        except OSError as error:
            raise ImageError(f"{path}: not a picture that Pillow reads: {error}") from error


def open_picture(path, side):
    """(3, side, side) in [-1, 1]"""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGBA")
    except OSError as error:
        raise ImageError(f"{path}: cannot be decoded: {error}") from error
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1.0


# --- encoders -----------------------------------------------------------------------------------


def load_pipeline(model, vae=None, text_encoders=None, dtype=None):
    """diffusers' pipeline with a transformer that has a shape and no weights."""
    import torch
    from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline

    for folder in filter(None, (model, text_encoders)):
        if not (folder / "model_index.json").exists():
            raise ImageError(f"{folder}: expected a checkpoint in diffusers' layout "
                             "(model_index.json), with the VAE and the text encoders")
    given = {"dtype": dtype or torch.float32}
    with torch.device("meta"):
        config = SD3Transformer2DModel.load_config(model, subfolder=TRANSFORMER)
        shape = SD3Transformer2DModel.from_config(config)
    parts = {TRANSFORMER: shape}
    if vae is not None:
        parts["vae"] = AutoencoderKL.from_pretrained(vae, **given)
    if text_encoders is not None:
        other = StableDiffusion3Pipeline.from_pretrained(text_encoders, transformer=shape, vae=None,
                                                         **given)
        parts |= {name: part for name, part in other.components.items()
                  if name.startswith(("text_encoder", "tokenizer"))}
    return StableDiffusion3Pipeline.from_pretrained(model, **parts, **given)


def move_text_encoders(pipe, device):
    for encoder in (pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3):
        if encoder is not None:
            encoder.to(device)


def encode_captions(pipe, captions, text_rows, device):
    """text (captions, rows, width) and pooled (captions, width) of different captions"""
    import torch

    move_text_encoders(pipe, device)
    texts, pooled = [], []
    with torch.no_grad():
        for caption in captions:
            embeds, _, pooled_embeds, _ = pipe.encode_prompt(
                caption, None, None, device=device, do_classifier_free_guidance=False,
                max_sequence_length=text_rows)
            texts.append(to_half(embeds[0], f"the embedding of {caption!r}"))
            pooled.append(to_half(pooled_embeds[0], f"the embedding of {caption!r}"))
    move_text_encoders(pipe, "cpu")
    return np.stack(texts), np.stack(pooled)


def to_half(tensor, name):
    array = tensor.float().cpu().numpy().astype(np.float16)
    if not np.isfinite(array).all():
        raise ImageError(f"{name} has numbers that are not finite in float16")
    return array


def draw_of(path, seed):
    """A picture's own: its name decides, whatever stands beside it."""
    import torch

    return torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(path.name.encode(), seed) >> 1)


def encode_pictures(pipe, pairs, side, seed, device):
    """Latents (pictures, channels, height, width) as the transformer sees them"""
    import torch

    vae = pipe.vae.to(device)
    latents = []
    with torch.no_grad():
        for path, _ in pairs:
            pixels = torch.from_numpy(open_picture(path, side))[None].to(device, vae.dtype)
            latent = vae.encode(pixels).latent_dist.sample(draw_of(path, seed))[0].float()
            latent = (latent - vae.config.shift_factor) * vae.config.scaling_factor
            latents.append(to_half(latent, str(path)))
    return np.stack(latents)


# --- the file -----------------------------------------------------------------------------------


def split_sizes(count, given):
    """Pictures of train, dev and test."""
    share = min(count // SPLIT_SHARE, SPLIT_MAX)
    dev = share if given.dev is None else given.dev
    test = share if given.test is None else given.test
    train = count - dev - test if given.train is None else given.train
    if min(train, dev) < 1 or test < 0 or train + dev + test > count:
        raise ImageError(f"{count} pictures: expected at least one for train and for dev, found "
                         f"{train} for train, {dev} for dev and {test} for test")
    return train, dev, test


def tensors_of(pipe, pairs, sizes, given, device):
    """Pictures go to the splits in a random order that --seed chooses."""
    order = np.random.default_rng(given.seed).permutation(len(pairs))[: sum(sizes)]
    pairs = [pairs[i] for i in sorted(order)]
    captions = sorted({caption for _, caption in pairs})
    row = {caption: i for i, caption in enumerate(captions)}
    text, pooled = encode_captions(pipe, captions, given.text_rows, device)
    latents = encode_pictures(pipe, pairs, given.side, given.seed, device)
    tensors, first = {"text": text, "pooled": pooled}, 0
    place = np.argsort(np.argsort(order))  # where a picture of the order lies among the sorted
    for split, count in zip(("train", "dev", "test"), sizes):
        chosen = place[first : first + count]
        tensors[f"{split}.latents"] = latents[chosen]
        tensors[f"{split}.caption"] = np.array([row[pairs[i][1]] for i in chosen], np.int32)
        first += count
    return tensors


def prepare(given):
    pairs = read_pairs(given.folder, given.caption_field)
    sizes = split_sizes(len(pairs), given)
    check_pictures(pairs)

    import torch  # takes seconds

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, given.dtype or ("float32" if device == "cpu" else "float16"))
    pipe = load_pipeline(given.model, given.vae, given.text_encoders, dtype)
    factor = pipe.vae_scale_factor * pipe.patch_size
    if given.side < 1 or given.side % factor != 0:
        raise ImageError(f"--side {given.side}: expected a multiple of {factor}, the VAE's factor "
                         "times the patch")
    tensors = tensors_of(pipe, pairs, sizes, given, device)
    write_task(given.out, tensors, {
        "qzo_images_version": "1", "name": given.name or given.folder.resolve().name,
        "side": str(given.side), "seed": str(given.seed), "text_rows": str(given.text_rows),
        "shift_factor": repr(pipe.vae.config.shift_factor),
        "scaling_factor": repr(pipe.vae.config.scaling_factor)})
    latents, text = tensors["train.latents"].astype(np.float64), tensors["text"]
    print(f"{given.out}: {sizes[0]} train, {sizes[1]} dev, {sizes[2]} test pictures of "
          f"{given.side} x {given.side}; {len(text)} captions of {text.shape[1]} rows; latents of "
          f"mean {latents.mean():.3f} and deviation {latents.std():.3f}")


def parse_arguments(arguments=None):
    parser = command_line.parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--vae", type=Path, metavar="FOLDER")
    parser.add_argument("--text-encoders", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--side", type=int, default=512, help="of a picture, in pixels")
    parser.add_argument("--text-rows", type=int, default=256,
                        help="tokens of T5 (diffusers' max_sequence_length)")
    parser.add_argument("--caption-field", default="text", help="of metadata.jsonl")
    parser.add_argument("--train", type=int, help="pictures; default: all others")
    parser.add_argument("--dev", type=int, help=f"default: a tenth, at most {SPLIT_MAX}")
    parser.add_argument("--test", type=int, help="the same")
    parser.add_argument("--seed", type=int, default=0, help="of splits and of the VAE's draws")
    parser.add_argument("--name", help="of the task; default: the folder's")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"),
                        help="of the encoders; default: float32 on a CPU, else float16")
    return parser.parse_args(arguments)


def main():
    given = parse_arguments()
    try:
        with command_line.needed("requirements-images.txt"):
            prepare(given)
    except (ImageError, OSError) as error:
        sys.exit(f"prepare_images: {error}")


if __name__ == "__main__":
    main()
