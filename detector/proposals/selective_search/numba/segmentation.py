"""Felzenszwalb-Huttenlocher's joining along edges in order of weight: segmentation.py, compiled.

First what all values of k have in common, once: `condense` joins where each of them would. An edge
at which they may differ, or that leaves a strip of the image, freezes the components at its ends:
as they are now, every k has them at this weight. Frozen ones join nothing; the edges that remain
between components are few, and each k starts from there. Strips keep the tables in the cache.
Callers pass all buffers, since allocating here is slow to compile.
"""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array

SEEN_BITS = 14  # of a table of pairs of components
OUTSIDE = 65535  # of an edge that leaves the image, as in filters.py
UNNAMED = np.uint32(0xFFFFFFFF)


@inner
def _root(parent: Array, node: Any) -> Any:
    # Path halving. Nearly all nodes are children of their root, so the branch is predictable.
    above = parent[node]
    higher = parent[above]
    while above != higher:
        parent[node] = higher
        node = higher
        above = parent[node]
        higher = parent[above]
    return above


@inner
def _begin_at(at: Array) -> None:
    """Turn counts into the first places of a counting sort."""
    total = 0
    for i in range(len(at)):
        count = at[i]
        at[i] = total
        total += count


@inner
def _sort_strip(weights: Array, first: int, end: int, at: Array, ids: Array, keys: Array) -> Any:
    """Sort the edges of rows `first` to `end`: ids 4 * pixel + direction, and weights."""
    width = weights.shape[2]
    for i in range(len(at)):
        at[i] = 0
    for d in range(4):
        for y in range(first, end):
            row = weights[d, y]
            for x in range(width):
                at[row[x]] += 1
    _begin_at(at)
    for y in range(first, end):
        for x in range(width):
            for d in range(4):
                key = weights[d, y, x]
                slot = at[key]
                at[key] = slot + 1
                ids[slot] = 4 * (y * width + x) + d
                keys[slot] = key
    return at[OUTSIDE - 1]


@inner
def _place(pair: Any) -> Any:
    """Place of a pair of uint32 in a table of 1 << SEEN_BITS."""
    # Fibonacci hashing: 2**64 over the golden ratio spreads neighbouring keys over the table.
    return (pair * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - SEEN_BITS)


@kernel
def condense(
    weights: Array,
    rows: int,
    low: int,
    high: int,
    offset: Array,
    parent: Array,
    size: Array,
    last: Array,
    at: Array,
    ids: Array,
    keys: Array,
    seen: Array,
    rest: Array,
    rest_keys: Array,
) -> Any:
    """Join what every k from `low` to `high` joins; collect the other edges, and count them.

    weights            (4, H, W) uint16
    rows               height of a strip
    offset             (4,) uint32 distance to each direction's neighbour
    parent, size       buffers for (H * W,) uint32 and int32; frozen sizes are negative
    last               buffer for as many uint16
    at                 buffer for (65536,) int32
    ids, keys          buffers for the edges of a strip and of one row: uint32 and uint16
    seen               (1 << SEEN_BITS,) uint64, all 0
    rest, rest_keys    buffers for all edges: the collected ones, sorted strip by strip
    """
    height, width = weights.shape[1:]
    used = height - height
    for pixel in range(len(parent)):
        parent[pixel] = pixel
        size[pixel] = 1
        last[pixel] = 0
    for first in range(0, height, rows):
        end = min(first + rows, height)
        begin, after = first * width, end * width
        for pixel in range(begin, min(after + width, len(parent))):
            size[pixel] = 1 if pixel < after else -1  # the next strip's pixels count as frozen
        # With the row above, whose edges lead into this strip.
        length = _sort_strip(weights, max(first - 1, 0), end, at, ids, keys)
        for e in range(length):
            pixel = ids[e] >> np.uint32(2)
            root = _root(parent, pixel)
            other = _root(parent, np.uint32(pixel + offset[ids[e] & np.uint32(3)]))
            if root == other:
                continue
            weight = np.int64(keys[e])
            here, there = np.int64(size[root]), np.int64(size[other])
            # Multiplied instead of divided: last + k / size without rounding. A frozen component
            # never refuses, since its size is negative.
            excess = max(
                (weight - np.int64(last[root])) * here, (weight - np.int64(last[other])) * there
            )
            if (excess <= low) & ((here | there) > 0):
                large = other if here < there else root
                # Both are set, as a root is its own parent: no branch on which of them is larger.
                parent[root] = large
                parent[other] = large
                size[large] = here + there
                last[large] = weight
                continue
            # Of all edges between two frozen components only the first can matter. A table as small
            # as this forgets some pairs, which are collected once more.
            pair = np.uint64(min(root, other)) << np.uint64(32) | np.uint64(max(root, other))
            place = _place(pair)
            rest[used] = ids[e]
            rest_keys[used] = keys[e]
            used += (seen[place] != pair) & (pixel >= begin)  # above, it was in the strip before
            seen[place] = pair
            # A component that refuses an edge never grows again, so above `high` nothing is open.
            differs = excess <= high
            size[root] = -abs(here) if differs else here
            size[other] = -abs(there) if differs else there
    return used


@kernel
def number(parent: Array, size: Array, last: Array, name: Array, labels: Array) -> Any:
    """Number components by first pixel in `labels`, move their rows there, and count them."""
    for pixel in range(len(name)):
        name[pixel] = UNNAMED
    used = 0
    for pixel in range(len(labels)):
        root = _root(parent, np.uint32(pixel))
        if name[root] == UNNAMED:
            name[root] = used
            # Its row is free: at most at this pixel, it is a root only if named before.
            size[used], last[used] = abs(size[root]), last[root]
            used += 1
        labels[pixel] = name[root]
    return used


@kernel
def sort_rest(
    ids: Array, keys: Array, offset: Array, labels: Array, at: Array, pairs: Array, pair_keys: Array
) -> None:
    """Sort edges to `pairs` of components (uint64, one in each half) by weight; stable."""
    for i in range(len(at)):
        at[i] = 0
    for e in range(len(ids)):
        at[keys[e]] += 1
    _begin_at(at)
    for e in range(len(ids)):
        pixel = ids[e] >> np.uint32(2)
        other = np.uint32(pixel + offset[ids[e] & np.uint32(3)])
        key = keys[e]
        slot = at[key]
        at[key] = slot + 1
        pairs[slot] = np.uint64(labels[pixel]) << np.uint64(32) | np.uint64(labels[other])
        pair_keys[slot] = key


@kernel
def grow(
    pairs: Array, keys: Array, k: int, least: int, parent: Array, size: Array, last: Array
) -> None:
    """Join components as k allows; then, lightest edge first, those below `least` pixels.

    `size` and `last` (C,) are what `number` left, and change; `parent` is a buffer for as many.
    """
    components = len(parent)
    for c in range(components):
        parent[c] = c
    for e in range(len(pairs)):
        # Casts, so that _root is compiled for one type of node.
        root = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        weight = np.int64(keys[e])
        here, there = np.int64(size[root]), np.int64(size[other])
        # Tests are joined by &, since no processor predicts these branches.
        fits = (weight - np.int64(last[root])) * here <= k
        fits &= (weight - np.int64(last[other])) * there <= k
        if fits & (root != other):
            large = other if here < there else root
            parent[root] = large
            parent[other] = large
            size[large] = here + there
            last[large] = weight
    small = 0
    for c in range(components):
        small += (parent[c] == c) & (size[c] < least)
    for e in range(len(pairs)):
        if small == 0:  # most edges are still to come
            return
        root = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        here, there = size[root], size[other]
        if (root != other) & (min(here, there) < least):
            large = other if here < there else root
            parent[root] = large
            parent[other] = large
            size[large] = here + there
            small -= (here < least) + (there < least) - (here + there < least)


@kernel
def divide(parts: Array, regions: Array, seen: Array, number: Array) -> Any:
    """Divide parts by regions, both (components,) uint32; return how many there are.

    `seen`, (1 << SEEN_BITS,) uint64, starts with all bits set; `number` is a buffer for as many
    int32. Forgotten pairs only divide further.
    """
    used = 0
    for c in range(len(parts)):
        pair = np.uint64(parts[c]) << np.uint64(32) | np.uint64(regions[c])
        place = _place(pair)
        if seen[place] != pair:
            seen[place] = pair
            number[place] = used
            used += 1
        parts[c] = number[place]
    return used


@kernel
def name_regions(parent: Array, name: Array) -> Any:
    """Name each component's region 0, 1, 2 ... by first appearance; return their number.

    Components are numbered by first appearance themselves.
    """
    for c in range(len(parent)):
        name[c] = UNNAMED
    regions = 0
    for c in range(len(parent)):
        root = _root(parent, np.uint32(c))
        if name[root] == UNNAMED:
            name[root] = regions
            regions += 1
        name[c] = name[root]
    return regions


@kernel
def paint(labels: Array, name: Array, out: Array) -> None:
    """Give each pixel the name of its component, as int32."""
    for pixel in range(len(labels)):
        out[pixel] = name[labels[pixel]]
