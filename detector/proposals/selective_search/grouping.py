"""Hierarchical grouping (Algorithm 1): merge the two most similar neighbours until one is left.

The readable version looks at every pair at every step; numba/ uses a heap.
"""

from typing import NamedTuple

import numpy as np

from detector.proposals.selective_search.similarity import Regions, similarity
from detector.structures import Array


class Hierarchy(NamedTuple):
    """Merge tree of R leaves: step t creates region R + t; the last region is the whole image.

    boxes     (2R - 1, 4) int32 xyxy pixels
    sizes     (2R - 1,) int32 pixels
    children  (R - 1, 2) int32 the two regions merged at step t, lower number first
    keys      (R - 1,) int64 their similarity in units of 2**-27
    """

    boxes: Array
    sizes: Array
    children: Array
    keys: Array


def group(terms: str, leaves: Regions, pairs: Array, pixels: int) -> Hierarchy:
    """Merge `leaves` along the (E, 2) pairs of neighbours in an image of `pixels`.

    Ties between equally similar pairs go to the lower higher number, then to the lower lower one.
    """
    grown = _with_room(leaves)
    # Integers, so that ties are real ones, whatever the processor or the order of additions.
    alike = {
        (int(low), int(high)): similarity(terms, grown, int(low), int(high), pixels)
        for low, high in pairs
    }
    children, keys = [], []
    for new in range(len(leaves.sizes), len(grown.sizes)):
        low, high = max(alike, key=lambda pair: (alike[pair], -pair[1], -pair[0]))
        children.append((low, high))
        keys.append(alike[low, high])
        _join(grown, low, high, new)
        around = {other for pair in alike for other in _others(pair, low, high)}
        alike = {pair: s for pair, s in alike.items() if not {low, high} & set(pair)}
        for other in sorted(around):
            alike[other, new] = similarity(terms, grown, other, new, pixels)
    return Hierarchy(
        grown.boxes,
        grown.sizes,
        np.array(children, np.int32).reshape(-1, 2),
        np.array(keys, np.int64),
    )


def _with_room(leaves: Regions) -> Regions:
    def extended(rows: Array) -> Array:
        # R leaves take R - 1 merges.
        return np.concatenate([rows, np.zeros((len(rows) - 1, *rows.shape[1:]), rows.dtype)])

    return Regions(*(extended(rows) for rows in leaves))


def _join(regions: Regions, low: int, high: int, new: int) -> None:
    for rows in (regions.sizes, regions.colour, regions.texture):
        rows[new] = rows[low] + rows[high]  # counts, not shares: no second look at the pixels
    regions.boxes[new, :2] = np.minimum(regions.boxes[low, :2], regions.boxes[high, :2])
    regions.boxes[new, 2:] = np.maximum(regions.boxes[low, 2:], regions.boxes[high, 2:])


def _others(pair: tuple[int, int], low: int, high: int) -> list[int]:
    """Regions of this pair that become neighbours of the union of `low` and `high`: one or none."""
    if not {low, high} & set(pair):
        return []
    return [region for region in pair if region not in (low, high)]
