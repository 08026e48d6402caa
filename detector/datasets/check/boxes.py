"""Checks of all boxes at once, for every format."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detector.boxes import reachable
from detector.datasets.check.findings import Findings
from detector.datasets.check.index import Index
from detector.datasets.formats.objects import MIN_INSIDE, SHARE_SLACK
from detector.structures import Array

LARGEST = 1e9
SLACK = 1.0
"""Pixels beyond the image that count as rounding."""
LEAST_PROPOSAL, LONGEST_SIDE = 20, 500
"""Defaults of selective search: narrower boxes are dropped, in pixels of the image shrunk to this
longer side.
"""
FEWEST = 4
"""Fewest boxes for telling one convention from another."""


def judge_boxes(index: Index, findings: Findings) -> None:
    """Add a finding for each faulty box; only the gravest fault of a box counts."""
    boxes = index.boxes
    if not boxes.written:
        return
    written, sizes = _as_floats(index), sizes_of(index)
    finite = np.asarray((np.isfinite(written) & (np.abs(written) < LARGEST)).all(1))
    with np.errstate(invalid="ignore", over="ignore"):
        xyxy = index.reading.xyxy(written, sizes)
    swapped = _swapped(index, written[finite], sizes[finite])
    if swapped:
        findings.add(index.boxes.file[0], "all boxes", "swapped", swapped)
    open_ = np.ones(len(written), bool)
    for rule, bad, why in _faults(index, written, xyxy, sizes, finite, bool(swapped)):
        for row in np.flatnonzero(bad & open_):
            findings.add(boxes.file[row], boxes.id[row], rule, why.format(_shown(written[row])))
        open_ &= ~bad
    for row in np.flatnonzero(_repeated(index, written) & finite):
        why = f"box {_shown(written[row])} of this class was there before"
        findings.add(boxes.file[row], boxes.id[row], "duplicate", why)


def judge_reach(index: Index, findings: Findings) -> None:
    """Add a note for all images, and one for all objects, that are too small for proposals."""
    narrow = [picture for picture in index.pictures if _is_narrow(picture.true or picture.declared)]
    if narrow:
        why = (
            f"{len(narrow)} of {len(index.pictures)} images have a side under {LEAST_PROPOSAL}"
            " pixels, so that only the whole image is proposed"
        )
        findings.add(narrow[0].file, narrow[0].id, "below-proposals", why)
    if not index.boxes.written:
        return
    sizes = sizes_of(index)
    with np.errstate(invalid="ignore", over="ignore"):
        sides = index.reading.xyxy(_as_floats(index), sizes)
        sides = sides[:, 2:] - sides[:, :2]
        small = (sides > 0).all(1) & ~reachable(sides, sizes, LEAST_PROPOSAL, LONGEST_SIDE)
    small &= np.isfinite(sizes).all(1) & (sizes.min(1) > 1)
    if small.any():
        row = int(np.flatnonzero(small)[0])
        why = (
            f"{small.sum()} of {len(small)} objects, this one of {sides[row, 0]:.0f} x"
            f" {sides[row, 1]:.0f} pixels, are too small for a proposal, of which no side is under"
            f" {LEAST_PROPOSAL} where the longer side of the image is at most {LONGEST_SIDE}"
        )
        findings.add(index.boxes.file[row], index.boxes.id[row], "below-proposals", why)


def _is_narrow(size: tuple[int, int] | None) -> bool:
    return size is not None and min(size) * min(1, LONGEST_SIDE / max(size)) < LEAST_PROPOSAL


def sizes_of(index: Index) -> Array:
    """Image size (H, W) of each box: (N, 2), as declared, else as decoded, else infinite.

    For fractions of an image of unknown size, it is one pixel.
    """
    unknown = (1, 1) if index.reading.shares else (np.inf, np.inf)
    known = np.array(
        [picture.declared or picture.true or unknown for picture in index.pictures], np.float64
    )
    return known[np.array(index.boxes.picture, int)]


def _as_floats(index: Index) -> Array:
    return np.array(index.boxes.written, np.float64).reshape(-1, 4)


def _faults(
    index: Index, written: Array, xyxy: Array, sizes: Array, finite: Array, swapped: bool
) -> Iterator[tuple[str, Array, str]]:
    """Yield (rule, mask (N,) of boxes, reason), the gravest first."""
    yield "not-finite", ~finite, "box {} is not finite"
    # In float32, as the readers store and check them (formats/objects.py).
    xyxy = np.where(finite[:, None], xyxy, 0).astype(np.float32).astype(np.float64)
    width, height = (xyxy[:, 2:] - xyxy[:, :2]).T
    if swapped:
        return
    yield "negative", (width < 0) | (height < 0), "box {} has a negative side"
    yield "degenerate", (width == 0) | (height == 0), "box {} has no area"
    if index.reading.shares:
        beyond = (written < -SHARE_SLACK) | (written > 1 + SHARE_SLACK)
        yield "not-normalised", np.asarray(beyond.any(1)), "{} has values outside 0 to 1"
    else:
        within = (xyxy >= 0).all(1) & (xyxy <= 1).all(1) & (xyxy % 1 != 0).any(1)
        yield "normalised", within & (sizes.min(1) > 1), "box {} lies within the first pixel"
    low, high = np.maximum(xyxy[:, :2], 0), np.minimum(xyxy[:, 2:], sizes[:, ::-1])
    inside = np.clip(high - low, 0, None).prod(1)
    outside = inside < MIN_INSIDE * width * height
    yield "outside", outside, "box {} is mostly outside its image"
    over = np.maximum(-xyxy[:, :2].min(1), (xyxy[:, 2:] - sizes[:, ::-1]).max(1))
    in_pixels = sizes.min(1) > 1
    yield "beyond-edge", (over > SLACK) & in_pixels, "box {} reaches over the edge"
    short, long = np.minimum(width, height), np.maximum(width, height)
    yield "tiny", (short < 2) & in_pixels, "box {} has a side under 2 pixels"
    yield "extreme-aspect", (long > 25 * short) & in_pixels, "box {} is a stripe"
    whole = inside >= 0.995 * sizes.prod(1)
    yield "whole-image", whole & np.isfinite(sizes).all(1), "box {} covers the image"


def _swapped(index: Index, written: Array, sizes: Array) -> str | None:
    """Explain why the boxes seem to be in another convention, or None.

    In the format's convention a fifth of them is impossible, in the other nearly all are possible.
    """
    if len(written) < FEWEST:
        return None
    how = index.reading
    wrong = ~_plausible(how.xyxy(written, sizes), sizes, how.shares)
    right = _plausible(how.instead(written, sizes), sizes, how.shares)
    if wrong.mean() < 0.2 or right.mean() < 0.98:
        return None
    return (
        f"{wrong.sum()} of {len(wrong)} boxes cannot be {how.name}, "
        f"but {right.sum()} can be {how.instead_name}"
    )


def _plausible(xyxy: Array, sizes: Array, shares: bool) -> Array:
    slack = sizes[:, ::-1] * 1e-3 if shares else SLACK
    sides = xyxy[:, 2:] > xyxy[:, :2]
    inside = (xyxy[:, :2] >= -slack) & (xyxy[:, 2:] <= sizes[:, ::-1] + slack)
    return np.asarray((sides & inside).all(1))


def _repeated(index: Index, written: Array) -> Array:
    """Mask (N,) of rows with the image, label and box of an earlier one."""
    keys = np.column_stack([index.boxes.picture, index.boxes.label, written])
    order = np.lexsort(keys.T)
    again = (keys[order][1:] == keys[order][:-1]).all(1)
    repeated = np.zeros(len(keys), bool)
    repeated[order[1:][again]] = True
    return repeated


def _shown(box: Array) -> str:
    return "(" + ", ".join(f"{side:.6g}" for side in box) + ")"
