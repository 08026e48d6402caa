"""Platt scaling of margins to scores in [0, 1]: a logistic curve for each class (Platt 1999).

A score estimates the probability that a region with this margin lies on an object of the class, so
that one threshold suits all classes. The curve rises, so it keeps the order of regions within a
class, across images too, on which average precision depends alone.
"""

import numpy as np

from detector.structures import Array

MIN_SLOPE = 1e-3  # above 0, so that uninformative margins keep their order


def fit_logistic(margins: Array, positive: Array) -> tuple[float, float]:
    """Fit slope and offset of sigmoid(slope * margin + offset) to margins (N,) and truth (N,) bool.

    Maximum likelihood with Platt's softened targets. The slope is at least `MIN_SLOPE`.
    """
    margins = np.asarray(margins, np.float64)
    positive = np.asarray(positive, bool)
    count = int(positive.sum())
    others = len(positive) - count
    # Targets of 1 and 0 would drive the slope to infinity where margins separate perfectly.
    target = np.where(positive, (count + 1) / (count + 2), 1 / (others + 2))
    slope, offset = _newton(margins, target, np.log((count + 1) / (others + 1)))
    if slope >= MIN_SLOPE:
        return slope, offset
    # Nearly flat: the best offset is the log-odds of the mean target.
    return MIN_SLOPE, float(np.log(target.mean() / (1 - target.mean())))


# With steps halved until the likelihood rises (Lin, Lin and Weng 2007).
def _newton(margins: Array, target: Array, offset: float) -> tuple[float, float]:
    at = np.array([0.0, offset])
    design = np.stack([margins, np.ones_like(margins)], 1)
    loss = _loss(design @ at, target)
    for _ in range(100):
        # exp overflows a double beyond 709.
        probability = 1 / (1 + np.exp(-np.clip(design @ at, -700, 700)))
        gradient = design.T @ (probability - target)
        if abs(gradient).max() < 1e-8 * len(target):
            break
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        # The small ridge: where all margins are equal, the curvature is singular.
        step = np.linalg.solve(curvature + 1e-10 * np.eye(2), gradient)
        for _ in range(30):
            tried = _loss(design @ (at - step), target)
            if tried <= loss:
                break
            step = step / 2
        at, loss = at - step, tried
    return float(at[0]), float(at[1])


def _loss(logits: Array, target: Array) -> float:
    # logaddexp: log(1 + exp(x)) without overflow.
    return float((np.logaddexp(0, logits) - target * logits).sum())
