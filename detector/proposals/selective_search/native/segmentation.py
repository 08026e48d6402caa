"""Smoothing, edge weights, sorting and Felzenszwalb-Huttenlocher's joining: segmentation.py and
filters.py, compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.proposals.selective_search.native.kernel import inner, kernel
from detector.structures import Array


@inner
def _smooth(plane: Array, weights: Array, hue: bool, out: Array) -> None:
    """(H, W) uint8 -> int16 in 1/128 grey levels."""
    height, width = plane.shape
    radius = len(weights) // 2
    padded = np.empty(width + 2 * radius, np.int32)
    total = np.empty(width, np.int32)
    rows = np.empty((height, width), np.int16)
    for y in range(height):
        for x in range(radius):
            padded[x] = plane[y, 0]
            padded[width + radius + x] = plane[y, width - 1]
        for x in range(width):
            padded[radius + x] = plane[y, x]
            total[x] = 16
        for i in range(2 * radius + 1):
            weight = weights[i]
            if hue:
                for x in range(width):
                    step = np.int32(padded[x + i] - padded[x + radius] + 128) & 255
                    total[x] += weight * np.int32(step - 128)
            else:
                for x in range(width):
                    total[x] += weight * padded[x + i]
        if hue:
            for x in range(width):
                rows[y, x] = ((padded[x + radius] << 7) + (total[x] >> 5)) & 32767
        else:
            for x in range(width):
                rows[y, x] = total[x] >> 5
    for y in range(height):
        for x in range(width):
            total[x] = 2048
        centre = rows[y]
        for i in range(2 * radius + 1):
            weight = weights[i]
            row = rows[min(max(y + i - radius, 0), height - 1)]
            if hue:
                for x in range(width):
                    step = np.int32(np.int32(row[x]) - np.int32(centre[x]) + 16384) & 32767
                    total[x] += weight * np.int32(step - 16384)
            else:
                for x in range(width):
                    total[x] += weight * np.int32(row[x])
        if hue:
            for x in range(width):
                out[y, x] = (np.int32(centre[x]) + (total[x] >> 12)) & 32767
        else:
            for x in range(width):
                out[y, x] = total[x] >> 12


@inner
def _squared(here: Array, there: Array, hue: bool, total: Array) -> None:
    """total += (there - here) ** 2, on the circle for a hue."""
    if hue:
        for x in range(len(total)):
            step = np.int32(np.int32(there[x]) - np.int32(here[x]) + 16384) & 32767
            step = np.int32(step - 16384)
            total[x] += np.uint32(step * step)
    else:
        for x in range(len(total)):
            step = np.int32(np.int32(there[x]) - np.int32(here[x]))
            total[x] += np.uint32(step * step)


@kernel
def edge_weights(planes: Array, weights: Array, hue: bool, out: Array) -> None:
    """(C, H, W) uint8 planes -> (4, H, W) uint16 distances to the east, south, south-east and
    south-west.
    """
    count, height, width = planes.shape
    smoothed = np.empty((count, height, width), np.int16)
    for c in range(count):
        _smooth(planes[c], weights, hue and c == 0, smoothed[c])
    total = np.empty(width, np.uint32)
    for y in range(height):
        for d in range(4):
            down = 0 if d == 0 else 1
            if y + down == height:
                continue
            left = 1 if d == 3 else 0
            right = width if d == 1 or d == 3 else width - 1
            shift = -1 if d == 3 else (0 if d == 1 else 1)
            found = total[: right - left]
            found[:] = 0
            for c in range(count):
                here = smoothed[c, y, left:right]
                there = smoothed[c, y + down, left + shift : right + shift]
                _squared(here, there, hue and c == 0, found)
            target = out[d, y, left:right]
            for x in range(right - left):
                target[x] = np.int32(np.sqrt(np.float32(found[x])))


@inner
def _radix(ids: Array, keys: Array, spare_ids: Array, spare_keys: Array) -> None:
    """Sort in place by 16-bit keys, stable: two passes of eight bits."""
    for shift in (0, 8):
        start = np.zeros(257, np.int64)
        for e in range(len(ids)):
            start[((keys[e] >> shift) & 255) + 1] += 1
        for i in range(256):
            start[i + 1] += start[i]
        for e in range(len(ids)):
            bucket = (keys[e] >> shift) & 255
            at = start[bucket]
            start[bucket] = at + 1
            spare_ids[at] = ids[e]
            spare_keys[at] = keys[e]
        ids, spare_ids = spare_ids, ids
        keys, spare_keys = spare_keys, keys


@kernel
def sorted_edges(weights: Array, ids: Array, keys: Array) -> None:
    """(4, H, W) uint16 -> (E,) uint32 numbers 4 * pixel + direction and (E,) uint16 weights,
    lightest first.
    """
    height, width = weights.shape[1:]
    e = 0
    for y in range(height):
        last = y + 1 == height
        for x in range(width):
            first = 4 * (y * width + x)
            for d in range(4):
                outside = (d != 0 and last) or (x == 0 and d == 3)
                if outside or (x + 1 == width and (d == 0 or d == 2)):
                    continue
                ids[e] = first + d
                keys[e] = weights[d, y, x]
                e += 1
    _radix(ids, keys, np.empty_like(ids), np.empty_like(keys))


@inner
def _root(parent: Array, node: Any) -> Any:
    """The root above `node`, halving the path. A root holds minus its size."""
    while True:
        above = parent[node]
        if above < 0:
            return node
        higher = parent[above]
        if higher < 0:
            return above
        parent[node] = higher
        node = higher


@kernel
def segment(weights: Array, ids: Array, keys: Array, k: int, min_size: int, labels: Array) -> Any:
    """Sorted edges -> (H, W) int32 labels 0..R-1 in order of appearance; R is returned."""
    height, width = weights.shape[1:]
    count = height * width
    offset = np.array([1, width, width + 1, width - 1])
    parent = np.full(count, -1, np.int32)
    threshold = np.full(count, k, np.int32)
    for e in range(len(ids)):
        p = np.int64(ids[e] >> 2)
        one = _root(parent, p)
        other = _root(parent, p + offset[ids[e] & 3])
        weight = np.int32(keys[e])
        if one != other and weight <= threshold[one] and weight <= threshold[other]:
            if parent[one] > parent[other]:
                one, other = other, one
            parent[one] += parent[other]
            parent[other] = one
            threshold[one] = weight + k // -parent[one]
    for e in range(len(ids)):
        p = np.int64(ids[e] >> 2)
        one = _root(parent, p)
        other = _root(parent, p + offset[ids[e] & 3])
        if one != other and (-parent[one] < min_size or -parent[other] < min_size):
            if parent[one] > parent[other]:
                one, other = other, one
            parent[one] += parent[other]
            parent[other] = one
    flat = labels.reshape(count)
    name = np.full(count, -1, np.int32)
    regions = 0
    for pixel in range(count):
        root = _root(parent, pixel)
        if name[root] < 0:
            name[root] = regions
            regions += 1
        flat[pixel] = name[root]
    return regions
