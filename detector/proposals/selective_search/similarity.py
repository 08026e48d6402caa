"""How alike two neighbouring regions are (section 3.2): colour, texture, size and fill, summed.

Histograms are counts of pixels, so that merging two regions adds them (the paper's size-weighted
mean, exactly). For the intersection each histogram is scaled to sum to 65535 and floored, which
makes the sum of minima an integer that does not depend on the order of addition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detector.proposals.selective_search.filters import TEXTURE_BITS, gradients
from detector.structures import Array

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8
FULL = 65535
TEXTURE_RANGE = 32.0
"""Gradients of this many grey levels a pixel and above share the last bin. The paper does not give
the range.
"""
PRECISION = 1 << 27
"""Similarities are compared in units of 2**-27, so that equal means equal."""


class Regions(NamedTuple):
    """What grouping needs of each region; rows are regions.

    sizes    (R,) pixels
    boxes    (R, 4) xyxy
    colour   (R, C * 25) counts
    texture  (R, C * 8 * 10) counts
    """

    sizes: Array
    boxes: Array
    colour: Array
    texture: Array


def colour_histogram(planes: Array, labels: Array) -> Array:
    """(C, H, W) bytes and (H, W) labels -> (R, C * 25) int64 counts."""
    regions = int(labels.max()) + 1
    found: Array = np.zeros((regions, len(planes), COLOUR_BINS), np.int64)
    for i, plane in enumerate(planes):
        _count(found[:, i], labels, (plane.astype(np.int64) * COLOUR_BINS) >> 8)
    return found.reshape(regions, -1)


def _count(table: Array, labels: Array, bins: Array) -> None:
    """Add one to table[label, bin] for every pixel."""
    where: Any = (labels, bins)
    np.add.at(table, where, 1)


def texture_scale(full: float = TEXTURE_RANGE) -> int:
    """Gradient magnitudes times this, shifted right by 16, are bin numbers."""
    return round(TEXTURE_BINS * 65536 / (full * (1 << TEXTURE_BITS)))


def texture_histogram(planes: Array, labels: Array, hue: bool) -> Array:
    """(R, C * 8 * 10) int64 counts of rectified Gaussian derivatives in eight directions, 45
    degrees apart.
    """
    regions = int(labels.max()) + 1
    found = np.zeros((regions, len(planes), ORIENTATIONS, TEXTURE_BINS), np.int64)
    for i, plane in enumerate(planes):
        for j, gradient in enumerate(gradients(plane, hue and i == 0)):
            for direction, response in ((j, gradient), (j + 4, -gradient)):
                rectified = np.maximum(response, 0).astype(np.int64)
                bins = np.minimum((rectified * texture_scale()) >> 16, TEXTURE_BINS - 1)
                _count(found[:, i, direction], labels, bins)
    return found.reshape(regions, -1)


def normalised(counts: Array, size: int) -> Array:
    """Counts of which every bin group sums to `size` -> int64, every group summing to 65535 or a
    little less.
    """
    factor = np.float32(FULL) / np.float32(size)
    return (counts.astype(np.float32) * factor).astype(np.int64)


def similarity(terms: str, regions: Regions, one: int, other: int, pixels: int) -> int:
    """The sum of the chosen `terms` (letters of CTSF) between two regions of an image of `pixels`,
    in units of 2**-27.
    """
    size = int(regions.sizes[one]), int(regions.sizes[other])
    total = 0.0
    if "C" in terms:
        total += _intersection(regions.colour, one, other, size, COLOUR_BINS)
    if "T" in terms:
        total += _intersection(regions.texture, one, other, size, TEXTURE_BINS)
    if "S" in terms:
        total += 1.0 - (size[0] + size[1]) / pixels
    if "F" in terms:
        low = np.minimum(regions.boxes[one, :2], regions.boxes[other, :2])
        high = np.maximum(regions.boxes[one, 2:], regions.boxes[other, 2:])
        around = int(high[0] - low[0]) * int(high[1] - low[1])
        total += 1.0 - (around - size[0] - size[1]) / pixels
    return int(total * PRECISION)


def _intersection(counts: Array, one: int, other: int, size: tuple[int, int], bins: int) -> float:
    shared = np.minimum(normalised(counts[one], size[0]), normalised(counts[other], size[1]))
    groups = counts.shape[1] // bins
    return int(shared.sum()) / (groups * FULL)
