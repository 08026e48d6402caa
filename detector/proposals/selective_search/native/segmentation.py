"""Smoothing, edge weights, sorting and Felzenszwalb-Huttenlocher's joining: segmentation.py and
filters.py, compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.proposals.selective_search.native.kernel import inner, kernel
from detector.structures import Array


SHARES = (0.16, 0.32, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9, 1.0)
"""Where the bands of weight end, as shares of all edges: narrow where most edges can be dropped."""
BANDS = len(SHARES)
SHRINK_AFTER = (0, 1, 3, BANDS - 1)
"""After these bands the components are renumbered."""
MARK = np.uint32(1 << 31)
"""Added to the number of a component that is complete."""


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
            out[d, y, 0] = out[d, y, width - 1] = 65535
            if y + down == height:
                out[d, y] = 65535
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


@kernel
def banded_edges(weights: Array, ids: Array, keys: Array) -> Any:
    """Distribute (4, H, W) uint16 weights over bands that hold SHARES of the edges, lightest first.

    ids, keys  (4 * H * W,) uint32 and uint16: 4 * pixel + direction and weight, in each band by pixel
    Returned are the bands' first edges and their lower limits of weight, (BANDS + 1,) each.
    """
    height, width = weights.shape[1:]
    coarse = np.zeros(4096, np.int64)
    for key in weights.reshape(4 * height * width):
        coarse[key >> 4] += 1
    coarse[4095] = 0  # edges that leave the image
    starts = np.zeros(BANDS + 2, np.int64)
    limits = np.zeros(BANDS + 1, np.int64)
    band_of = np.empty(4096, np.uint8)
    edges = coarse.sum()
    total = band = 0
    for i in range(4095):
        if total > edges * SHARES[band] and band + 1 < BANDS:
            band += 1
            starts[band], limits[band] = total, 16 * i
        band_of[i] = band
        total += coarse[i]
    for rest in range(band + 1, BANDS + 1):
        starts[rest], limits[rest] = total, 16 * 4095
    band_of[4095] = BANDS
    at = starts.copy()
    for y in range(height):
        for x in range(width):
            for d in range(4):
                key = weights[d, y, x]
                band = band_of[key >> 4]
                e = at[band]
                at[band] = e + 1
                ids[e] = 4 * (y * width + x) + d
                keys[e] = key
    return starts, limits


@inner
def _root(parent: Array, node: Any) -> Any:
    """The root above `node`, which is its own parent; the path is halved on the way.

    Nearly all nodes hang directly under their root, which makes the branch predictable.
    """
    above = parent[node]
    higher = parent[above]
    while above != higher:
        parent[node] = higher
        node = higher
        above = parent[node]
        higher = parent[above]
    return above


@inner
def _ordered(keys: Array, pairs: Array, low: int, span: int, out: Array, weights: Array) -> None:
    """Counting sort of `pairs` and their `keys`, which are `low` to `low + span`, stable."""
    at = np.zeros(span + 1, np.int32)
    for key in keys:
        at[key - low] += 1
    total = 0
    for i in range(span):
        count = at[i]
        at[i] = total
        total += count
    for e in range(len(keys)):
        key = keys[e] - low
        place = at[key]
        at[key] = place + 1
        out[place] = pairs[e]
        weights[place] = keys[e]


@inner
def _joined(pairs: Array, keys: Array, k: Any, parent: Array, size: Array, last: Array) -> None:
    """Join along sorted edges where the weight is at most last + k / size on both sides."""
    for e in range(len(keys)):
        one = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        weight = np.int64(keys[e])
        here, there = np.int64(size[one]), np.int64(size[other])
        fits = (weight - np.int64(last[one])) * here <= k
        fits &= (weight - np.int64(last[other])) * there <= k
        if fits & (one != other):
            total = here + there
            swap = here < there
            large = other if swap else one
            parent[one] = large
            parent[other] = large
            size[large] = total
            last[large] = weight


@inner
def _swept(pairs: Array, keys: Array, least: int, small: int, parent: Array, size: Array) -> None:
    """Join along sorted edges where either side is below `least` pixels, until `small` sides are gone."""
    for e in range(len(keys)):
        one = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        if one != other and (size[one] < least or size[other] < least):
            small -= (size[one] < least) + (size[other] < least)
            large, little = (other, one) if size[one] < size[other] else (one, other)
            parent[little] = large
            size[large] += size[little]
            small += size[large] < least
            if small == 0:
                return


@inner
def _named(
    components: int,
    parent: Array,
    size: Array,
    last: Array,
    low: int,
    k: Any,
    name: Array,
) -> None:
    """The root of every component, plus MARK where it cannot grow at weights of `low` and above."""
    for c in range(components):
        root = _root(parent, np.uint32(c))
        done = (low - np.int64(last[root])) * np.int64(size[root]) > k
        name[c] = root | (np.uint32(done) << np.uint32(31))


@inner
def _renumbered(
    labels: Array, components: int, parent: Array, size: Array, last: Array, name: Array
) -> Any:
    """Number the roots 0, 1, 2 ..., move their rows there, and give all pixels their numbers.

    Nothing here branches on whether a component is a root, which no processor could predict.
    """
    used = 0
    for c in range(components):
        name[c] = used
        used += parent[c] == c
    for c in range(components):
        name[c] = name[_root(parent, np.uint32(c))]
    used = 0
    for c in range(components):
        size[used], last[used] = size[c], last[c]
        used += parent[c] == c
    for c in range(used):
        parent[c] = c
    for pixel in range(len(labels)):
        labels[pixel] = name[labels[pixel]]
    return used


@inner
def _absorb(
    weights: Array, labels: Array, least: int, components: int, parent: Array, size: Array
) -> None:
    """Components below `least` pixels join a neighbour, lightest edge first."""
    height, width = labels.shape
    small = 0
    large = np.empty(components, np.bool_)
    for c in range(components):
        large[c] = size[c] >= least
        small += size[c] < least
    if small == 0 or components == 1:
        return
    near, near_keys = np.empty(weights.size, np.uint64), np.empty(weights.size, np.uint16)
    length = 0
    inside = np.zeros((height + 1, width + 2), np.bool_)
    for y in range(height):
        for x in range(width):
            inside[y, x + 1] = large[labels[y, x]]
    for y in range(height):
        row, below = labels[y], labels[min(y + 1, height - 1)]
        near_large, large_below = inside[y], inside[y + 1]
        for x in range(width):
            if (
                near_large[x + 1]
                & near_large[x + 2]
                & large_below[x]
                & large_below[x + 1]
                & large_below[x + 2]
            ):
                continue
            for d in range(4):
                key = weights[d, y, x]
                if key == 65535:
                    continue
                one = row[x]
                other = (
                    row[x + 1] if d == 0 else below[x + (0 if d == 1 else (1 if d == 2 else -1))]
                )
                near[length] = np.uint64(one) << np.uint64(32) | np.uint64(other)
                near_keys[length] = key
                length += (one != other) & (not (large[one] & large[other]))
    pairs, keys = np.empty(length, np.uint64), np.empty(length, np.uint16)
    _ordered(near_keys[:length], near, 0, 65535, pairs, keys)
    _swept(pairs, keys, least, small, parent, size)


@kernel
def segment(
    weights: Array,
    ids: Array,
    keys: Array,
    starts: Array,
    limits: Array,
    k: int,
    least: int,
    labels: Array,
) -> Any:
    """Banded edges -> (H, W) int32 labels 0..R-1 in order of appearance; R is returned.

    Band by band: drop the edges inside components and at complete ones (whose last + k / size is
    below all weights to come), sort the rest, join. Now and then the components are renumbered, so
    that the tables accessed at random shrink.
    """
    height, width = labels.shape
    count = height * width
    flat = labels.view(np.uint32).reshape(count)
    offset = np.array([1, width, width + 1, width - 1], np.uint32)
    parent = np.arange(count).astype(np.uint32)
    size = np.ones(count, np.int32)
    last = np.zeros(count, np.int32)
    name = np.empty(count, np.uint32)
    most = 0
    for band in range(BANDS):
        most = max(most, starts[band + 1] - starts[band])
    near, near_keys = np.empty(most, np.uint64), np.empty(most, np.uint16)
    pairs, sorted_keys = np.empty(most, np.uint64), np.empty(most, np.uint16)
    for pixel in range(count):
        flat[pixel] = pixel
        name[pixel] = pixel
    components = count
    for band in range(BANDS):
        length = 0
        for e in range(starts[band], starts[band + 1]):
            pixel = np.uint32(ids[e] >> 2)
            one = name[flat[pixel]]
            other = name[flat[np.uint32(pixel + offset[ids[e] & np.uint32(3)])]]
            near[length] = np.uint64(one) << np.uint64(32) | np.uint64(other)
            near_keys[length] = keys[e]
            length += (one != other) & ((one | other) < MARK)
        span = limits[band + 1] - limits[band]
        _ordered(near_keys[:length], near, limits[band], span, pairs, sorted_keys)
        _joined(pairs, sorted_keys[:length], k, parent, size, last)
        if band in SHRINK_AFTER:
            components = _renumbered(flat, components, parent, size, last, name)
        _named(components, parent, size, last, limits[band + 1], k, name)
    _absorb(weights, flat.reshape(height, width), least, components, parent, size)
    name[:components] = MARK
    regions = 0
    for pixel in range(count):
        root = _root(parent, flat[pixel])
        if name[root] == MARK:
            name[root] = regions
            regions += 1
        flat[pixel] = name[root]
    return regions
