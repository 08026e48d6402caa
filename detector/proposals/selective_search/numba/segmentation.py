"""Felzenszwalb-Huttenlocher's joining along edges in order of weight: segmentation.py, compiled.

Edges are distributed over a few bands of weight, once for all k. For each k, band by band: drop
the edges inside components and at complete ones (whose last + k / size is below all weights to
come), sort the rest, join. After some bands the components are renumbered, so that the tables that
are accessed at random shrink. Callers pass all buffers, since allocating here is slow to compile.
"""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array

# Ends of the bands of weight, as shares of all edges: narrow where most edges are dropped.
SHARES = (0.12, 0.25, 0.36, 0.45, 0.53, 0.61, 0.69, 0.77, 0.85, 0.92, 1.0)
BANDS = len(SHARES)
# After these bands the components are renumbered: each pass reads all pixels, and pays where many
# have joined. The last leaves their numbers without gaps.
SHRINK_AFTER = (1, 2, 4, BANDS - 1)
# Added to the number of a component that is complete; pixels, at most 64 million, never reach it.
MARK = np.uint32(1 << 31)
OUTSIDE = 65535
COARSE = 16384  # bands end at multiples of 65536 / COARSE


@kernel
def count_weights(weights: Array, coarse: Array) -> None:
    """Add a histogram of (4, H, W) uint16 weights in COARSE bins to `coarse`."""
    for d in range(4):
        for y in range(weights.shape[1]):
            row = weights[d, y]
            for x in range(len(row)):
                coarse[row[x] >> 2] += 1


@kernel
def distribute(weights: Array, band_of: Array, at: Array, ids: Array, keys: Array) -> None:
    """Distribute edges of (4, H, W) uint16 weights to bands, ordered by pixel and direction.

    band_of    (COARSE,) uint8: the band of each coarse weight
    at         (BANDS + 1,) int64 first index of each band, counted up
    ids, keys  (4 * H * W,) uint32 4 * pixel + direction, and uint16 weight
    """
    height, width = weights.shape[1:]
    for y in range(height):
        for x in range(width):
            for d in range(4):
                key = weights[d, y, x]
                band = band_of[key >> 2]
                e = at[band]
                at[band] = e + 1
                ids[e] = 4 * (y * width + x) + d
                keys[e] = key


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
def _counting_sort(
    keys: Array,
    pairs: Array,
    length: int,
    low: int,
    span: int,
    at: Array,
    out: Array,
    weights: Array,
) -> None:
    """Sort `pairs` by their `keys`, which lie in [low, low + span): a stable counting sort."""
    for i in range(span):
        at[i] = 0
    for e in range(length):
        at[keys[e] - low] += 1
    total = 0
    for i in range(span):
        count = at[i]
        at[i] = total
        total += count
    for e in range(length):
        key = keys[e] - low
        slot = at[key]
        at[key] = slot + 1
        out[slot] = pairs[e]
        weights[slot] = keys[e]


@inner
def _join(
    pairs: Array, keys: Array, length: int, k: Any, parent: Array, size: Array, last: Array
) -> None:
    """Join along sorted edges where the weight is at most last + k / size on both sides."""
    for e in range(length):
        # Casts, so that _root is compiled for one type of node.
        root = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        weight = np.int64(keys[e])
        here, there = np.int64(size[root]), np.int64(size[other])
        # Multiplied instead of divided: last + k / size without rounding. Tests are joined by &,
        # since no processor predicts these branches.
        fits = (weight - np.int64(last[root])) * here <= k
        fits &= (weight - np.int64(last[other])) * there <= k
        if fits & (root != other):
            total = here + there
            swap = here < there
            large = other if swap else root
            # Both are set, as a root is its own parent: no branch on which of them is larger.
            parent[root] = large
            parent[other] = large
            size[large] = total
            last[large] = weight


@inner
def _name_components(
    components: int, parent: Array, size: Array, last: Array, low: int, k: Any, name: Array
) -> None:
    """Find the root of every component; add MARK where it cannot grow from weight `low` on."""
    for c in range(components):
        root = _root(parent, np.uint32(c))
        # Every weight to come is at least `low`, and a component that refuses an edge never grows.
        done = (low - np.int64(last[root])) * np.int64(size[root]) > k
        name[c] = root | (np.uint32(done) << np.uint32(31))


@inner
def _renumber(
    labels: Array, components: int, parent: Array, size: Array, last: Array, name: Array
) -> Any:
    """Number the roots 0, 1, 2 ..., move their rows there, and relabel all pixels."""
    # Nothing here branches on being a root, which no processor could predict.
    used = 0
    for c in range(components):
        name[c] = used
        used += parent[c] == c
    for c in range(components):
        name[c] = name[_root(parent, np.uint32(c))]
    used = 0
    for c in range(components):
        size[used], last[used] = size[c], last[c]  # overwritten by the next, unless c is a root
        used += parent[c] == c
    for c in range(used):
        parent[c] = c
    for pixel in range(len(labels)):
        labels[pixel] = name[labels[pixel]]
    return used


@kernel
def grow(
    ids: Array,
    keys: Array,
    starts: Array,
    limits: Array,
    offset: Array,
    k: int,
    labels: Array,
    parent: Array,
    size: Array,
    last: Array,
    name: Array,
    near: Array,
    near_keys: Array,
    pairs: Array,
    pair_keys: Array,
    at: Array,
) -> Any:
    """Join all pixels that k allows; sets `labels` and returns the number of components.

    starts, limits             each band's first edge and lowest weight
    offset                     (4,) uint32 distance to each direction's neighbour
    labels, parent, name       buffers for (H * W,) uint32
    size, last                 buffers for as many int32 and uint16
    near, near_keys            buffers for a band: uint64 pairs and uint16 weights
    pairs, pair_keys           the same again
    at                         buffer for (65536,) int32
    """
    components = len(labels)
    for c in range(components):
        labels[c] = parent[c] = name[c] = c
        size[c] = 1
        last[c] = 0
    for band in range(BANDS):
        length = 0 * components
        for e in range(starts[band], starts[band + 1]):
            pixel = np.uint32(ids[e] >> 2)
            component = name[labels[pixel]]
            other = name[labels[np.uint32(pixel + offset[ids[e] & np.uint32(3)])]]
            near[length] = np.uint64(component) << np.uint64(32) | np.uint64(other)
            near_keys[length] = keys[e]
            # Written in any case, and kept by counting: adding a truth needs no branch.
            length += (component != other) & ((component | other) < MARK)
        low, span = limits[band], limits[band + 1] - limits[band]
        _counting_sort(near_keys, near, length, low, span, at, pairs, pair_keys)
        _join(pairs, pair_keys, length, k, parent, size, last)
        if band in SHRINK_AFTER:
            components = _renumber(labels, components, parent, size, last, name)
        _name_components(components, parent, size, last, limits[band + 1], k, name)
    return components


@kernel
def collect_small(
    weights: Array, labels: Array, large: Array, inside: Array, near: Array, near_keys: Array
) -> Any:
    """Collect edges between components that are not both `large`, by pixel; return their number.

    `inside` is a buffer for (H + 1, W + 2) bytes, all 0; `near` and `near_keys` for all edges.
    """
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            inside[y, x + 1] = large[labels[y, x]]
    length = 0
    for y in range(height):
        row, below = labels[y], labels[min(y + 1, height - 1)]  # below the last all are OUTSIDE
        beside, under = inside[y], inside[y + 1]
        for x in range(width):
            # Inside large components, nearly everywhere, there is nothing to collect. The border of
            # zeros keeps the test free of coordinates.
            if beside[x + 1] & beside[x + 2] & under[x] & under[x + 1] & under[x + 2]:
                continue
            for d in range(4):
                key = weights[d, y, x]
                if key == OUTSIDE:
                    continue
                component = row[x]
                other = (
                    row[x + 1] if d == 0 else below[x + (0 if d == 1 else (1 if d == 2 else -1))]
                )
                near[length] = np.uint64(component) << np.uint64(32) | np.uint64(other)
                near_keys[length] = key
                length += (component != other) & ((large[component] & large[other]) == 0)
    return length


@kernel
def absorb(
    near: Array,
    near_keys: Array,
    length: int,
    least: int,
    small: int,
    parent: Array,
    size: Array,
    pairs: Array,
    pair_keys: Array,
    at: Array,
) -> None:
    """Join along edges, lightest first, where a side is below `least`, while any is `small`."""
    # 0 * length, since numba would compile the sort once more for a literal 0.
    _counting_sort(near_keys, near, length, 0 * length, OUTSIDE, at, pairs, pair_keys)
    for e in range(length):
        root = _root(parent, np.uint32(pairs[e] >> np.uint64(32)))
        other = _root(parent, np.uint32(pairs[e]))
        if root != other and (size[root] < least or size[other] < least):
            small -= (size[root] < least) + (size[other] < least)
            swap = size[root] < size[other]
            large = other if swap else root
            little = root if swap else other
            parent[little] = large
            size[large] += size[little]
            small += size[large] < least
            if small == 0:  # most edges are still to come
                return


@kernel
def relabel(labels: Array, parent: Array, name: Array, out: Array) -> Any:
    """Relabel components as int32 regions 0, 1, 2 ... by first appearance; return their number.

    `name` is a buffer for one number a component, all MARK.
    """
    regions = 0
    for pixel in range(len(labels)):
        root = _root(parent, labels[pixel])
        if name[root] == MARK:
            name[root] = regions
            regions += 1
        out[pixel] = name[root]
    return regions
