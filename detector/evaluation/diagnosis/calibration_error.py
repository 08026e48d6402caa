"""Calibration of scores: the agreement of score and precision.

Expected calibration error of Guo et al. (ICML 2017, arXiv 1706.04599), over detections.
"""

from typing import NamedTuple

import numpy as np

from detector.evaluation.protocols.matching import RIGHT, Matching
from detector.structures import Array

BINS = 10


class Calibration(NamedTuple):
    """Detections by score, in BINS equal intervals of [0, 1].

    number     (BINS,) detections that are right or wrong
    score      (BINS,) their mean score;  precision  the share that is right; NaN in empty bins
    error      the mean of |precision - score| over the detections, bin by bin (ECE)
    """

    number: Array
    score: Array
    precision: Array
    error: float


def calibration_of(matching: Matching) -> Calibration:
    """The calibration of all detections that are right or wrong."""
    judged = matching.judged
    return calibration(matching.scores[judged], matching.verdicts[judged] == RIGHT)


def calibration(scores: Array, right: Array) -> Calibration:
    """The calibration of scores (D,) in [0, 1], of which `right` (D,) bool are correct; the error
    is NaN for D = 0.
    """
    # A score of 1 belongs to the last bin.
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    undefined = np.full(BINS, np.nan)
    score, precision = (
        np.divide(np.bincount(bins, values, BINS), count, out=undefined.copy(), where=count > 0)
        for values in (scores.astype(np.float64), right.astype(np.float64))
    )
    filled = count > 0
    gap = np.abs(precision - score)[filled] @ count[filled]
    return Calibration(count, score, precision, float(gap / len(scores)) if len(scores) else np.nan)


def best_threshold(matching: Matching) -> tuple[float, float]:
    """The score threshold with the best F1 over all classes, and that F1.

    (0.5, 0) where no detection is right.
    """
    judged = matching.judged
    right, scores = matching.verdicts[judged] == RIGHT, matching.scores[judged]
    if not right.any():
        return 0.5, 0.0
    objects = int(matching.objects.counted.sum())
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(right) + 1) + objects)  # 2 TP / (D + G)
    f1[:-1][scores[:-1] == scores[1:]] = 0.0  # no threshold separates equal scores
    best = int(f1.argmax())
    return float(scores[best]), float(f1[best])
