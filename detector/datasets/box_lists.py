"""Lists of boxes without images: one image a line, `name x1 y1 x2 y2 class x1 y1 x2 y2 class ...`.

Coordinates are VOC's, 1-based and inclusive. The lists do not say how large an image is. Where
nothing else tells, the size is a guess from what is common among photographs of PASCAL VOC, whose
longer side is 500 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.boxes import xyxy_from_voc
from detector.errors import AnnotationError
from detector.structures import Array

FRAMES = ((375, 500), (333, 500), (500, 375), (500, 333), (500, 500))
"""(H, W), commonest first."""


def read_box_list(path: str | Path) -> dict[str, Array]:
    """(N, 4) float32 xyxy pixels by the image's name without its ending."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read as a list of boxes ({error})") from None
    found: dict[str, Array] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words[1:]]).reshape(-1, 5)
        except ValueError:
            raise AnnotationError(
                f"{path}: line {number}: expected a name and five numbers for each box"
            ) from None
        found[Path(words[0]).stem] = xyxy_from_voc(values[:, :4]).astype(np.float32)
    return found


def guessed_size(boxes: Array) -> tuple[int, int]:
    """(H, W): the commonest frame that holds all of (N, 4) boxes, or else as much as they need."""
    right, bottom = (float(side) for side in boxes[:, 2:].max(0)) if len(boxes) else (0.0, 0.0)
    for height, width in FRAMES:
        if right <= width and bottom <= height:
            return height, width
    return int(np.ceil(bottom)), int(np.ceil(right))


def fractions(lists: Mapping[str, Array], sizes: Mapping[str, tuple[int, int]]) -> Array:
    """(N, 4) boxes of all images as fractions of their sides: known sizes (H, W), or guessed ones.

    Boxes without an area are left out.
    """
    parts = [np.zeros((0, 4))]
    for name, boxes in lists.items():
        height, width = sizes.get(name) or guessed_size(boxes)
        parts.append(np.clip(boxes / [width, height, width, height], 0, 1))
    found = np.concatenate(parts)
    return found[(found[:, 2:] > found[:, :2]).all(1)]
