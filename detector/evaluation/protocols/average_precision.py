"""From judged detections to average precision: the two rules of PASCAL VOC.

Counts run along the ranking, best first; a detection that is neither right nor wrong (of a
difficult object) is not among them.
"""

import numpy as np

from detector.structures import Array

RECALL_LEVELS = np.arange(11) / 10  # 0, 0.1, ..., 1, each the float nearest to it


def precision_recall(right: Array, wrong: Array, positives: float) -> tuple[Array, Array]:
    """(precision, recall) after each detection; `right` and `wrong` (D,) say how often it counts.

    A rank at which nothing has counted yet has precision 0.
    """
    found = np.cumsum(np.asarray(right, np.float64))
    counted = found + np.cumsum(np.asarray(wrong, np.float64))
    precision = np.divide(found, counted, out=np.zeros_like(found), where=counted > 0)
    return precision, found / positives


def envelope(precision: Array) -> Array:
    """The best precision at this or any greater recall: VOC makes the curve fall monotonically."""
    return np.maximum.accumulate(np.asarray(precision, np.float64)[::-1])[::-1]


def eleven_point(precision: Array, recall: Array) -> float:
    """VOC 2007: the mean, over recall 0, 0.1, ..., 1, of the best precision at or beyond it."""
    best = envelope(precision)
    first = np.searchsorted(recall, RECALL_LEVELS, side="left")  # first rank that reaches the level
    reached = first < len(best)
    return float(best[first[reached]].sum() / len(RECALL_LEVELS))


def area_under_envelope(precision: Array, recall: Array) -> float:
    """VOC 2010 and later: the area under the monotone envelope, a sum over all steps of recall."""
    return float((np.diff(recall, prepend=0.0) * envelope(precision)).sum())
