"""One image as its annotation file has it, and the judge of boxes: the same for every format.

The readers and the linter fill entries by the same code. A reader then leaves out each box that
cannot be true, with a line in the ledger; the linter judges the boxes of all entries at once.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.datasets.dataset import Ledger, Sample
from detector.datasets.image_files import frame_of
from detector.structures import Annotations, Array

LARGEST = 1e9  # pixels; no image is so large
# Less of a box than this inside its image means coordinates of another convention or image.
MIN_INSIDE = 0.5
# So far beyond 0 and 1 a share of the image is rounding.
SHARE_SLACK = 1e-3

# A rule, the mask (N,) of the boxes that break it, and why; `{0}` is the box, `{1}` its image.
Fault = tuple[str, Array, str]


class Convention(NamedTuple):
    """The meaning of a format's four numbers, and the convention that is confused with it.

    xyxy     (N, 4) written, (N, 2) sizes (H, W) -> (N, 4) pixels
    sides    the same arguments -> (N, 2) width and height
    instead  as `xyxy`, for the convention that is confused with it
    shares   the numbers are shares of the image
    """

    name: str
    xyxy: Callable[[Array, Array], Array]
    sides: Callable[[Array, Array], Array]
    instead_name: str
    instead: Callable[[Array, Array], Array]
    shares: bool = False


class Row(NamedTuple):
    """One object; `written` has the four numbers of its box as the file gives them."""

    id: str
    label: int
    written: Sequence[float]
    difficult: bool = False
    crowd: bool = False
    area: float = np.nan


@dataclass(eq=False)
class Entry:
    """One image and its objects before their boxes are judged.

    file      the annotation file, as the ledger calls it
    size      (H, W) of the image, or None where nobody knows; then no box counts as outside
    labelled  False where no annotation mentions the image
    complete  nothing that may be an object of this image has been left out
    """

    image_id: str
    path: Path
    file: str
    ledger: Ledger
    size: tuple[int, int] | None = None
    labelled: bool = True
    complete: bool = True
    rows: list[Row] = field(default_factory=list)

    def leave_out(self, identifier: str, rule: str, why: str) -> None:
        """Record an object that is not understood."""
        self.ledger.add(self.file, identifier, rule, why)
        # It lies somewhere in the image, so that nothing there is known to be background.
        self.complete = self.complete and rule == "duplicate"

    def has_true_size(self) -> bool:
        """Compare the declared size with the image's own; a difference is recorded.

        An unreadable image passes: what becomes of it is decided where images are decoded.
        """
        frame = frame_of(self.path)
        if self.size is None or frame is None or frame.size == self.size:
            return True
        why = wrong_size(self.size, frame.size)
        rule = "raw-frame" if frame.is_quarter_turned and self.size == frame.raw else "wrong-size"
        self.ledger.add(self.file, self.image_id, rule, why)
        return False


def samples_of(entries: Sequence[Entry], how: Convention) -> tuple[Sample, ...]:
    """Judge all boxes; an image of which objects are left out gives no background."""
    boxes = Boxes(how, entries, [entry.size or (np.inf, np.inf) for entry in entries])
    faults = boxes.first_faults(boxes.faults())
    faults |= boxes.repeats(faults.keys())
    for row in sorted(faults):
        entries[boxes.image[row]].leave_out(boxes.rows[row].id, *faults[row])
    good = np.array([row for row in range(len(boxes.rows)) if row not in faults], np.int64)
    sides = how.sides(boxes.written[good], boxes.sizes[good])
    area = np.array([boxes.rows[row].area for row in good])
    every = Annotations(
        boxes.xyxy[good],
        boxes.label[good],
        np.array([boxes.rows[row].difficult for row in good], bool),
        np.array([boxes.rows[row].crowd for row in good], bool),
        np.where(np.isfinite(area) & (area > 0), area, sides.prod(1)),
        # The numbers as written, in float64: IoU is computed from them, as pycocotools does.
        np.concatenate([boxes.xyxy[good, :2], sides], 1),
    )
    ends = np.searchsorted(boxes.image[good], range(len(entries)), "right")
    starts = [0, *ends][: len(ends)]
    return tuple(
        Sample(
            entry.image_id,
            entry.path,
            entry.size,
            every[start:end] if end > start else Annotations.empty(),
            positives_only=not entry.complete,
            size_declared=not how.shares,
            labelled=entry.labelled,
        )
        for entry, start, end in zip(entries, starts, ends, strict=True)
    )


def wrong_size(declared: tuple[int, int], true: tuple[int, int]) -> str:
    return f"is said to be {declared[1]}x{declared[0]} pixels, but is {true[1]}x{true[0]}"


class Boxes:
    """The N boxes of some entries as they are written.

    image  (N,) position of the box's entry;  label  (N,)
    sizes  (N, 2) height and width of the box's image, infinite where nobody knows
    xyxy   (N, 4) float64 pixels
    """

    def __init__(
        self, how: Convention, entries: Sequence[Entry], sizes: Sequence[tuple[float, float]]
    ) -> None:
        self.how = how
        self.rows = [row for entry in entries for row in entry.rows]
        self.image = np.repeat(np.arange(len(entries)), [len(entry.rows) for entry in entries])
        self.label = np.array([row.label for row in self.rows], np.int64)
        self.written = np.array([row.written for row in self.rows], np.float64).reshape(-1, 4)
        self.sizes = np.array(sizes, np.float64).reshape(-1, 2)[self.image]
        with np.errstate(invalid="ignore", over="ignore"):  # of NaN and infinity in a file
            self.xyxy = how.xyxy(self.written, self.sizes)
        self.finite = np.asarray((np.isfinite(self.xyxy) & (np.abs(self.xyxy) < LARGEST)).all(1))

    @cached_property
    def stored(self) -> Array:
        """The boxes at the float32 in which they will live, and are judged; zeros if not finite."""
        return np.where(self.finite[:, None], self.xyxy, 0).astype(np.float32).astype(np.float64)

    @cached_property
    def inside(self) -> Array:
        """(N,) pixels of each box within its image."""
        low = np.maximum(self.stored[:, :2], 0)
        high = np.minimum(self.stored[:, 2:], self.sizes[:, ::-1])
        return np.asarray(np.clip(high - low, 0, None).prod(1))

    @property
    def sides(self) -> Array:
        return self.stored[:, 2:] - self.stored[:, :2]

    @property
    def mostly_outside(self) -> Array:
        return np.asarray(self.inside < MIN_INSIDE * self.sides.prod(1))

    @property
    def beyond(self) -> Array:
        """(N,) mask of boxes with a share outside 0 to 1; none where the numbers are pixels."""
        beyond = (self.written < -SHARE_SLACK) | (self.written > 1 + SHARE_SLACK)
        return np.asarray(beyond.any(1) & self.how.shares)

    def faults(self) -> Iterator[Fault]:
        """Yield the rules that no box of a training may break, the gravest first."""
        yield "not-finite", ~self.finite, "box {0} is not finite"
        yield "negative", np.asarray((self.sides < 0).any(1)), "box {0} has a negative side"
        yield "degenerate", np.asarray((self.sides == 0).any(1)), "box {0} has no area"
        if not self.how.shares:
            # Shares of the image: a box within its first pixel is no object's.
            within = ((self.stored >= 0) & (self.stored <= 1)).all(1)
            within &= (self.stored % 1 != 0).any(1) & (self.sizes.min(1) > 1)
            yield "normalised", np.asarray(within), "box {0} lies within the first pixel"
        outside = self.mostly_outside & np.isfinite(self.sizes).all(1)
        yield "not-normalised", outside & self.beyond, "{0} has values outside 0 to 1"
        yield "outside", outside, "box {0} is mostly outside its image{1}"

    def first_faults(self, faults: Iterable[Fault]) -> dict[int, tuple[str, str]]:
        """Map the number of each faulty box to the first rule that it breaks, and why."""
        found: dict[int, tuple[str, str]] = {}
        for rule, bad, why in faults:
            for row in map(int, np.flatnonzero(bad)):
                found.setdefault(row, (rule, why.format(self._shown(row), self._image(row))))
        return found

    def repeats(self, faulty: Collection[int]) -> dict[int, tuple[str, str]]:
        """Map each sound box that an earlier one of its image and label equals to its fault."""
        rows = np.array([row for row in range(len(self.rows)) if row not in faulty], np.int64)
        keys = np.column_stack([self.image, self.label, self.xyxy])[rows]
        order = np.lexsort(keys.T)  # stable: of equal ones the first stays first
        again = (keys[order][1:] == keys[order][:-1]).all(1)
        return {
            int(row): ("duplicate", f"box {self._shown(row)} of this class was there before")
            for row in rows[order[1:][again]]
        }

    def _shown(self, row: int) -> str:
        return "(" + ", ".join(f"{side:.6g}" for side in self.written[row]) + ")"

    def _image(self, row: int) -> str:
        height, width = self.sizes[row]
        return f" of {width:.0f}x{height:.0f} pixels" if 1 < width < np.inf else ""
