"""Checks of all boxes at once, for every format."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from detector.boxes import reachable
from detector.datasets.check.index import Index
from detector.datasets.dataset import Ledger
from detector.datasets.formats.entries import Boxes, Fault
from detector.structures import Array

# Pixels beyond the image that count as rounding.
SLACK = 1.0
# Defaults of selective search: narrower boxes are dropped, in pixels of the image shrunk to this
# longer side.
MIN_BOX_SIDE, LONGEST_SIDE = 20, 500
# Fewest boxes for telling one convention from another.
FEWEST = 4


def judge_boxes(index: Index, ledger: Ledger) -> None:
    """Record each faulty box; only the gravest fault of a box counts."""
    boxes = index.boxes
    if not boxes.rows:
        return
    faults, remarks = boxes.faults(), _remarks(boxes)
    if swapped := _swapped(boxes):
        ledger.add(index.pictures[boxes.image[0]].file, "all boxes", "swapped", swapped)
        # Which of the boxes are impossible in the wrong convention tells nothing.
        faults, remarks = islice(faults, 1), iter(())
    found = boxes.first_faults(faults)
    for these in (boxes.first_faults(remarks) | found, boxes.repeats(found.keys())):
        for row in sorted(these):
            ledger.add(index.pictures[boxes.image[row]].file, boxes.rows[row].id, *these[row])


# Faults that a training takes all the same, the gravest first.
def _remarks(boxes: Boxes) -> Iterator[Fault]:
    yield "not-normalised", boxes.beyond, "{0} has values outside 0 to 1"
    yield "outside", boxes.mostly_outside, "box {0} is mostly outside its image{1}"
    over = np.maximum(
        -boxes.stored[:, :2].min(1), (boxes.stored[:, 2:] - boxes.sizes[:, ::-1]).max(1)
    )
    # Not where a YOLO image's size is unknown: its shares are judged on one pixel (Index.boxes).
    in_pixels = boxes.sizes.min(1) > 1
    yield "beyond-edge", (over > SLACK) & in_pixels, "box {0} reaches over the edge"
    short, long = boxes.sides.min(1), boxes.sides.max(1)
    yield "tiny", (short < 2) & in_pixels, "box {0} has a side under 2 pixels"
    yield "extreme-aspect", (long > 25 * short) & in_pixels, "box {0} is a stripe"
    whole = boxes.inside >= 0.995 * boxes.sizes.prod(1)
    yield "whole-image", whole & np.isfinite(boxes.sizes).all(1), "box {0} covers the image"


def _swapped(boxes: Boxes) -> str | None:
    # In the format's convention a fifth of them is impossible, in the other nearly all are
    # possible.
    how, written, sizes = boxes.how, boxes.written[boxes.finite], boxes.sizes[boxes.finite]
    if len(written) < FEWEST:
        return None
    wrong = ~_plausible(boxes.xyxy[boxes.finite], sizes, how.shares)
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


def judge_reach(index: Index, ledger: Ledger) -> None:
    """Record one note for all images, and one for all objects, that are too small for proposals."""
    narrow = [p for p in index.pictures if _is_narrow(p.true or p.entry.size)]
    if narrow:
        why = (
            f"{len(narrow)} of {len(index.pictures)} images have a side under {MIN_BOX_SIDE}"
            " pixels, so that only the whole image is proposed"
        )
        ledger.add(narrow[0].file, narrow[0].id, "below-proposals", why)
    boxes = index.boxes
    if not boxes.rows:
        return
    small = (boxes.sides > 0).all(1) & np.isfinite(boxes.sizes).all(1) & (boxes.sizes.min(1) > 1)
    with np.errstate(invalid="ignore"):  # of unknown sizes
        small &= ~reachable(boxes.sides, boxes.sizes, MIN_BOX_SIDE, LONGEST_SIDE)
    if small.any():
        row = int(np.flatnonzero(small)[0])
        width, height = boxes.sides[row]
        why = (
            f"{small.sum()} of {len(small)} objects, this one of {width:.0f} x {height:.0f} pixels,"
            " are too small for a proposal, of which no side is under"
            f" {MIN_BOX_SIDE} where the longer side of the image is at most {LONGEST_SIDE}"
        )
        file = index.pictures[boxes.image[row]].file
        ledger.add(file, boxes.rows[row].id, "below-proposals", why)


def _is_narrow(size: tuple[int, int] | None) -> bool:
    return size is not None and min(size) * min(1, LONGEST_SIDE / max(size)) < MIN_BOX_SIDE
