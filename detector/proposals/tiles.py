"""Regions of overlapping windows beside those of the whole image, for small things in large
photographs: a search that shrinks its image to 500 pixels cannot propose what is 10 of 4000 wide.

Windows change the proposals alone. Every region is cropped from the whole photograph, so that no
network sees a window's edge, and suppression joins what several windows propose (the slicing of
Akyon et al. 2022, arXiv 2202.06934, moved from the detections to the regions).
"""

import math
from typing import Any, Literal

import numpy as np

from detector.proposals.cache.stored import describe
from detector.proposals.merge import Proposer, interleave
from detector.settings import Settings
from detector.structures import Array, Proposals

# A box that ends so many pixels before a window's edge is not cut by it.
_MARGIN = 1.0


class TiledSettings(Settings):
    """Settings that determine the boxes and their order."""

    engine: Literal["tiles"] = "tiles"
    tile: int
    tile_overlap: float
    max_proposals: int | None
    proposer: dict[str, Any]


class Tiled:
    """Image (H, W, 3) uint8 RGB -> the regions of the image and of its windows, ranks interleaved.

    tile           side of a window in pixels; an image without a longer side has no windows
    overlap        least share of a window's side that it has in common with the next
    max_proposals  best regions of the image and of each window; None is all
    """

    def __init__(
        self, proposer: Proposer, tile: int, overlap: float, max_proposals: int | None = None
    ) -> None:
        self.proposer, self.tile, self.overlap = proposer, tile, overlap
        self.max_proposals = max_proposals

    @property
    def settings(self) -> TiledSettings:
        return TiledSettings(
            tile=self.tile, tile_overlap=self.overlap, max_proposals=self.max_proposals,
            proposer=describe(self.proposer),
        )  # fmt: skip

    def __call__(self, image: Array) -> Proposals:
        size = (image.shape[0], image.shape[1])
        views = windows(size, self.tile, self.overlap)
        lists = [self.proposer(image)[: self.max_proposals]]
        for position, (x1, y1, x2, y2) in enumerate(views.tolist()):
            inside = self.proposer(np.ascontiguousarray(image[y1:y2, x1:x2]))[: self.max_proposals]
            boxes = inside.boxes + np.array([x1, y1, x1, y1], np.float32)
            lists.append(Proposals(boxes[whole_here(boxes, views, position, size)], size))
        return lists[0] if len(lists) == 1 else interleave(lists)


def windows(size: tuple[int, int], tile: int, overlap: float) -> Array:
    """Windows (W, 4) int64 xyxy, evenly spaced, that cover an image of `size` (H, W), row by row;
    none where the image is no larger than one.
    """
    if max(size) <= tile:
        return np.zeros((0, 4), np.int64)
    ys, xs = (_starts(side, tile, overlap) for side in size)
    height, width = (min(side, tile) for side in size)
    return np.array([[x, y, x + width, y + height] for y in ys for x in xs], np.int64)


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    if side <= tile:
        return [0]
    steps = math.ceil((side - tile) / max(1, math.floor(tile * (1 - overlap))))
    return [step * (side - tile) // steps for step in range(steps + 1)]


def whole_here(boxes: Array, views: Array, position: int, size: tuple[int, int]) -> Array:
    """Mask (N,) of the boxes (N, 4) of the window at `position` that stay.

    A box that an edge of its window cuts, not one of the image, goes where another window has it
    and what follows. Where none has, it may be most of a thing wider than the overlap, and stays.
    The window itself as a box goes, too.
    """
    height, width = size
    first, last = boxes[:, None, :2], boxes[:, None, 2:]
    free = (views[:, :2] <= first - _MARGIN) | (views[:, :2] == 0)
    free_after = (views[:, 2:] >= last + _MARGIN) | (views[:, 2:] == (width, height))
    whole = (free & free_after).all(2)  # (N, W)
    is_window = (np.round(boxes) == views[position]).all(1)
    return (whole[:, position] | ~whole.any(1)) & ~is_window
