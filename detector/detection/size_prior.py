"""How likely a region is to be an object before anybody looks at it: a function of its size.

A crop does not show how large its region was, and most proposals are small and hold nothing. A
network learns from batches in which objects are far more common than that, so its word is corrected
by the odds of the regions that it will judge: of two classifiers with the same likelihoods, odds
multiply (Saerens et al. 2002; for detection, Bayes' rule with the size as evidence).

Departs from the paper, which asked the networks alone.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from detector.boxes import area
from detector.settings import Settings
from detector.structures import Array

KNOTS = 16
"""Sizes at which the odds are counted."""
LEAST_STEP = 0.001
"""Of the logarithm of the size, from one of them to the next: what five digits tell apart."""
MOST = 50.0
"""Log-odds beyond all that can be counted."""
PSEUDO = 2.0
"""Regions of the average odds that are added to each count."""


class SizePrior(Settings):
    """Log-odds that are added to "an object, not background"; between sizes they run straight, and
    beyond the ends they stay as there.
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
        if max(map(abs, self.log_odds)) > MOST:
            raise ValueError(f"log_odds must lie between -{MOST:g} and {MOST:g}")
        return self

    def __call__(self, boxes: Array, size: tuple[int, int]) -> Array:
        """Log-odds (N,) float64 of boxes (N, 4) in an image of `size` (H, W)."""
        found: Array = np.interp(np.log(sides_of(boxes, size)), np.log(self.sides), self.log_odds)
        return found


def fit_prior(
    sides: Array, is_object: Array, odds_learnt: float, knots: int = KNOTS
) -> SizePrior | None:
    """The prior of regions with these sides (N,), of which `is_object` (N,) bool tells the objects.

    odds_learnt  objects for each background region where the network learnt
    knots        the regions are cut into so many groups by size, equally spaced in its logarithm;
                 fewer, where sizes are nearly equal

    None where there are no objects, or nothing but objects.
    """
    if not 0 < is_object.sum() < len(is_object):
        return None
    logs = np.log(np.minimum(sides, 1))
    knots = int(np.clip(np.ptp(logs) / LEAST_STEP, 1, knots))
    edges = np.linspace(logs.min(), logs.max() + 1e-9, knots + 1)
    group = np.clip(np.digitize(logs, edges) - 1, 0, knots - 1)
    total = np.bincount(group, minlength=knots)
    objects = np.bincount(group, is_object, knots)
    share = (objects + PSEUDO * is_object.mean()) / (total + PSEUDO)
    used = total > 0
    middle = np.exp((edges[:-1] + edges[1:]) / 2)[used]
    log_odds = np.log(share / (1 - share))[used] - np.log(odds_learnt)
    return SizePrior(
        sides=tuple(float(f"{v:.5g}") for v in np.minimum(middle, 1)),
        log_odds=tuple(round(float(v), 4) for v in np.clip(log_odds, -MOST, MOST)),
    )


def sides_of(boxes: Array, size: tuple[int, int]) -> Array:
    """Square roots of the shares of the image that boxes (N, 4) cover."""
    shares = area(np.asarray(boxes, np.float64)) / (size[0] * size[1])
    found: Array = np.sqrt(np.maximum(shares, 1e-12))
    return found


def with_prior(scores: Array, log_odds: Array) -> Array:
    """Probabilities (N, K+1) float32, background last, whose odds of an object are multiplied by
    exp(log_odds) (N,); the shares of the classes among themselves stay.
    """
    factor = np.exp(-np.asarray(log_odds, np.float64))[:, None]
    values = np.asarray(scores, np.float64)
    background = values[:, -1:]
    total = (1.0 - background) + background * factor
    found = np.concatenate([values[:, :-1], background * factor], 1) / total
    return found.astype(np.float32)
