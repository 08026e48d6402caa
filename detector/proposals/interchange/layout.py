"""Explicit layouts of foreign boxes, checked against the images.

No file of boxes says whether x or y comes first, whether counting starts at 0 or 1, and whether the
last pixel belongs to the box. A wrong guess costs recall silently, so nothing is guessed: whoever
imports states the layout, and boxes that contradict the images are an error that names a layout
under which they would fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from detector.errors import ProposalError, SettingsError
from detector.structures import Array, Proposals

Order = Literal["xyxy", "yxyx", "xywh"]
# Pixels by which rounding may put a coordinate outside its image.
SLACK = 0.5


class ForeignBoxes(NamedTuple):
    """One image's boxes as a file has them: (N, 4) in the file's layout, and scores or None."""

    boxes: Array
    scores: Array | None = None


@dataclass(frozen=True)
class Layout:
    """Order of the four numbers, index of the first pixel, and whether the last one is included.

    inclusive  None for xywh, where it has no meaning
    """

    order: Order
    base: Literal[0, 1]
    inclusive: bool | None

    def __post_init__(self) -> None:
        if self.order not in ("xyxy", "yxyx", "xywh") or self.base not in (0, 1):
            raise SettingsError(f"layout {self}: order is xyxy, yxyx or xywh, and base is 0 or 1")
        if (self.inclusive is None) != (self.order == "xywh"):
            raise SettingsError(
                "--inclusive or --exclusive must be said for xyxy and yxyx, and means nothing for"
                " xywh; R-CNN's and Fast R-CNN's .mat files are --order yxyx --base 1 --inclusive"
            )

    def xyxy(self, boxes: Array) -> Array:
        """Convert (N, 4) boxes to our convention: float64 xyxy, 0-based, ends exclusive."""
        boxes = np.asarray(boxes, np.float64)
        if self.order == "xywh":
            corner = boxes[:, :2] - self.base  # a size has no origin
            return np.hstack([corner, corner + boxes[:, 2:]])
        ordered = boxes[:, [1, 0, 3, 2]] if self.order == "yxyx" else boxes
        ends: Array = np.array([0, 0, 1, 1]) * bool(self.inclusive)
        return ordered - self.base + ends

    def __str__(self) -> str:
        end = {True: " --inclusive", False: " --exclusive", None: ""}[self.inclusive]
        return f"--order {self.order} --base {self.base}{end}"


class Imported(NamedTuple):
    """Result of an import.

    proposals  by image name
    dropped    number of boxes without area, which were left out
    remark     a doubt about the layout that the boxes raise, or None
    """

    proposals: dict[str, Proposals]
    dropped: int
    remark: str | None


def convert(
    found: Mapping[str, ForeignBoxes], sizes: Mapping[str, tuple[int, int]], layout: Layout
) -> Imported:
    """Convert foreign boxes, by image name, to proposals of images of known (H, W).

    Raises ProposalError where boxes lie outside their images, naming a layout that would fit.
    """
    misfits = [name for name, foreign in found.items() if not _fits(foreign, sizes[name], layout)]
    if misfits:
        raise ProposalError(_diagnosis(found, sizes, layout, misfits))
    proposals, dropped = {}, 0
    for name, foreign in found.items():
        height, width = sizes[name]
        boxes = np.clip(layout.xyxy(foreign.boxes), 0, [width, height] * 2)
        with_area = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        dropped += len(boxes) - len(with_area)
        scores = foreign.scores
        if scores is not None:  # ranked by them; otherwise the file's order is the rank
            scores = np.asarray(scores, np.float32)
            with_area = with_area[np.argsort(-scores[with_area], kind="stable")]
            scores = scores[with_area]
        proposals[name] = Proposals(boxes[with_area], (height, width), scores)
    return Imported(proposals, dropped, _remark(proposals, layout))


def _fits(foreign: ForeignBoxes, size: tuple[int, int], layout: Layout) -> bool:
    boxes = layout.xyxy(foreign.boxes)
    inside = (boxes >= -SLACK) & (boxes <= np.array([size[1], size[0]] * 2) + SLACK)
    forwards = boxes[:, 2:] >= boxes[:, :2]
    return bool(inside.all() and forwards.all())


def _diagnosis(
    foreign: Mapping[str, ForeignBoxes],
    sizes: Mapping[str, tuple[int, int]],
    layout: Layout,
    misfits: list[str],
) -> str:
    name = misfits[0]
    raw, size = foreign[name].boxes, sizes[name]
    worst = next(
        i for i in range(len(raw)) if not _fits(ForeignBoxes(raw[i : i + 1]), size, layout)
    )
    numbers = ", ".join(f"{value:g}" for value in raw[worst])
    text = (
        f"{len(misfits)} of {len(foreign)} images have boxes that do not fit under {layout}; "
        f"{name}: box {worst} is ({numbers}) in an image {size[1]} wide and {size[0]} high\n"
    )
    for other, mistake in _alternatives(layout):
        if all(_fits(boxes, sizes[key], other) for key, boxes in foreign.items()):
            return text + f"all would fit with {other}: {mistake}"
    return text + "no other layout fits all either: are these the images that the boxes are from?"


def _alternatives(layout: Layout) -> list[tuple[Layout, str]]:
    # Each with the mistake that it would explain. The first that fits is named: likeliest first.
    base = layout.base
    elsewhere = (replace(layout, base=0 if base else 1), "counting probably starts elsewhere")
    if layout.order == "xywh":
        return [
            elsewhere,
            (Layout("xyxy", base, False), "these are probably corners, not sizes"),
            (Layout("yxyx", base, False), "these are probably corners, y first"),
        ]
    other: Order = "yxyx" if layout.order == "xyxy" else "xyxy"
    ends = replace(layout, inclusive=not layout.inclusive)
    return [
        (replace(layout, order=other), "x and y are probably swapped"),
        (ends, "the end of a box is probably counted otherwise"),
        elsewhere,
        (Layout("xywh", base, None), "these are probably sizes, not corners"),
        (Layout(other, 1, True), "x and y are probably swapped, and MATLAB wrote them"),
    ]


def _remark(proposals: Mapping[str, Proposals], layout: Layout) -> str | None:
    # Regions touch the borders of their images: if none of many does, counting is off by a pixel.
    if sum(map(len, proposals.values())) < 100:
        return None
    some = [of_image for of_image in proposals.values() if len(of_image)]
    starts = min(of_image.boxes[:, :2].min() for of_image in some)
    ends = min((of_image.size[::-1] - of_image.boxes[:, 2:]).min() for of_image in some)
    if starts >= 1:
        return f"no box begins at pixel 0 under {layout}: is --base 1 meant?"
    if ends >= 1:
        return f"no box ends at the right or lower border under {layout}: is --inclusive meant?"
    return None
