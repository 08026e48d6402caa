"""Compiled kernel of detector.crops: a separable filter that visits only the pixels under it."""

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array

# Up to this many pixels under a filter are summed one by one. For more, which no photograph has,
# the sum is the area of the triangle, so that the work is bounded by the image and not by the box.
FEW = 2048


@inner
def _taps(
    start: float, step: float, size: int, length: int, first: Array, count: Array, weight: Array
) -> None:
    """Write for each output point its first pixel inside the image, their number and weights."""
    reach = max(1.0, step)
    for j in range(size):
        centre = start + (j + 0.5) * step - 0.5
        low = np.ceil(centre - reach)
        high = np.floor(centre + reach)
        total = 0.0
        if high - low < FEW:
            for i in range(int(low), int(high) + 1):
                total += max(0.0, 1.0 - abs(i - centre) / reach)
        else:
            total = reach  # the area of the triangle, to one part in a million
        # Clamped before int: the ends of a huge box do not fit 64 bits.
        inside_low = int(min(max(low, 0.0), float(length)))
        inside_high = int(max(min(high, length - 1.0), -1.0))
        first[j] = min(inside_low, length - 1)  # a pixel of the image even where count is 0
        count[j] = max(0, inside_high - inside_low + 1)
        for i in range(inside_low, inside_high + 1):
            weight[j, i - inside_low] = max(0.0, 1.0 - abs(i - centre) / reach) / total


@kernel
def crop_regions(image: Array, corner: Array, step: Array, mean: Array, out: Array) -> None:
    """Crop (H, W, 3) uint8 by (N, 2) corners and steps (x, y) to out (N, S, S, 3) float32."""
    height, width = image.shape[0], image.shape[1]
    size = out.shape[1]
    widest = 1.0
    for n in range(step.shape[0]):
        widest = max(widest, step[n, 0], step[n, 1])
    taps = int(min(2 * widest, float(max(height, width)))) + 3
    first_x, count_x = np.empty(size, np.int64), np.empty(size, np.int64)
    first_y, count_y = np.empty(size, np.int64), np.empty(size, np.int64)
    weight_x, weight_y = np.empty((size, taps), np.float32), np.empty((size, taps), np.float32)
    row = np.empty(width * 3, np.float32)
    scale = np.float32(1 / 255)
    for n in range(step.shape[0]):
        _taps(corner[n, 0], step[n, 0], size, width, first_x, count_x, weight_x)
        _taps(corner[n, 1], step[n, 1], size, height, first_y, count_y, weight_y)
        left, right = width * 3, 0
        for j in range(size):
            if count_x[j]:
                left = min(left, first_x[j] * 3)
                right = max(right, (first_x[j] + count_x[j]) * 3)
        for i in range(size):
            # Vertical pass first: it adds whole rows, which the processor does with SIMD.
            for x in range(left, right):
                row[x] = 0
            covered = np.float32(0)
            for t in range(count_y[i]):
                weight = weight_y[i, t]
                covered += weight
                source = image[first_y[i] + t].reshape(width * 3)
                for x in range(left, right):
                    row[x] += weight * source[x]
            for j in range(size):
                red, green, blue = np.float32(0), np.float32(0), np.float32(0)
                share = np.float32(0)
                at = first_x[j] * 3
                for t in range(count_x[j]):
                    weight = weight_x[j, t]
                    share += weight
                    red += weight * row[at]
                    green += weight * row[at + 1]
                    blue += weight * row[at + 2]
                    at += 3
                share *= covered
                out[n, i, j, 0] = red * scale - mean[0] * share
                out[n, i, j, 1] = green * scale - mean[1] * share
                out[n, i, j, 2] = blue * scale - mean[2] * share
