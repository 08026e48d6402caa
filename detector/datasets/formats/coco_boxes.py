"""Boxes and outlines of COCO's annotations, in whatever numbers JSON of strangers holds."""

import math
from typing import Any, TypeGuard

import numpy as np


def is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)  # Python's True is an int


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_float(value: int | float) -> float:
    """An integer beyond the range of a float is infinite, so that its box is left out."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def box_of(entry: Any) -> list[float] | None:
    """x, y, width, height: `bbox`, or, where there is none, the box of the outline."""
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
        written = [as_float(side) for side in box]
        if written[2] != 0 and written[3] != 0:
            return written
        return _box_of_outline(entry.get("segmentation")) or written
    if box is None or box == [] or box == {}:
        return _box_of_outline(entry.get("segmentation")) if isinstance(entry, dict) else None
    return None


def _box_of_outline(outline: Any) -> list[float] | None:
    """Box polygons or a run-length mask; None where it is neither or has no point."""
    if isinstance(outline, dict):
        return _box_of_mask(outline.get("size"), outline.get("counts"))
    if not isinstance(outline, list) or not outline:
        return None
    # A single polygon may come without its outer list.
    polygons = [outline] if all(map(is_number, outline)) else outline
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(is_number, polygon)):
            return None
    x = [as_float(side) for polygon in polygons for side in polygon[0::2]]
    y = [as_float(side) for polygon in polygons for side in polygon[1::2]]
    if len(x) < 2:
        return None
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _box_of_mask(size: Any, counts: Any) -> list[float] | None:
    # It goes down the columns: so many pixels without, so many with, so many without, ...
    if not (isinstance(size, list) and len(size) == 2 and all(map(is_whole, size))):
        return None
    height, width = size
    if isinstance(counts, str):
        counts = _unpacked(counts)
    # Bounded, so that the sum fits into int64.
    if not isinstance(counts, list) or not all(is_whole(n) and 0 <= n < 2**40 for n in counts):
        return None
    ends = np.cumsum([0, *counts], dtype=np.int64)
    if height < 1 or width < 1 or ends[-1] != height * width:
        return None
    start, stop = ends[1:-1:2], ends[2::2]
    start, stop = start[stop > start], stop[stop > start] - 1  # the last pixel of each run
    if not len(start):
        return None
    left, right = int(start.min() // height), int(stop.max() // height)
    # A run that goes on in the next column reaches from edge to edge.
    spans = (start // height) != (stop // height)
    top = 0 if spans.any() else int((start % height).min())
    bottom = height - 1 if spans.any() else int((stop % height).max())
    return [left, top, right - left + 1, bottom - top + 1]


def _unpacked(text: str) -> list[int] | None:
    # As pycocotools packs them: groups of five bits, the sixth says that more follow; from the
    # third count on as differences to the last but one.
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return None if shift else counts
