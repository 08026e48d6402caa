"""Gaussian derivatives and their bins: filters.gradients and the first half of
similarity.texture_histogram, compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.proposals.selective_search.native.kernel import inner, kernel
from detector.structures import Array


@inner
def _rows(plane: Array, bell: Array, slope: Array, hue: bool, blurred: Array, rise: Array) -> None:
    """Along rows: Gaussian smoothing and derivative, int16 in 1/16 grey levels."""
    height, width = plane.shape
    radius = len(bell) // 2
    padded = np.empty(width + 2 * radius, np.int32)
    sums = np.empty((2, width), np.int32)
    for y in range(height):
        for x in range(radius):
            padded[x] = plane[y, 0]
            padded[width + radius + x] = plane[y, width - 1]
        for x in range(width):
            padded[radius + x] = plane[y, x]
        sums[:] = 128
        low, high = sums[0], sums[1]
        for i in range(2 * radius + 1):
            weight, tilt = bell[i], slope[i]
            if hue:
                for x in range(width):
                    step = np.int32(padded[x + i] - padded[x + radius] + 128) & 255
                    step = np.int32(step - 128)
                    low[x] += weight * step
                    high[x] += tilt * step
            else:
                for x in range(width):
                    low[x] += weight * padded[x + i]
                    high[x] += tilt * padded[x + i]
        if hue:
            for x in range(width):
                blurred[y, x] = ((padded[x + radius] << 4) + (low[x] >> 8)) & 4095
        else:
            for x in range(width):
                blurred[y, x] = low[x] >> 8
        for x in range(width):
            rise[y, x] = high[x] >> 8


@inner
def _code(gradient: int, scale: int) -> Any:
    """Signed bin, 0..18: 9 is no gradient, 10..18 one way and 8..0 the other."""
    size = min((abs(gradient) * scale) >> 16, 9)
    return 9 + size if gradient > 0 else 9 - size


@kernel
def texture_codes(
    planes: Array, bell: Array, slope: Array, hue: bool, scale: int, out: Array
) -> None:
    """(C, H, W) uint8 planes -> (C * 4, H, W) uint8 signed bins of the gradients along 0, 45, 90,
    135 degrees.
    """
    count, height, width = planes.shape
    radius = len(bell) // 2
    blurred = np.empty((height, width), np.int16)
    rise = np.empty((height, width), np.int16)
    across = np.empty(width, np.int32)
    down = np.empty(width, np.int32)
    factor = np.int32(scale)
    for c in range(count):
        angle = hue and c == 0
        _rows(planes[c], bell, slope, angle, blurred, rise)
        for y in range(height):
            across[:] = 2048
            down[:] = 2048
            for i in range(2 * radius + 1):
                weight, tilt = bell[i], slope[i]
                row = min(max(y + i - radius, 0), height - 1)
                near, centre, risen = blurred[row], blurred[y], rise[row]
                if angle:
                    for x in range(width):
                        step = np.int32(np.int32(near[x]) - np.int32(centre[x]) + 2048) & 4095
                        down[x] += tilt * np.int32(step - 2048)
                        across[x] += weight * np.int32(risen[x])
                else:
                    for x in range(width):
                        down[x] += tilt * np.int32(near[x])
                        across[x] += weight * np.int32(risen[x])
            for x in range(width):
                gx = np.int32(across[x] >> 12)
                gy = np.int32(down[x] >> 12)
                out[4 * c, y, x] = _code(gx, factor)
                out[4 * c + 1, y, x] = _code(np.int32((gx + gy) * 181 + 128) >> 8, factor)
                out[4 * c + 2, y, x] = _code(gy, factor)
                out[4 * c + 3, y, x] = _code(np.int32((gy - gx) * 181 + 128) >> 8, factor)
