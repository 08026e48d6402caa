"""Detections drawn on the photograph: boxes, names and scores, legible on any background."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detector.structures import Array, Detections

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw as Canvas

Colour = tuple[int, int, int]


def colour_of(label: int) -> Colour:
    """A colour of its own for each class: hues a golden angle apart, so that neighbours differ."""
    hue = (label * 0.618033988749895) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Array, found: Detections, classes: Sequence[str]) -> Image:
    """The picture with its detections; the best are drawn last, on top."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    side = math.sqrt(picture.width * picture.height)  # of a strip, the longer one is too much
    line = max(2, round(side / 250))
    font = ImageFont.load_default(size=max(11, round(side / 38)))
    for row in reversed(range(len(found))):
        label = int(found.labels[row])
        x1, y1, x2, y2 = found.boxes[row].tolist()
        colour = colour_of(label)
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
        text = f"{classes[label]} {found.scores[row]:.2f}"
        _tag(canvas, text, (x1, y1), colour, font, picture.size)
    return picture


def _tag(
    canvas: Canvas,
    text: str,
    at: tuple[float, float],
    colour: Colour,
    font: object,
    size: tuple[int, int],
) -> None:
    """Text on a block of the box's colour: above the corner where there is room, else inside."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)  # type: ignore[arg-type]
    width, height = right - left + 6, bottom - top + 6
    x = max(0.0, min(at[0], size[0] - width))
    y = at[1] - height if at[1] >= height else at[1]
    canvas.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    canvas.text((x + 3 - left, y + 3 - top), text, fill=ink, font=font)  # type: ignore[arg-type]
