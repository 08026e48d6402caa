"""Hierarchical grouping with a heap: grouping.py, compiled."""

from typing import Any

import numpy as np

from detector.jit import inner, kernel
from detector.structures import Array

# The heap holds similarity << 34 | (LAST - pair): one comparison of int64 finds the most similar
# pair, and of equals the earliest. Similarities take 29 bits (similarity.PRECISION).
LAST = np.int64((1 << 34) - 1)


@inner
def _sum_of_minima(row: Array, other: Array) -> Any:
    # It holds 65535 of each histogram; an int64 sum would be vectorised half as wide.
    total = np.uint32(0)
    for i in range(len(row)):
        total = np.uint32(total + np.uint32(min(row[i], other[i])))
    return np.int64(total)


@inner
def _normalise(counts: Array, size: int, out: Array) -> None:
    factor = np.float32(65535) / np.float32(size)
    for i in range(len(counts)):
        out[i] = np.uint16(np.int32(np.float32(counts[i]) * factor))


@inner
def _similarity(
    use: Array,
    sizes: Array,
    boxes: Array,
    scaled: Array,
    split: int,
    region: int,
    other: int,
    pixels: int,
) -> Any:
    # The same integer as similarity.similarity: its operations, in its order.
    total = 0.0
    both = np.int64(sizes[region]) + np.int64(sizes[other])
    if use[0]:
        shared = _sum_of_minima(scaled[region, :split], scaled[other, :split])
        total += shared / ((split // 25) * 65535)
    if use[1]:
        shared = _sum_of_minima(scaled[region, split:], scaled[other, split:])
        total += shared / (((scaled.shape[1] - split) // 10) * 65535)
    if use[2]:
        total += 1.0 - both / pixels
    if use[3]:
        wide = np.int64(max(boxes[region, 2], boxes[other, 2])) - min(
            boxes[region, 0], boxes[other, 0]
        )
        high = np.int64(max(boxes[region, 3], boxes[other, 3])) - min(
            boxes[region, 1], boxes[other, 1]
        )
        total += 1.0 - (wide * high - both) / pixels
    return np.int64(total * 134217728)  # similarity.PRECISION


# A binary heap in a plain array, with the largest key on top.
@inner
def _push(heap: Array, length: int, key: int) -> None:
    at = length
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] >= key:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = key


@inner
def _pop(heap: Array, length: int) -> None:
    key = heap[length - 1]
    length -= 1
    at = 0
    while True:
        below = 2 * at + 1
        if below >= length:
            break
        if below + 1 < length and heap[below + 1] > heap[below]:
            below += 1
        if heap[below] <= key:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = key


@inner
def _doubled(values: Array) -> Array:
    twice = np.empty(2 * len(values), values.dtype)
    for i in range(len(values)):
        twice[i] = values[i]
    return twice


@inner
def _append(region: int, end: int, head: Array, tail: Array, link: Array) -> None:
    """Append `end` (2 * pair + side) to the region's list of neighbours."""
    link[end] = -1
    if tail[region] < 0:
        head[region] = end
    else:
        link[tail[region]] = end
    tail[region] = end


@inner
def _skip_dead(at: int, ends: Array, link: Array, alive: Array) -> Any:
    """Follow links from `at` to the first whose other region is alive, or -1."""
    while at >= 0 and not alive[ends[at ^ 1]]:  # the other end of the pair
        at = link[at]
    return at


@inner
def _merge_neighbours(
    end: int, other: int, ends: Array, link: Array, alive: Array, out: Array
) -> Any:
    """Merge two ascending lists of neighbours into `out`, leaving out the dead."""
    count = 0
    end = _skip_dead(end, ends, link, alive)
    other = _skip_dead(other, ends, link, alive)
    while end >= 0 or other >= 0:
        # An exhausted list counts as above all regions.
        first = ends[end ^ 1] if end >= 0 else np.int32(2147483647)
        second = ends[other ^ 1] if other >= 0 else np.int32(2147483647)
        out[count] = min(first, second)
        count += 1
        if first <= second:  # a neighbour of both is taken once
            end = _skip_dead(link[end], ends, link, alive)
        if second <= first:
            other = _skip_dead(link[other], ends, link, alive)
    return count


@inner
def _join(
    low: int, high: int, new: int, sizes: Array, boxes: Array, counts: Array, scaled: Array
) -> None:
    sizes[new] = sizes[low] + sizes[high]
    boxes[new, 0] = min(boxes[low, 0], boxes[high, 0])
    boxes[new, 1] = min(boxes[low, 1], boxes[high, 1])
    boxes[new, 2] = max(boxes[low, 2], boxes[high, 2])
    boxes[new, 3] = max(boxes[low, 3], boxes[high, 3])
    for i in range(counts.shape[1]):
        counts[new, i] = counts[low, i] + counts[high, i]
    _normalise(counts[new], sizes[new], scaled[new])


@inner
def _add_pair(
    pair: int,
    low: int,
    high: int,
    key: int,
    ends: Array,
    link: Array,
    head: Array,
    tail: Array,
    heap: Array,
    length: int,
) -> None:
    # Pairs come by higher number, and a new region's is the highest: so lists stay ascending.
    ends[2 * pair], ends[2 * pair + 1] = low, high
    _append(low, 2 * pair, head, tail, link)
    _append(high, 2 * pair + 1, head, tail, link)
    # Of equal similarities the earliest pair is on top.
    _push(heap, length, key << 34 | (LAST - pair))


@inner
def _drop_dead(heap: Array, length: int, ends: Array, alive: Array) -> Any:
    """Pop the pairs of which a region is merged already; return the heap's length."""
    # Dead pairs are dropped only where they come to the top; finding them in the heap costs more.
    pair = LAST - (heap[0] & LAST)
    while not alive[ends[2 * pair]] or not alive[ends[2 * pair + 1]]:
        _pop(heap, length)
        length -= 1
        pair = LAST - (heap[0] & LAST)
    return length


@kernel
def group(
    use: Array,
    sizes: Array,
    boxes: Array,
    counts: Array,
    scaled: Array,
    rows: Array,
    split: int,
    pairs: Array,
    pixels: int,
    children: Array,
    keys: Array,
) -> None:
    """Merge the most similar neighbours; fills rows R.. of sizes, boxes, counts, and the rest.

    use     (4,) bool for the terms colour, texture, size and fill
    counts  (2R - 1, colour bins + texture bins) int32, or no columns where neither is used
    scaled  buffer for (2R - 1, as many) uint16
    rows    buffer for (4, 2R - 1) int32, all -1
    split   number of columns that are colour
    pairs   (E,) int64 higher << 32 | lower, sorted

    A region's neighbours are a linked list of ends (2 * pair + side), ascending.
    """
    total = len(sizes)
    leaves = (total + 1) // 2
    for r in range(leaves):
        _normalise(counts[r], sizes[r], scaled[r])
    ends = np.empty(8 * len(pairs) + 16, np.int32)
    link = np.empty(8 * len(pairs) + 16, np.int32)
    heap = np.empty(4 * len(pairs) + 16, np.int64)
    head, tail, around, alive = rows[0], rows[1], rows[2], rows[3]  # -1: no list; true in `alive`
    length = pair_count = len(pairs) - len(pairs)
    for pair in range(len(pairs)):
        low, high = pairs[pair] & 0xFFFFFFFF, pairs[pair] >> 32  # of numba/regions.neighbours
        key = _similarity(use, sizes, boxes, scaled, split, low, high, pixels)
        _add_pair(pair, low, high, key, ends, link, head, tail, heap, length)
        length += 1
        pair_count += 1
    for new in range(leaves, total):
        length = _drop_dead(heap, length, ends, alive)
        pair = LAST - (heap[0] & LAST)
        low, high = np.int64(ends[2 * pair]), np.int64(ends[2 * pair + 1])
        children[new - leaves, 0], children[new - leaves, 1] = low, high
        keys[new - leaves] = heap[0] >> 34
        _pop(heap, length)
        length -= 1
        alive[low] = alive[high] = 0
        _join(low, high, new, sizes, boxes, counts, scaled)
        near = _merge_neighbours(head[low], head[high], ends, link, alive, around)
        while 2 * (pair_count + near) > len(ends):  # how many come depends on the image
            ends, link = _doubled(ends), _doubled(link)
        while length + near > len(heap):
            heap = _doubled(heap)
        for i in range(near):
            other = np.int64(around[i])
            key = _similarity(use, sizes, boxes, scaled, split, other, new, pixels)
            _add_pair(pair_count, other, new, key, ends, link, head, tail, heap, length)
            length += 1
            pair_count += 1
