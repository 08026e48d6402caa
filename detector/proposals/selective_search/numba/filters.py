"""Edge weights and texture codes: the smoothing and the derivatives of filters.py, compiled."""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array

# The weight of an edge that leaves the image; no distance, at most 32640 * sqrt(3), comes near it.
OUTSIDE = 65535


# Every int32 here is cast back to int32, since numba widens sums of two to int64: the loops would
# be vectorised at half the width. A literal 0 is written as 0 * turn, since numba would compile the
# function once more for it.
@inner
def _pad(row: Array, radius: int, padded: Array) -> None:
    width = len(row)
    for x in range(radius):
        padded[x] = row[0]
        padded[width + radius + x] = row[width - 1]
    for x in range(width):
        padded[radius + x] = row[x]


@inner
def _begin(centre: Array, weights: Array, turn: Any, total: Array) -> None:
    # Minus the centre, so that rows can be added as they are; a hue's differences wrap one by one.
    whole = np.int32(0)
    for i in range(len(weights)):
        whole += weights[i]
    for x in range(len(total)):
        total[x] = 0 if turn else -whole * np.int32(centre[x])


@inner
def _add_weighted(row: Array, centre: Array, weight: Any, turn: Any, total: Array) -> None:
    """Add a weighted row, or its differences to the centre wrapped at half a `turn`."""
    half, mask = np.int32(turn >> 1), np.int32(turn - 1)
    # One branch outside of the loops, which are vectorised.
    if turn:
        for x in range(len(total)):
            step = np.int32(np.int32(row[x]) - np.int32(centre[x]) + half) & mask
            total[x] += weight * np.int32(step - half)
    else:
        for x in range(len(total)):
            total[x] += weight * np.int32(row[x])


@inner
def _along_row(padded: Array, weights: Array, turn: Any, total: Array) -> None:
    width, radius = len(total), len(weights) // 2
    centre = padded[radius : radius + width]
    _begin(centre, weights, turn, total)
    for i in range(len(weights)):
        _add_weighted(padded[i : i + width], centre, weights[i], turn, total)


@inner
def _down_column(rows: Array, y: int, weights: Array, turn: Any, total: Array) -> None:
    radius = len(weights) // 2
    _begin(rows[y], weights, turn, total)
    for i in range(len(weights)):
        row = rows[min(max(y + i - radius, 0), len(rows) - 1)]  # borders repeat the edge pixel
        _add_weighted(row, rows[y], weights[i], turn, total)


@inner
def _add_shifted(centre: Array, bits: Any, total: Array, drop: Any, mask: Any, out: Array) -> None:
    """Compute centre * 2**bits + total / 2**drop, rounded, and masked for a hue (else -1)."""
    half = np.int32(1 << drop >> 1)
    for x in range(len(total)):
        shifted = np.int32(np.int32(total[x] + half) >> drop)
        out[x] = np.int32(np.int32(centre[x] << bits) + shifted) & mask


@inner
def _add_squared_difference(here: Array, there: Array, turn: Any, total: Array) -> None:
    # Without a turn the mask is -1, which keeps every bit: one loop serves hues and others.
    half, mask = np.int32(turn >> 1), np.int32(turn - 1)
    for x in range(len(total)):
        step = np.int32(np.int32(there[x]) - np.int32(here[x]) + half) & mask
        step = np.int32(step - half)
        total[x] += np.uint32(step * step)


@kernel
def smooth(
    planes: Array, weights: Array, hue: bool, padded: Array, total: Array, buffer: Array, out: Array
) -> None:
    """Smooth (C, H, W) uint8 to int16 in 1/128 grey levels; `buffer` is as large as one plane."""
    count, height = planes.shape[:2]
    radius = len(weights) // 2
    for c in range(count):
        turn = 256 if hue and c == 0 else 0
        mask = np.int32(128 * turn - 1)
        for y in range(height):
            _pad(planes[c, y], radius, padded)
            _along_row(padded, weights, turn, total)
            # Weights have 12 bits: 7 stay until the columns are done.
            _add_shifted(planes[c, y], 7, total, 5, mask, buffer[y])
        for y in range(height):
            _down_column(buffer, y, weights, 128 * turn, total)
            _add_shifted(buffer[y], 0 * turn, total, 12, mask, out[c, y])


@kernel
def edge_weights(smoothed: Array, hue: bool, total: Array, out: Array) -> None:
    """Distances (4, H, W) uint16 to E, S, SE and SW neighbours, or OUTSIDE, of int16 planes."""
    count, height, width = smoothed.shape
    for y in range(height):
        for d in range(4):
            target = out[d, y]
            target[0] = target[width - 1] = OUTSIDE  # overwritten where that neighbour is inside
            down = 0 if d == 0 else 1
            if y + down == height:
                for x in range(width):
                    target[x] = OUTSIDE
                continue
            left = 1 if d == 3 else 0
            right = width if d == 1 or d == 3 else width - 1
            shift = -1 if d == 3 else (0 if d == 1 else 1)
            for x in range(width):
                total[x] = 0
            for c in range(count):
                here = smoothed[c, y, left:right]
                there = smoothed[c, y + down, left + shift : right + shift]
                _add_squared_difference(
                    here, there, 32768 if hue and c == 0 else 0, total[left:right]
                )
            for x in range(left, right):
                # Correctly rounded in float32, so the floor is that of segmentation.py.
                target[x] = np.int32(np.sqrt(np.float32(total[x])))


@inner
def _code(gradient: Any, scale: Any) -> Any:
    """Signed bin 0..18 of a gradient: 9 is none, 10..18 positive, 8..0 negative."""
    size = min((abs(gradient) * scale) >> 16, 9)  # similarity.texture_scale's fixed point
    return 9 + size if gradient > 0 else 9 - size


@kernel
def texture_codes(
    planes: Array,
    bell: Array,
    slope: Array,
    hue: bool,
    scale: int,
    padded: Array,
    total: Array,
    buffer: Array,
    out: Array,
) -> None:
    """Signed bins (C * 4, H, W) uint8 of gradients 45 degrees apart, of (C, H, W) uint8 planes.

    `padded` and `total` are buffers for rows of int32, `buffer` for (3, H, W) int16.
    """
    count, height, width = planes.shape
    radius = len(bell) // 2
    # `across` needs one row only: it is used up before the next.
    blurred, rise, across = buffer[0], buffer[1], buffer[2, 0]
    factor = np.int32(scale)
    for c in range(count):
        turn = 256 if hue and c == 0 else 0
        for y in range(height):
            _pad(planes[c, y], radius, padded)
            _along_row(padded, bell, turn, total)
            _add_shifted(planes[c, y], 4, total, 8, np.int32(16 * turn - 1), blurred[y])
            _along_row(padded, slope, turn, total)
            for x in range(width):
                rise[y, x] = np.int32(total[x] + np.int32(128)) >> 8
        for y in range(height):
            _down_column(rise, y, bell, 0 * turn, total)  # a gradient of hue wraps no more
            _add_shifted(rise[y], 0 * turn, total, 12, np.int32(-1), across)
            _down_column(blurred, y, slope, 16 * turn, total)
            flat, up = out[4 * c, y], out[4 * c + 1, y]
            steep, back = out[4 * c + 2, y], out[4 * c + 3, y]
            for x in range(width):
                gx = np.int32(across[x])
                gy = np.int32(np.int32(total[x] + np.int32(2048)) >> 12)
                flat[x] = _code(gx, factor)
                # 181 / 256 is filters.DIAGONAL.
                up[x] = _code(np.int32(np.int32((gx + gy) * 181 + 128) >> 8), factor)
                steep[x] = _code(gy, factor)
                back[x] = _code(np.int32(np.int32((gy - gx) * 181 + 128) >> 8), factor)
