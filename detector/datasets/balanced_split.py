"""Splits of a data set that are balanced by class.

Girshick et al. (2014, section 4.2) halve ILSVRC's val into val1, to train on, and val2, to choose
by: many candidate splits, each from a clustering of the images by their class counts followed by a
randomised local search; the one whose largest relative imbalance |a - b| / (a + b) is smallest is
taken (11 % there, with a median of 4 %).

Departs from the paper: its clustering is not described. Here the images are grouped by the rarest
class in them, and each group is divided alternately.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import DatasetError, SettingsError
from detector.structures import Array

CANDIDATES = 4
_PATIENCE = 300  # exchanges without a gain after which a search ends


@dataclass(frozen=True, eq=False)
class Halves:
    """A split into halves, and its balance.

    first      (B,) bool: the image belongs to the first half
    imbalance  (K,) |a - b| / (a + b) of each class's objects; NaN where there are none
    """

    first: Array
    imbalance: Array

    @property
    def largest(self) -> float:
        return float(np.nanmax(self.imbalance))

    @property
    def worst(self) -> int:
        """Label of the class with the largest imbalance."""
        return int(np.nanargmax(self.imbalance))

    @property
    def median(self) -> float:
        return float(np.nanmedian(self.imbalance))


def stratified_parts(
    counts: Array, shares: Sequence[float], groups: Array | None = None, seed: int = 0
) -> Array:
    """Part 0, 1, ... (B,) of each image, by iterative stratification.

    Each part gets its share of every class and of the images, as nearly as whole groups allow. A
    function of its arguments alone.

    groups  (B,) images of one group stay together

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), rarest class first.
    """
    groups = np.arange(len(counts)) if groups is None else groups
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise DatasetError(
            f"{len(counts)} images in {len(names)} groups of near-duplicates cannot be dealt to"
            f" {len(shares)} parts; add images"
        )
    # The last column stands for the images themselves.
    have = np.zeros((len(names), counts.shape[1] + 1))
    np.add.at(have, group_of, np.column_stack([counts, np.ones(len(counts), np.int64)]))
    totals = have.sum(0)
    rarest = np.where(have > 0, totals, np.inf).argmin(1)
    rng = np.random.default_rng(seed)
    # The last key counts first: the rarest class, then large groups, which fit in fewest places.
    order = np.lexsort((rng.random(len(names)), -have[:, -1], totals[rarest]))
    wanted = np.outer(np.asarray(shares) / np.sum(shares), totals)
    part = np.zeros(len(names), np.int64)
    for group in order:
        # The part that wants most of the class; of equal ones that which wants most images.
        part[group] = np.lexsort((wanted[:, -1], wanted[:, rarest[group]]))[-1]
        wanted[part[group]] -= have[group]
    # A part of so small a share that no group went there.
    for empty in set(range(len(shares))) - set(part):
        full = part == np.bincount(part, minlength=len(shares)).argmax()
        part[np.flatnonzero(full)[have[full, -1].argmin()]] = empty
    return part[group_of]


def class_counts(dataset: Dataset) -> Array:
    """Number of objects of each class in each image: (B, K)."""
    counts = np.zeros((len(dataset), len(dataset.classes)), np.int64)
    for row, sample in zip(counts, dataset.samples, strict=True):
        np.add.at(row, sample.annotations.labels, 1)  # `row[labels] += 1` would count a class once
    return counts


def balanced_halves(counts: Array, seed: int = 0, candidates: int = CANDIDATES) -> Halves:
    """Choose the best of several candidate splits; a function of `counts` (B, K) and the seed.

    The halves differ by at most one image.
    """
    if candidates < 1:
        raise SettingsError(f"candidates is {candidates}; expected at least 1")
    if len(counts) < 2 or not counts.any():
        raise DatasetError("a split into halves needs at least two images, and objects in them")
    splits = []
    for candidate in range(candidates):
        # Candidate k is the same split, however many are asked for.
        rng = np.random.default_rng([seed, candidate])
        first = _dealt(counts, rng)
        _search(counts, first, rng)
        splits.append(Halves(first, imbalance(counts, first)))
    return min(splits, key=lambda split: (split.largest, split.median))


def imbalance(counts: Array, first: Array) -> Array:
    """Imbalance (K,) |a - b| / (a + b), NaN for a class without objects."""
    total, mine = counts.sum(0), counts[first].sum(0)
    gap = np.abs(2 * mine - total).astype(np.float64)
    return np.divide(gap, total, out=np.full(len(total), np.nan), where=total > 0)


# Images are sorted by their rarest class, at random within it, those without objects last, and
# every other one is taken.
def _dealt(counts: Array, rng: np.random.Generator) -> Array:
    totals = counts.sum(0)
    rarity = np.where(counts > 0, totals, np.iinfo(np.int64).max)
    group = np.where(counts.any(1), rarity.argmin(1), counts.shape[1])
    order = np.lexsort((rng.random(len(counts)), group))
    first = np.zeros(len(counts), bool)
    first[order[rng.integers(2) :: 2]] = True  # either half may get the odd one
    return first


def _search(counts: Array, first: Array, rng: np.random.Generator) -> None:
    # Improves `first` in place by exchanging images between the halves.
    # Each step takes the class of largest imbalance, an image of it from the half that has more,
    # and any image of the other half.
    # A class without objects has no imbalance.
    present = np.flatnonzero(counts.sum(0))
    counts = counts[:, present]
    images_of = [np.flatnonzero(column) for column in counts.T]
    total = counts.sum(0)
    gap = 2 * counts[first].sum(0) - total  # > 0: the first half has more
    cost, in_vain = _cost(gap, total), 0
    while in_vain < _PATIENCE and gap.any():
        worst = int((np.abs(gap) / total).argmax())
        more = bool(gap[worst] > 0)
        giving = images_of[worst][first[images_of[worst]] == more]
        give, take = giving[rng.integers(len(giving))], rng.integers(len(counts))
        if first[take] == more:
            continue  # of the same half; half of all draws are not
        new_gap = gap + (2 if more else -2) * (counts[take] - counts[give])
        new_cost = _cost(new_gap, total)
        in_vain += 1
        if new_cost < cost:
            first[[give, take]] = not more, more
            gap, cost, in_vain = new_gap, new_cost, 0


def _cost(gap: Array, total: Array) -> float:
    # A smooth stand-in for the largest imbalance, which most exchanges leave as it is.
    return float(((gap / total) ** 4).sum())
