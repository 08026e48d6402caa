"""A learned ranking: logistic regression on the geometry and the merge tree of each region.

Departs from the paper, whose order is position times a random number: here a logistic regression
scores fifteen features of each region, all of which the merge tree has already, and near-duplicates
are moved behind the other boxes. It is class-agnostic, and the set of regions stays the same. The
weights were fitted by inception-rcnn fit ranking; `learned_ranking.json` names the data.
"""

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
# Features, all relative to the image: `made at` is the similarity of a region's two parts, `joined
# at` the one at which the region itself is merged, `fill` its share of its box, `growth` the ratio
# of the parent's box to its own, `borders` the number of image sides that it touches, and `times
# found` the number of strategies with the same box.
NAMES = (
    "log area", "log aspect", "fill", "log size", "made at", "joined at", "made - joined",
    "log growth", "borders", "left", "top", "right", "bottom", "leaf", "log times found",
)  # fmt: skip
REACH = 4.0  # standard deviations to which features are clipped
NEAR = 0.75  # IoU above which a box is a near-duplicate of a better one
# Near-duplicates are looked for among this many of the best boxes: the table of their IoUs is
# quadratic.
CONSIDERED = 1000


class Weights(NamedTuple):
    """Logistic regression on the standardised features and their squares."""

    mean: Array
    deviation: Array
    linear: Array
    square: Array

    def scores(self, region_features: Array) -> Array:
        """Log-odds (N,) of being an object, up to a constant, for features (N, 15)."""
        z = np.clip((region_features - self.mean) / self.deviation, -REACH, REACH)
        return (z * self.linear + z * z * self.square).sum(1)


@cache
def shipped() -> Weights:
    """Load the weights that come with the package."""
    return read(WEIGHTS)


@cache
def fingerprint() -> str:
    """Beginning of a SHA-256 of the shipped weights, a part of the proposal cache's key."""
    return hashlib.sha256(np.stack(shipped()).astype("<f8").tobytes()).hexdigest()[:16]


def read(path: Path) -> Weights:
    """Read the weights that `inception-rcnn fit ranking` wrote. Raises SettingsError."""
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


def region_features(hierarchy: Hierarchy, terms: str, size: tuple[int, ...]) -> Array:
    """Features (2R - 1, 14) of one strategy's regions: NAMES without the last."""
    height, width = size
    count = len(hierarchy.boxes)
    leaves = (count + 1) // 2
    x1, y1, x2, y2 = hierarchy.boxes.astype(np.float64).T
    wide, high = x2 - x1, y2 - y1
    area, pixels = wide * high, float(height * width)
    parent = np.full(count, -1)
    parent[hierarchy.children.ravel()] = np.repeat(np.arange(leaves, count), 2)
    grown = parent >= 0
    similarity = np.ones(count)  # a leaf has no parts that differ
    # The mean over the terms, so that strategies of one and of four are on one scale.
    similarity[leaves:] = hierarchy.keys / 2.0**27 / len(terms)
    joined = np.where(grown, similarity[parent], 0.0)
    edges = (x1 <= 0) * 1.0 + (y1 <= 0) + (x2 >= width) + (y2 >= height)
    columns = [
        np.log(area / pixels), np.log(wide / high), hierarchy.sizes / area,
        np.log(hierarchy.sizes / pixels), similarity, joined, similarity - joined,
        np.log(np.where(grown, area[parent], pixels) / area), edges,
        x1 / width, y1 / height, x2 / width, y2 / height, np.arange(count) < leaves,
    ]  # fmt: skip
    return np.stack(columns, 1)


def merge_duplicates(boxes: Array, table: Array) -> tuple[Array, Array]:
    """Merge equal rows of (N, 4) boxes with features (N, 14).

    Returns the first index (M,) of each distinct box, and features (M, 15): the mean over its
    repetitions and `log times found`.
    """
    _, first, inverse, times = np.unique(
        boxes, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(first), table.shape[1]))
    np.add.at(total, inverse.ravel(), table)  # NumPy 2.0.0 gives the inverse as a column
    means = np.column_stack([total / times[:, None], np.log(times)])
    order = np.argsort(first)  # np.unique sorts by coordinates; ties should keep their order
    return first[order], means[order]


def order_by_score(boxes: Array, scores: Array) -> Array:
    """Indices of (N, 4) boxes, best score first; among the first CONSIDERED, near-duplicates of a
    better box are moved behind the others.
    """
    order = np.argsort(-scores, kind="stable")
    first = order[:CONSIDERED]
    near = box_ops.iou(boxes[first], boxes[first]) > NEAR
    new = np.ones(len(first), bool)
    for rank in range(len(first)):
        if new[rank]:
            new[rank + 1 :] &= ~near[rank, rank + 1 :]
    return np.concatenate([first[new], first[~new], order[CONSIDERED:]])
