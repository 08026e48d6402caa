"""The order of the proposals (section 3.3): position in the hierarchy times a random number.

The generator is counter-based: the numbers of a strategy depend only on the seed and on its name,
so neither threads, nor earlier calls, nor the other strategies change them.
"""

import hashlib

import numpy as np

from detector.proposals.selective_search.grouping import Hierarchy
from detector.structures import Array


def chance(seed: int, name: str, count: int) -> Array:
    """Random numbers (count,) float64 in (0, 1], from SplitMix64 with a hash of seed and name."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    start = np.frombuffer(digest, "<u8")
    # SplitMix64's increment, multipliers and shifts (Steele et al., OOPSLA 2014).
    z = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    # 53 bits fit a double exactly; + 1, since 0 would put a region first wherever it stands.
    return ((z >> np.uint64(11)) + np.uint64(1)).astype(np.float64) / 2.0**53


def sort_keys(name: str, hierarchy: Hierarchy, seed: int, ranking: str) -> Array:
    """Sort keys (2R - 1,) of one strategy's regions, lowest first."""
    count = len(hierarchy.boxes)
    drawn = chance(seed, name, count)
    if ranking == "area":
        # Departs from the paper: the share of the image takes the place of the position in the
        # hierarchy, since the position depends on how many leaves a strategy has, and the area does
        # not.
        sides = (hierarchy.boxes[:, 2:] - hierarchy.boxes[:, :2]).astype(np.float64)
        return -sides.prod(1) * drawn
    return drawn * np.arange(count, 0, -1)  # the last, the whole image, has position 1


def rank_distinct(boxes: Array, keys: Array) -> Array:
    """Indices of the distinct boxes in order of their best key; ties keep their order."""
    # Repetitions go after the ranking, so that a box found by many strategies ranks higher.
    order = np.argsort(keys, kind="stable")
    corners = boxes[order].astype(np.int64)
    # One int64 a box sorts much faster than rows of four; collisions are checked for afterwards.
    packed = (corners[:, 0] << 32 | corners[:, 1]) * np.int64(1_000_003) ^ (
        corners[:, 2] << 32 | corners[:, 3]
    )
    return order[_first_of_each(packed, corners)]


def _first_of_each(packed: Array, corners: Array) -> Array:
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    if (corners[first[inverse]] == corners).all():
        return np.sort(first)
    _, first = np.unique(corners, axis=0, return_index=True)  # two boxes shared a packed number
    return np.sort(first)
