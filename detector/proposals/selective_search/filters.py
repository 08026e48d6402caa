"""Integer filters: Gaussian smoothing before the segmentation, Gaussian derivatives for texture.

The readable version; numba/ computes the same integers. Borders repeat the edge pixel.
"""

import math

import numpy as np

from detector.structures import Array

WEIGHT_BITS = 12  # weights of filters sum to 4096
# Smoothed values are in 1/128 grey levels, the finest that int16 holds: 255 is 32640, and a whole
# turn of hue, which is 0 again, would be 32768.
SMOOTH_BITS = 7
TEXTURE_BITS = 4  # gradients are in 1/16 grey levels a pixel
TEXTURE_SIGMA = 1.0  # as in the paper
# 256 / sqrt(2): turns the sum of two perpendicular gradients into the one between them.
DIAGONAL = 181


def gaussian(sigma: float) -> Array:
    """Gaussian weights (2r+1,) int32 that sum to 4096; a single one for sigma 0."""
    radius = math.ceil(3.5 * sigma)
    x = np.arange(-radius, radius + 1)
    density = np.exp(-(x**2) / (2 * sigma**2)) if sigma > 0 else np.ones(1)
    weights: Array = np.rint(density / density.sum() * (1 << WEIGHT_BITS)).astype(np.int32)
    # Rounding may miss the sum by a few; the centre takes the rest, so that flat areas stay exact.
    weights[radius] += (1 << WEIGHT_BITS) - weights.sum()
    return weights


def gaussian_derivative(sigma: float) -> Array:
    """Antisymmetric weights (2r+1,) int32; a ramp of one grey level a pixel gives 4096."""
    radius = math.ceil(3.5 * sigma)
    x = np.arange(-radius, radius + 1)
    slope = x * np.exp(-(x**2) / (2 * sigma**2))
    return np.rint(slope / (slope * x).sum() * (1 << WEIGHT_BITS)).astype(np.int32)


def _weighted_differences(plane: Array, weights: Array, axis: int, turn: int) -> Array:
    """Sum of weights times (neighbour - centre) along `axis`.

    Differences wrap at half a `turn` (hue), unless it is 0.
    """
    radius = len(weights) // 2
    width = [(0, 0), (0, 0)]
    width[axis] = (radius, radius)
    padded = np.pad(plane, width, mode="edge")
    total = np.zeros_like(plane)
    for i, weight in enumerate(weights):
        shifted = np.take(padded, np.arange(plane.shape[axis]) + i, axis=axis)
        step = shifted - plane
        if turn:
            step = ((step + turn // 2) & (turn - 1)) - turn // 2
        total += weight * step
    return total


def _rounded_shift(value: Array, bits: int) -> Array:
    return (value + (1 << bits >> 1)) >> bits  # 0 bits add nothing


def smooth(plane: Array, weights: Array, bits: int, hue: bool) -> Array:
    """Smooth (H, W) bytes along rows, then columns: int32 in units of 1 / 2**bits."""
    turn = 256 << bits if hue else 0
    row = _smooth_rows(plane, weights, bits, hue)
    down = row + _rounded_shift(_weighted_differences(row, weights, 0, turn), WEIGHT_BITS)
    return down & (turn - 1) if hue else down


def _smooth_rows(plane: Array, weights: Array, bits: int, hue: bool) -> Array:
    plane = plane.astype(np.int32)
    blurred = _weighted_differences(plane, weights, 1, 256 if hue else 0)
    row = (plane << bits) + _rounded_shift(blurred, WEIGHT_BITS - bits)
    return row & ((256 << bits) - 1) if hue else row


def gradients(plane: Array, hue: bool) -> tuple[Array, Array, Array, Array]:
    """Gaussian derivatives along 0, 45, 90 and 135 degrees: (H, W) int32 each, in 1/16 grey levels
    a pixel.
    """
    bell, slope = gaussian(TEXTURE_SIGMA), gaussian_derivative(TEXTURE_SIGMA)
    turn = 256 if hue else 0
    rise = _weighted_differences(plane.astype(np.int32), slope, 1, turn)
    rise = _rounded_shift(rise, WEIGHT_BITS - TEXTURE_BITS)
    # A gradient is no angle any more, not even a hue's: from here on nothing wraps.
    across = rise + _rounded_shift(_weighted_differences(rise, bell, 0, 0), WEIGHT_BITS)
    row = _smooth_rows(plane, bell, TEXTURE_BITS, hue)
    down = _weighted_differences(row, slope, 0, turn << TEXTURE_BITS)
    down = _rounded_shift(down, WEIGHT_BITS)
    return (
        across,
        _rounded_shift((across + down) * DIAGONAL, 8),
        down,
        _rounded_shift((down - across) * DIAGONAL, 8),
    )
