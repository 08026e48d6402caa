"""Training patches of an image (arXiv 1409.4842, section 6).

"Sampling of various sized patches of the image whose size is distributed evenly between 8 % and
100 % of the image area with aspect ratio constrained to the interval [3/4, 4/3]", enlarged or
shrunk by one of four methods drawn with equal probability.
"""

import math
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from detector.settings import Settings
from detector.structures import Array

Method = Literal["bilinear", "area", "nearest", "cubic"]
METHODS: tuple[Method, ...] = ("bilinear", "area", "nearest", "cubic")


class PartSettings(Settings):
    """Limits of the area and the aspect of a random part of an image."""

    min_area: float = Field(0.08, gt=0, le=1)
    """Shares of the image's area."""
    max_area: float = Field(1.0, gt=0, le=1)
    min_aspect: float = Field(3 / 4, gt=0)
    """Width / height."""
    max_aspect: float = Field(4 / 3, gt=0)

    @model_validator(mode="after")
    def _min_before_max(self) -> Self:
        for name in ("area", "aspect"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least > most:
                raise ValueError(f"min_{name} {least:g} is above max_{name} {most:g}")
        return self


class PatchSettings(PartSettings):
    """Limits of random patches, and how they are resized."""

    methods: tuple[Method, ...] = Field(METHODS, min_length=1)


class Patch(NamedTuple):
    """A rectangle in whole pixels."""

    x: int
    y: int
    width: int
    height: int


def draw_patch(size: tuple[int, int], settings: PartSettings, rng: np.random.Generator) -> Patch:
    """Draw a patch of an image of `size` (H, W).

    The area is uniform. The aspect ratio is uniform in its logarithm, so that wide and tall are
    alike (the paper does not say), among those with which a patch of this area fits the image:
    to draw both and to reject what does not fit would make large areas rare. Where no allowed
    aspect fits, it is the largest patch of the aspect nearest to the image's.
    """
    height, width = size
    area = rng.uniform(settings.min_area, settings.max_area) * height * width
    # sqrt(area / aspect) is to be at most the height, sqrt(area * aspect) at most the width.
    low = max(settings.min_aspect, area / height**2)
    high = min(settings.max_aspect, width**2 / area)
    # A lot is drawn in any case: what follows does not depend on the image.
    aspect = math.exp(rng.uniform(math.log(min(low, high)), math.log(high)))
    if low > high:
        aspect = min(max(width / height, settings.min_aspect), settings.max_aspect)
        area = min(width**2 / aspect, height**2 * aspect)
    w = max(1, min(width, round(math.sqrt(area * aspect))))
    h = max(1, min(height, round(math.sqrt(area / aspect))))
    return Patch(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def resize_patch(image: Array, patch: Patch, side: int, method: Method) -> Array:
    """Crop and resize a patch of an image (H, W, 3) uint8 to (side, side, 3) uint8."""
    import cv2

    interpolation = {
        "bilinear": cv2.INTER_LINEAR,
        "area": cv2.INTER_AREA,
        "nearest": cv2.INTER_NEAREST,
        "cubic": cv2.INTER_CUBIC,
    }[method]
    part = image[patch.y : patch.y + patch.height, patch.x : patch.x + patch.width]
    return cv2.resize(part, (side, side), interpolation=interpolation)
