"""The size prior: how likely a region is to be an object, from its size alone.

A crop does not show how large its region was, and most proposals are small and hold nothing. A
network learns from batches in which objects are far more common than that, so its probabilities are
corrected by the odds among the regions that it will score (Saerens et al. 2002; for detection,
Bayes' rule with the size as evidence).

Departs from the paper, which uses the networks' softmax alone.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from detector.boxes import area
from detector.settings import Settings
from detector.structures import Array

# Sizes at which the odds are counted.
KNOTS = 16
# Smallest step between knots in log size: closer ones are equal in the five digits stored.
MIN_STEP = 0.001
# Bound of the log-odds, beyond all that counts of regions can give.
MAX_LOG_ODDS = 50.0
# Pseudo-count: regions of average odds that are added to each knot.
PSEUDO = 2.0


class SizePrior(Settings):
    """Log-odds that are added to "an object, not background": linear between the knots, constant
    beyond the ends.
    """

    sides: tuple[float, ...] = Field(min_length=1, max_length=1000)
    """Square root of the share of the image that a region covers, ascending, in (0, 1]."""
    log_odds: tuple[float, ...] = Field(max_length=1000)

    @model_validator(mode="after")
    def _a_function(self) -> SizePrior:
        sides = np.array(self.sides)
        if len(self.log_odds) != len(sides):
            raise ValueError("there must be one log_odds for each of sides")
        if not (sides > 0).all() or not (sides <= 1).all() or not (np.diff(sides) > 0).all():
            raise ValueError("sides must ascend in (0, 1]")
        if max(map(abs, self.log_odds)) > MAX_LOG_ODDS:
            raise ValueError(f"log_odds must lie between -{MAX_LOG_ODDS:g} and {MAX_LOG_ODDS:g}")
        return self

    def __call__(self, boxes: Array, size: tuple[int, int], tile: int | None = None) -> Array:
        """Log-odds (N,) float64 of boxes (N, 4) in an image of `size` (H, W).

        A box that fits into a window of side `tile` counts as a part of one: there it was found.
        """
        sides = sides_of(boxes, size)
        if tile is not None:
            window = min(size[0], tile), min(size[1], tile)
            fits = (boxes[:, 2:] - boxes[:, :2] <= window[::-1]).all(1)
            sides = np.where(fits, sides_of(boxes, window), sides)
        return np.interp(np.log(sides), np.log(self.sides), self.log_odds)


def fit_prior(
    sides: Array, is_object: Array, odds_learnt: float, knots: int = KNOTS
) -> SizePrior | None:
    """Fit the prior to regions with sides (N,), of which those with `is_object` (N,) bool are
    objects.

    odds_learnt  objects per background region in the network's training batches
    knots        number of size bins, equally spaced in log size; fewer where sizes are nearly equal

    Returns None where there are no objects, or nothing but objects.
    """
    if not 0 < is_object.sum() < len(is_object):
        return None
    logs = np.log(np.minimum(sides, 1))
    knots = int(np.clip(np.ptp(logs) / MIN_STEP, 1, knots))
    edges = np.linspace(logs.min(), logs.max() + 1e-9, knots + 1)
    group = np.clip(np.digitize(logs, edges) - 1, 0, knots - 1)
    total = np.bincount(group, minlength=knots)
    objects = np.bincount(group, is_object, knots)
    # Pseudo-counts, so that no knot has a share of 0 or 1, whose log-odds are infinite.
    share = (objects + PSEUDO * is_object.mean()) / (total + PSEUDO)
    used = total > 0
    middle = np.exp((edges[:-1] + edges[1:]) / 2)[used]
    # The network has learnt the odds of its training batches (Saerens et al. 2002).
    log_odds = np.log(share / (1 - share))[used] - np.log(odds_learnt)
    return SizePrior(
        sides=tuple(float(f"{v:.5g}") for v in np.minimum(middle, 1)),
        log_odds=tuple(round(float(v), 4) for v in np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)),
    )


def sides_of(boxes: Array, size: tuple[int, int]) -> Array:
    """The square root of the share of the image that each box (N, 4) covers; `size` is (H, W)."""
    shares = area(np.asarray(boxes, np.float64)) / (size[0] * size[1])
    return np.sqrt(np.maximum(shares, 1e-12))  # their logarithms are finite


def with_prior(scores: Array, log_odds: Array) -> Array:
    """Multiply the odds of "an object" in probabilities (N, K+1) float32, background last, by
    exp(log_odds) (N,). The classes' shares among themselves stay.
    """
    factor = np.exp(-np.asarray(log_odds, np.float64))[:, None]
    values = np.asarray(scores, np.float64)
    background = values[:, -1:]
    total = (1.0 - background) + background * factor
    corrected = np.concatenate([values[:, :-1], background * factor], 1) / total
    return corrected.astype(np.float32)
