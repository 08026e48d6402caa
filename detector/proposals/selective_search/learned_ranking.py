"""A ranking that has learnt which regions are objects, from how they lie and how they were merged.

Departs from the paper, whose order is position times chance: here a logistic regression looks at
fifteen numbers of each region, none of which costs anything (the merge tree has them all), and
near-duplicates step back behind what is new. It knows no class, and the same regions are proposed.
The weights were fitted by tools/fit_ranking.py; `learned_ranking.json` says on what.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector import boxes as box_ops
from detector.errors import SettingsError
from detector.proposals.selective_search.grouping import Hierarchy
from detector.structures import Array

WEIGHTS = Path(__file__).with_name("learned_ranking.json")
NAMES = (
    "log area", "log aspect", "fill", "log size", "made at", "joined at", "made - joined",
    "log growth", "borders", "left", "top", "right", "bottom", "leaf", "log times found",
)  # fmt: skip
"""What is looked at, all relative to the image: `made at` is the similarity of a region's two parts
and `joined at` the one at which it was merged away, `fill` its share of its box, `growth` how much
larger the next box is, `borders` the sides of the image it touches, and `times found` the number of
strategies that have the box.
"""
REACH = 4.0
"""Standard deviations beyond which a number counts no further."""
NEAR = 0.75
"""IoU above which a box is a near-duplicate of a better one."""
FIRST = "93693ef7fee82f8c"
"""The fingerprint of the first weights: caches that do not name theirs were made with these."""
CONSIDERED = 1000
"""So many of the best boxes are looked at for near-duplicates."""


class Weights(NamedTuple):
    """A logistic regression on the numbers and their squares, standardised."""

    mean: Array
    deviation: Array
    linear: Array
    square: Array

    def scores(self, numbers: Array) -> Array:
        """(N, 15) -> (N,) log-odds of being an object, up to a constant."""
        z = np.clip((numbers - self.mean) / self.deviation, -REACH, REACH)
        return (z * self.linear + z * z * self.square).sum(1)


@cache
def shipped() -> Weights:
    """The weights that come with the package."""
    return read(WEIGHTS)


@cache
def fingerprint() -> str:
    """Which weights those are: the beginning of a hash of their numbers."""
    return hashlib.sha256(np.stack(shipped()).astype("<f8").tobytes()).hexdigest()[:16]


def other_weights() -> dict[str, str]:
    """What tells a cache that these are not the first weights; nothing where they are."""
    return {} if fingerprint() == FIRST else {"learned_ranking": fingerprint()}


def read(path: Path) -> Weights:
    """Weights that tools/fit_ranking.py wrote."""
    try:
        table = json.loads(path.read_text())
        rows = [np.array([table[name][column] for name in NAMES], float) for column in range(4)]
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise SettingsError(
            f"{path}: no weights of a ranking; inception-rcnn fit ranking makes them"
        ) from None
    if not all(np.isfinite(row).all() for row in rows) or not (rows[1] > 0).all():
        raise SettingsError(f"{path}: the weights of a ranking must be finite")
    return Weights(*rows)


def numbers(hierarchy: Hierarchy, terms: str, size: tuple[int, ...]) -> Array:
    """(2R - 1, 14) numbers of one strategy's regions, in the order of NAMES less the last."""
    height, width = size
    count = len(hierarchy.boxes)
    leaves = (count + 1) // 2
    x1, y1, x2, y2 = hierarchy.boxes.astype(np.float64).T
    wide, high = x2 - x1, y2 - y1
    area, pixels = wide * high, float(height * width)
    parent = np.full(count, -1)
    parent[hierarchy.children.ravel()] = np.repeat(np.arange(leaves, count), 2)
    grown = parent >= 0
    made = np.ones(count)
    made[leaves:] = hierarchy.keys / 2.0**27 / len(terms)
    joined = np.where(grown, made[parent], 0.0)
    edges = (x1 <= 0) * 1.0 + (y1 <= 0) + (x2 >= width) + (y2 >= height)
    columns = [
        np.log(area / pixels), np.log(wide / high), hierarchy.sizes / area,
        np.log(hierarchy.sizes / pixels), made, joined, made - joined,
        np.log(np.where(grown, area[parent], pixels) / area), edges,
        x1 / width, y1 / height, x2 / width, y2 / height, np.arange(count) < leaves,
    ]  # fmt: skip
    return np.stack(columns, 1)


def distinct(boxes: Array, table: Array) -> tuple[Array, Array]:
    """(N, 4) boxes and their (N, 14) numbers: the first places (M,) of the distinct boxes, and the
    means of their numbers with `log times found` (M, 15).
    """
    _, first, inverse, times = np.unique(
        boxes, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(first), table.shape[1]))
    np.add.at(total, inverse.ravel(), table)
    found = np.column_stack([total / times[:, None], np.log(times)])
    order = np.argsort(first)
    return first[order], found[order]


def ordered(boxes: Array, scores: Array) -> Array:
    """Places of (N, 4) boxes, best score first; but of the first, near-duplicates step back behind
    the others.
    """
    order = np.argsort(-scores, kind="stable")
    first = order[:CONSIDERED]
    near = box_ops.iou(boxes[first], boxes[first]) > NEAR
    new = np.ones(len(first), bool)
    for place in range(len(first)):
        if new[place]:
            new[place + 1 :] &= ~near[place, place + 1 :]
    return np.concatenate([first[new], first[~new], order[CONSIDERED:]])
