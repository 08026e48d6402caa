"""OpenCV's selective search (cv2.ximgproc) as an engine for comparison, made reproducible.

OpenCV's order depends on how often it was called before in the same process, and it ranks small
regions first (its rank is a random number times the level from the leaves up). The *set* of boxes
is a function of the image, however; so the set is sorted, and ranked here: area times a seeded
random number, largest first.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from detector.images.decoding import check_pixels
from detector.proposals.merge import proposals_in_order
from detector.seeds import Seed
from detector.settings import Settings, validate
from detector.structures import Array, Proposals


class OpenCVSelectiveSearchSettings(Settings):
    """OpenCV's own parameters and defaults, but for `single`, whose own k is 200 and not 150."""

    engine: Literal["opencv"] = "opencv"
    preset: Literal["single", "fast", "quality"] = "fast"
    base_k: int = Field(150, ge=1, le=100_000)
    inc_k: int = Field(150, ge=1, le=100_000)
    sigma: float = Field(0.8, gt=0, le=10)
    superpixel_scale: float = Field(2.0, gt=0, le=20)
    """GoogLeNet section 8 doubles the superpixel size. Here k is multiplied; OpenCV fixes min_size
    at 100.
    """
    longest_side: int | None = Field(500, ge=16)
    """Proposals are computed at this longer side (R-CNN's width-500 mode); None is full resolution.
    """
    min_side: float = Field(20.0, ge=1)
    """Narrowest box in the pixels of the computation; the authors' code drops boxes under 20
    pixels.
    """
    max_boxes: int | None = Field(None, ge=1)
    seed: Seed = 0


class OpenCVSelectiveSearch:
    """Image (H, W, 3) uint8 RGB -> Proposals in the original's pixels.

    The same image gives the same bytes.
    """

    def __init__(self, **settings: object) -> None:
        self.settings = validate(OpenCVSelectiveSearchSettings, settings, "opencv proposals")

    def __call__(self, image: Array) -> Proposals:
        return self.rankings(image, [self.settings.seed])[0]

    def rankings(self, image: Array, seeds: Sequence[int]) -> list[Proposals]:
        """Proposals under each of several seeds, for the cost of one search."""
        import cv2

        check_pixels(image)
        height, width = image.shape[:2]
        factor = 1.0
        if self.settings.longest_side and max(height, width) > self.settings.longest_side:
            factor = self.settings.longest_side / max(height, width)
        inner = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = image
        if inner != (width, height):
            small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        # OpenCV takes BGR, and no views with negative strides.
        boxes = self._boxes(np.ascontiguousarray(small[:, :, ::-1]))
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= self.settings.min_side).all(1)]
        back = np.array([width / inner[0], height / inner[1]] * 2)
        return [
            proposals_in_order(
                _shuffle_by_area(boxes, seed) * back, (height, width), self.settings.max_boxes
            )
            for seed in seeds
        ]

    def _boxes(self, bgr: Array) -> Array:
        """The set of boxes, sorted: (N, 4) xyxy pixels of `bgr`."""
        import cv2

        if min(bgr.shape[:2]) < 4 or (bgr == bgr[0, 0]).all():
            return np.zeros((0, 4))  # OpenCV asserts, or finds nothing, on these
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(bgr)
        base = round(self.settings.base_k * self.settings.superpixel_scale)
        step = round(self.settings.inc_k * self.settings.superpixel_scale)
        if self.settings.preset == "single":
            search.switchToSingleStrategy(base, self.settings.sigma)
        elif self.settings.preset == "fast":
            search.switchToSelectiveSearchFast(base, step, self.settings.sigma)
        else:
            search.switchToSelectiveSearchQuality(base, step, self.settings.sigma)
        xywh = np.asarray(search.process(), np.float64).reshape(-1, 4)
        xywh = np.unique(xywh, axis=0)  # also sorts, which takes OpenCV's unseeded order away
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _shuffle_by_area(boxes: Array, seed: int) -> Array:
    # In (0, 1]: times 0 even the largest would come last.
    chance = 1 - np.random.default_rng(seed).random(len(boxes))
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[np.argsort(-(sides.prod(1) * chance), kind="stable")]
