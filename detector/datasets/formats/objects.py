"""One image's objects on their way in: every box is judged here, whatever the format it came in.

A box that cannot be true is left out and written down; the rest become `Annotations`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.datasets.dataset import Ledger, Sample
from detector.structures import Annotations

# Less of a box than this inside its image means coordinates of another convention or image.
MIN_INSIDE = 0.5
# So far beyond 0 and 1 a share of the image is rounding.
SHARE_SLACK = 1e-3


class _Row(NamedTuple):
    """An object without its label, in the order of the columns of `Annotations`."""

    difficult: bool
    crowd: bool
    area: float
    xywh: tuple[float, ...]


class Objects:
    """Collects one image's objects: `add` takes what a file says, `sample` gives the image.

    size      (H, W) of the image, or None where nobody knows; then no box counts as outside
    shares    the file writes boxes as shares of the image
    complete  nothing that may be an object of this image has been left out
    """

    def __init__(
        self,
        file: str | Path,
        size: tuple[int, int] | None,
        ledger: Ledger,
        *,
        shares: bool = False,
    ) -> None:
        self.file, self.size, self.ledger, self.shares = file, size, ledger, shares
        self.complete = True
        self._rows: dict[tuple[int, tuple[float, ...]], _Row] = {}

    def add(
        self,
        identifier: object,
        box: Sequence[float],
        label: int,
        *,
        difficult: bool = False,
        crowd: bool = False,
        area: float | None = None,
        written: Sequence[float] | None = None,
        sides: Sequence[float] | None = None,
    ) -> None:
        """One object with its xyxy box.

        identifier  how the file would call it;  written  the box in the file's own numbers
        sides       width and height, where the file gives these
        """
        fault = _fault_of(box, self.size, box if written is None else written, self.shares)
        if fault is None and (label, tuple(box)) in self._rows:
            fault = ("duplicate", "the same box with the same class was there before")
        if fault is not None:
            self.leave_out(identifier, *fault)
            return
        width, height = (box[2] - box[0], box[3] - box[1]) if sides is None else sides
        if area is None or not (math.isfinite(area) and area > 0):
            area = width * height
        xywh = (box[0], box[1], width, height)
        self._rows[label, tuple(box)] = _Row(difficult, crowd, area, xywh)

    def leave_out(self, identifier: object, rule: str, why: str) -> None:
        """Write down an object that is not understood. It lies somewhere in the image, all the
        same, so that nothing there is known to be background.
        """
        self.ledger.drop(self.file, identifier, rule, why)
        self.complete = self.complete and rule == "duplicate"

    def sample(self, image_id: str, path: Path) -> Sample:
        """The image with its objects; one of which objects were left out gives no background."""
        return Sample(
            image_id, path, self.size, self.annotations(), positives_only=not self.complete
        )

    def annotations(self) -> Annotations:
        if not self._rows:
            return Annotations.empty()
        labels, boxes = zip(*self._rows, strict=True)
        columns = map(np.array, zip(*self._rows.values(), strict=True))
        return Annotations(np.array(boxes), np.array(labels), *columns)


def _fault_of(
    box: Sequence[float], size: tuple[int, int] | None, written: Sequence[float], shares: bool
) -> tuple[str, str] | None:
    """The rule that a box breaks and how, or None. Judged at the float32 in which it will live."""
    text = "(" + ", ".join(f"{side:.6g}" for side in written) + ")"
    if not all(math.isfinite(side) and abs(side) < 1e9 for side in box):
        return "not-finite", f"box {text} is not finite"
    x1, y1, x2, y2 = (float(side) for side in np.asarray(box, np.float32))
    if x2 < x1 or y2 < y1:
        return "negative", f"box {text} has a negative side"
    if x2 == x1 or y2 == y1:
        return "degenerate", f"box {text} has no area"
    if not shares and (size is None or min(size) > 1) and _lies_in_one_pixel(x1, y1, x2, y2):
        return "normalised", f"box {text} lies within the first pixel"
    if size is None:
        return None
    height, width = size
    inside = max(0.0, min(x2, width) - max(x1, 0.0)) * max(0.0, min(y2, height) - max(y1, 0.0))
    if inside < MIN_INSIDE * (x2 - x1) * (y2 - y1):
        if shares and not all(-SHARE_SLACK <= side <= 1 + SHARE_SLACK for side in written):
            return "not-normalised", f"{text} has values outside 0 to 1"
        return "outside", f"box {text} is mostly outside its image of {width}x{height} pixels"
    return None


def _lies_in_one_pixel(*corners: float) -> bool:
    """Whether these are shares of the image: a box within its first pixel is no object's."""
    return all(0 <= side <= 1 for side in corners) and any(side % 1 for side in corners)
