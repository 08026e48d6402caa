"""Sizes, boxes, neighbours and histograms of all regions, each in one pass over the labels."""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array


@kernel
def outline(labels: Array, sizes: Array, boxes: Array) -> None:
    """Sizes (R,) int32 and boxes (R, 4) int32 xyxy of (H, W) int32 labels, run by run."""
    height, width = labels.shape
    for r in range(len(sizes)):
        sizes[r] = 0
        boxes[r, 0], boxes[r, 1], boxes[r, 2], boxes[r, 3] = width, height, 0, 0
    for y in range(height):
        start = 0
        while start < width:
            label = labels[y, start]
            end = start + 1
            while end < width and labels[y, end] == label:
                end += 1
            sizes[label] += end - start
            boxes[label, 0] = min(boxes[label, 0], start)
            boxes[label, 1] = min(boxes[label, 1], y)
            boxes[label, 2] = max(boxes[label, 2], end)
            boxes[label, 3] = y + 1  # rows come in order: no maximum
            start = end


@inner
def _empty_table(size: Any) -> Any:
    table = np.empty(size, np.int64)
    for i in range(size):
        table[i] = -1
    return table


@inner
def _slot(table: Array, key: int) -> Any:
    """Index of `key` in the hash table, or of the empty slot (-1) where it belongs."""
    mask = len(table) - 1  # sizes are powers of two
    # Fibonacci hashing: 2**64 over the golden ratio spreads neighbouring keys over the table.
    at = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while table[at] != -1 and table[at] != key:
        at = (at + 1) & mask
    return at


@kernel
def neighbours(labels: Array, regions: int) -> Array:
    """Hash table of touching regions: int64 higher << 32 | lower, with -1 in empty slots."""
    height, width = labels.shape
    size = 1 << 12
    while size < 16 * regions:
        size *= 2
    table: Array = _empty_table(size)
    used = 0
    for y in range(height):
        row, below = labels[y], labels[min(y + 1, height - 1)]
        last_key = np.int64(-1)  # along a border the same pair repeats: looked up once
        for x in range(width):
            here = np.int64(row[x])
            # At the image's border a neighbour inside is taken twice, which adds no pair.
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            # Nearly all pixels lie inside a region; & in place of `and` makes one branch of four.
            if (
                (row[right] == here)
                & (below[x] == here)
                & (below[left] == here)
                & (below[right] == here)
            ):
                continue
            for d in range(4):
                side = left if d == 3 else (x if d == 1 else right)
                there = np.int64(row[side] if d == 0 else below[side])
                if here == there:
                    continue
                key = max(here, there) << 32 | min(here, there)
                if key == last_key:
                    continue
                last_key = key
                at = _slot(table, key)
                if table[at] == -1:
                    table[at] = key
                    used += 1
                    if 2 * used > len(table):  # half full at most, or probing takes long
                        old = table
                        table = _empty_table(2 * len(old))
                        for value in old:
                            if value != -1:
                                table[_slot(table, value)] = value
    return table


@kernel
def histograms(labels: Array, planes: Array, codes: Array, signed: Array, out: Array) -> None:
    """Histograms of all regions in one pass: `out` (R, C * (25 + 8 * 10)) int32, colour first.

    A texture code stands for two opposite directions, of which at most one responds. Pixels
    that do not respond in a direction, its bin 0, are the rest of the region's size. `signed`,
    (R, C * 4 * 20) int32, and `out` start at 0.
    """
    count, height, width = planes.shape
    regions = len(out)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            for c in range(count):
                # Equal bins of 256 values: value * 25 / 256, floored.
                out[label, 25 * c + ((np.int64(planes[c, y, x]) * 25) >> 8)] += 1
            for j in range(4 * count):
                signed[label, 20 * j + codes[j, y, x]] += 1
    for r in range(regions):
        for j in range(4 * count):
            both = 0
            for i in range(19):
                both += signed[r, 20 * j + i]
            start = 25 * count + 80 * (j // 4) + 10 * (j % 4)
            ahead = behind = 0
            for i in range(1, 10):
                out[r, start + i] = signed[r, 20 * j + 9 + i]
                out[r, start + 40 + i] = signed[r, 20 * j + 9 - i]
                ahead += signed[r, 20 * j + 9 + i]
                behind += signed[r, 20 * j + 9 - i]
            out[r, start] = both - ahead
            out[r, start + 40] = both - behind


@kernel
def add_rows(rows: Array, targets: Array, out: Array) -> None:
    """Add each row to row `targets[i]` of `out`."""
    for i in range(len(rows)):
        row, target = rows[i], out[targets[i]]
        for j in range(len(row)):
            target[j] += row[j]
