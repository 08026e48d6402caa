"""Similarity of two neighbouring regions (section 3.2): colour, texture, size and fill, summed.

Histograms are counts of pixels, so that merging two regions adds them (the paper's size-weighted
mean, exactly). For the intersection each histogram is scaled to sum to 65535 and floored, which
makes the sum of minima an integer that does not depend on the order of addition.
"""

from typing import Any, NamedTuple

import numpy as np

from detector.proposals.selective_search.filters import TEXTURE_BITS, gradients
from detector.structures import Array

# Section 3.2: 25 bins a channel for colour; 10 bins in each of 8 directions for texture.
COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8
FULL = 65535  # the largest sum whose bins are uint16 in numba/
# Gradients of this many grey levels a pixel and above share the last bin. The paper does not give
# the range.
TEXTURE_RANGE = 32.0
# Similarities are compared in units of 2**-27, so that equal means equal. They stay below 4, hence
# in 29 bits, which leaves 34 of a key in numba/grouping.py for the number of a pair.
PRECISION = 1 << 27


class Regions(NamedTuple):
    """Sizes, boxes and histograms of regions; rows are regions.

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
    """Colour histograms (R, C * 25) int64 of (C, H, W) bytes and (H, W) labels."""
    regions = int(labels.max()) + 1
    counts: Array = np.zeros((regions, len(planes), COLOUR_BINS), np.int64)
    for i, plane in enumerate(planes):
        _count(counts[:, i], labels, (plane.astype(np.int64) * COLOUR_BINS) >> 8)
    return counts.reshape(regions, -1)


def _count(table: Array, labels: Array, bins: Array) -> None:
    where: Any = (labels, bins)
    np.add.at(table, where, 1)  # table[where] += 1 would count repeated pairs once


def texture_scale(full: float = TEXTURE_RANGE) -> int:
    """Fixed-point factor from gradient magnitude to bin number: multiply, shift right by 16."""
    return round(TEXTURE_BINS * 65536 / (full * (1 << TEXTURE_BITS)))


def texture_histogram(planes: Array, labels: Array, hue: bool) -> Array:
    """Texture histograms (R, C * 8 * 10) int64 of rectified Gaussian derivatives in eight
    directions, 45 degrees apart.
    """
    regions = int(labels.max()) + 1
    counts = np.zeros((regions, len(planes), ORIENTATIONS, TEXTURE_BINS), np.int64)
    for i, plane in enumerate(planes):
        for j, gradient in enumerate(gradients(plane, hue and i == 0)):
            for direction, response in ((j, gradient), (j + 4, -gradient)):
                rectified = np.maximum(response, 0).astype(np.int64)
                bins = np.minimum((rectified * texture_scale()) >> 16, TEXTURE_BINS - 1)
                _count(counts[:, i, direction], labels, bins)
    return counts.reshape(regions, -1)


def normalise(counts: Array, size: int) -> Array:
    """Scale counts, whose bin groups sum to `size`, to int64 groups that sum to 65535 or slightly
    less.
    """
    factor = np.float32(FULL) / np.float32(size)  # float32 as in numba/, so that floors agree
    return (counts.astype(np.float32) * factor).astype(np.int64)


def similarity(terms: str, regions: Regions, region: int, other: int, pixels: int) -> int:
    """Sum of the chosen `terms` (letters of CTSF) for two regions of an image of `pixels`, in units
    of 2**-27.
    """
    size = int(regions.sizes[region]), int(regions.sizes[other])
    total = 0.0
    if "C" in terms:
        total += _intersection(regions.colour, region, other, size, COLOUR_BINS)
    if "T" in terms:
        total += _intersection(regions.texture, region, other, size, TEXTURE_BINS)
    if "S" in terms:
        total += 1.0 - (size[0] + size[1]) / pixels
    if "F" in terms:
        low = np.minimum(regions.boxes[region, :2], regions.boxes[other, :2])
        high = np.maximum(regions.boxes[region, 2:], regions.boxes[other, 2:])
        around = int(high[0] - low[0]) * int(high[1] - low[1])
        total += 1.0 - (around - size[0] - size[1]) / pixels
    return int(total * PRECISION)


def _intersection(
    counts: Array, region: int, other: int, size: tuple[int, int], bins: int
) -> float:
    shared = np.minimum(normalise(counts[region], size[0]), normalise(counts[other], size[1]))
    groups = counts.shape[1] // bins
    return int(shared.sum()) / (groups * FULL)
