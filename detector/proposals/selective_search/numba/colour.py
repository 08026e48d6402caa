"""Colour conversion: colour.py, compiled."""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array


# Casts to int32 and float32 keep the arithmetic of colour.py, where numba would widen it.
@inner
def _ratio(part: int, whole: int, empty: int) -> Any:
    if whole == 0:
        return empty
    return np.int32(np.float32(part) / np.float32(whole) + np.float32(0.5))


@inner
def _hue(r: int, g: int, b: int, high: int, chroma: int) -> Any:
    if high == r:
        sixths = g - b + 6 * chroma
    elif high == g:
        sixths = b - r + 2 * chroma
    else:
        sixths = r - g + 4 * chroma
    return _ratio(np.int32(256 * sixths), np.int32(6 * chroma), np.int32(0)) & 255


@kernel
def convert(image: Array, colour: int, linear: Array, curve: Array, xyz: Array, out: Array) -> None:
    """(H, W, 3) uint8 RGB -> (C, H, W) uint8; `colour` counts through colour.COLOURS, RGB is 0."""
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            r = np.int32(image[y, x, 0])
            g = np.int32(image[y, x, 1])
            b = np.int32(image[y, x, 2])
            total = r + g + b
            high = max(r, g, b)
            chroma = high - min(r, g, b)
            if colour == 0:  # in the order of colour.COLOURS
                out[0, y, x], out[1, y, x], out[2, y, x] = r, g, b
            elif colour == 1:
                out[0, y, x] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
            elif colour == 2:
                lr, lg, lb = linear[r], linear[g], linear[b]
                fx = curve[(xyz[0, 0] * lr + xyz[0, 1] * lg + xyz[0, 2] * lb) >> 12]
                fy = curve[(xyz[1, 0] * lr + xyz[1, 1] * lg + xyz[1, 2] * lb) >> 12]
                fz = curve[(xyz[2, 0] * lr + xyz[2, 1] * lg + xyz[2, 2] * lb) >> 12]
                # 16384 is colour._UNIT, and 8192 its half, for rounding.
                lightness = ((116 * fy - 16 * 16384) * 255 + 50 * 16384) // (100 * 16384)
                red_green = 128 + ((500 * (fx - fy) + 8192) >> 14)
                yellow_blue = 128 + ((200 * (fy - fz) + 8192) >> 14)
                out[0, y, x] = min(max(lightness, 0), 255)
                out[1, y, x] = min(max(red_green, 0), 255)
                out[2, y, x] = min(max(yellow_blue, 0), 255)
            elif colour == 3:
                out[0, y, x] = _ratio(np.int32(255 * r), np.int32(total), np.int32(85))
                out[1, y, x] = _ratio(np.int32(255 * g), np.int32(total), np.int32(85))
                out[2, y, x] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
            elif colour == 4:
                out[0, y, x] = _hue(r, g, b, high, chroma)
                out[1, y, x] = _ratio(np.int32(255 * chroma), np.int32(high), np.int32(0))
                out[2, y, x] = high
            elif colour == 5:
                out[0, y, x] = _ratio(np.int32(255 * r), np.int32(total), np.int32(85))
                out[1, y, x] = _ratio(np.int32(255 * g), np.int32(total), np.int32(85))
                out[2, y, x] = _ratio(np.int32(255 * b), np.int32(total), np.int32(85))
            elif colour == 6:
                out[0, y, x] = _ratio(
                    np.int32(255 * (total + r - g)), np.int32(2 * total), np.int32(128)
                )
                out[1, y, x] = _ratio(
                    np.int32(255 * (2 * total + r + g - 2 * b)), np.int32(3 * total), np.int32(170)
                )
            else:
                out[0, y, x] = _hue(r, g, b, high, chroma)
