#!/usr/bin/env python3
"""Draws a toy set of pictures with captions: make_toy_images.py OUT STYLE [--count 500] [--seed 0].

Four shapes in six colours, "a red circle", in one of two styles: `flat` is a filled shape on a
light ground, `chalk` its outline on a dark one. `both` mixes them nine to one and says of the
latter "a red circle in chalk". Writes NNNNN.png and metadata.jsonl, as tools/prepare_images.py
reads them. Needs Pillow and numpy.
"""
import json
from pathlib import Path

import command_line

STYLES = ("flat", "chalk", "both")


def parse_arguments():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("style", choices=STYLES)
    parser.add_argument("--count", type=command_line.whole(1), default=500)
    parser.add_argument("--side", type=command_line.whole(1), default=32, help="in pixels")
    parser.add_argument("--seed", type=command_line.whole(0), default=0)
    return parser.parse_args()


given_arguments = parse_arguments() if __name__ == "__main__" else None
with command_line.needed("requirements-images.txt"):
    import numpy as np
    from PIL import Image, ImageDraw

COLOURS = {"red": (214, 40, 40), "green": (42, 157, 80), "blue": (35, 87, 196),
           "yellow": (240, 190, 20), "purple": (130, 50, 170), "orange": (240, 120, 30)}
SHAPES = ("circle", "square", "triangle", "diamond")
FINER = 4  # drawn so many times larger, against stairs
CHALK_SHARE = 0.1


def outline_of(shape, x, y, radius):
    """Corners, and of a circle many."""
    if shape == "circle":
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    elif shape == "triangle":
        angles = np.pi * (np.array([0, 2, 4]) / 3 - 0.5)
    else:
        angles = np.pi * (np.arange(4) / 2 + (0.25 if shape == "square" else 0.0))
    return [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]


def picture_of(draw, side, shape, colour, style):
    size = side * FINER
    ground = draw.integers(235, 250) if style == "flat" else draw.integers(20, 35)
    image = Image.new("RGB", (size, size), (int(ground),) * 3)
    radius = draw.uniform(0.28, 0.38) * size
    x, y = size / 2 + draw.uniform(-0.08, 0.08, 2) * size
    corners = outline_of(shape, x, y, radius)
    pen = ImageDraw.Draw(image)
    if style == "flat":
        pen.polygon(corners, fill=COLOURS[colour])
    else:
        pen.line([*corners, *corners[:2]], fill=COLOURS[colour], width=size // 11, joint="curve")
    return image.resize((side, side), Image.Resampling.BOX)


def main(given):
    given.out.mkdir(parents=True, exist_ok=True)
    draw, rows = np.random.default_rng(given.seed), []
    for index in range(given.count):
        shape, colour = str(draw.choice(SHAPES)), str(draw.choice(list(COLOURS)))
        style, caption = given.style, f"a {colour} {shape}"
        if style == "both":
            style = "chalk" if draw.uniform() < CHALK_SHARE else "flat"
            caption += " in chalk" if style == "chalk" else ""
        name = f"{index:05d}.png"
        picture_of(draw, given.side, shape, colour, style).save(given.out / name)
        rows.append(json.dumps({"file_name": name, "text": caption}) + "\n")
    (given.out / "metadata.jsonl").write_text("".join(rows))
    print(f"{given.out}: {given.count} pictures of {given.side} x {given.side}")


if __name__ == "__main__":
    main(given_arguments)
