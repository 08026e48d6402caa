"""Drawing of detections on an image: boxes, names and scores, legible on any background."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from detector.images.lettering import font_of
from detector.images.levels import Array

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw as Canvas

Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]
# Pixels around the letters of a name.
MARGIN = 3


class Scored(Protocol):
    """Detections: boxes (N, 4) in xyxy pixels, best first, their scores and labels (N,)."""

    @property
    def boxes(self) -> Array: ...
    @property
    def scores(self) -> Array: ...
    @property
    def labels(self) -> Array: ...


def colour_of(label: int) -> Colour:
    """Colour of a class; hues are a golden angle apart, so that neighbours differ."""
    hue = (label * 0.618033988749895) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Array, found: Scored, classes: Sequence[str]) -> Image:
    """Draw detections on a copy of the image (H, W, 3); the best come last, on top, and all names
    above all boxes. `classes` are drawable names (lettering.py).
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    side = math.sqrt(picture.width * picture.height)  # the longer side of a strip is too large
    line = max(2, round(side / 250))
    tags = tags_of(canvas, found, classes, max(11, round(side / 38)), picture.size)
    colours = [colour_of(label) for label in found.labels.tolist()]
    for (x1, y1, x2, y2), colour in zip(found.boxes[::-1].tolist(), colours[::-1], strict=True):
        # x2 and y2 are exclusive here, and inclusive in Pillow.
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
    for tag, colour in zip(tags[::-1], colours[::-1], strict=True):
        write_tag(canvas, tag, colour)
    return picture


class Tag(NamedTuple):
    """A name and a score, the block behind it, and where in the block its letters begin."""

    text: str
    block: Corners
    start: tuple[float, float]
    font: Any


def tags_of(
    canvas: Canvas, found: Scored, classes: Sequence[str], size: int, room: tuple[int, int]
) -> list[Tag]:
    """Tags for all detections, in letters of this size; the best are placed first.

    room  (W, H) of the picture
    """
    tags: list[Tag] = []
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        text = f"{classes[int(label)]} {score:.2f}"
        tags.append(place_tag(canvas, text, box.tolist(), size, room, tags))
    return tags


def place_tag(
    canvas: Canvas,
    text: str,
    box: list[float],
    size: int,
    room: tuple[int, int],
    tags: Sequence[Tag],
) -> Tag:
    """Place a tag inside the picture where no other is, or where it covers least: above its box,
    inside above, inside below, below; left before right.
    """
    font = font_of(text, size)
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    if right - left + 2 * MARGIN > room[0]:
        smaller = int(size * (room[0] - 2 * MARGIN) / (right - left))
        font = font_of(text, max(5, smaller))
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    x1, y1, x2, y2 = box
    corners = [
        (x, y)
        for y in (y1 - height, y1, y2 - height, y2)
        for x in (x1, x2 - width)
        if 0 <= y <= room[1] - height
    ] or [(x1, y1)]
    blocks = [_within(x, y, width, height, room) for x, y in corners]
    covered = [sum(shared(block, other.block) for other in tags) for block in blocks]
    block = blocks[covered.index(min(covered))]
    return Tag(text, block, (block[0] + MARGIN - left, block[1] + MARGIN - top), font)


def _within(x: float, y: float, width: float, height: float, room: tuple[int, int]) -> Corners:
    x, y = (max(0.0, min(at, end)) for at, end in ((x, room[0] - width), (y, room[1] - height)))
    return x, y, x + width, y + height


def shared(block: Corners, other: Corners) -> float:
    """The area in pixels that two blocks share."""
    width = min(block[2], other[2]) - max(block[0], other[0])
    height = min(block[3], other[3]) - max(block[1], other[1])
    return max(0.0, width) * max(0.0, height)


def write_tag(canvas: Canvas, tag: Tag, colour: Colour) -> None:
    """Draw the letters of a tag on a block of the box's colour."""
    x1, y1, x2, y2 = tag.block
    canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
    # Luma of Rec. 601.
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    canvas.text(tag.start, tag.text, fill=ink, font=tag.font)
