"""Bootstrap confidence intervals over images, for a mAP and for the difference of two detectors.

Every detection is judged once. A round then draws as many images as there are, with replacement;
an image drawn k times counts its detections and objects k times.
"""

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from detector.errors import EvaluationError, SettingsError
from detector.evaluation.protocols.matching import RIGHT, Matching
from detector.evaluation.protocols.rules import Average
from detector.evaluation.result import Interval
from detector.structures import Array

ROUNDS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Two detectors on the same images.

    difference  of the mean APs, the second minus the first, resampled in pairs
    p_worse     share of the rounds in which the second did not do better than the first; those
                that drew no object do not count
    """

    first: Interval
    second: Interval
    difference: Interval
    p_worse: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


class Resampled(NamedTuple):
    """The APs of K classes (R, K) in R rounds, and their means (R,); NaN without an object."""

    aps: Array
    means: Array


def resample(matching: Matching, average: Average, draws: Array) -> Resampled:
    """The APs of each round; `draws` (R, B) say how often it draws each image."""
    columns = [_aps_of(matching, *one, draws, average) for one in matching.of_classes()]
    aps = np.stack(columns, axis=1)
    defined = ~np.isnan(aps)
    count = defined.sum(1)
    total = np.where(defined, aps, 0.0).sum(1)
    return Resampled(aps, np.divide(total, count, out=np.full(len(draws), np.nan), where=count > 0))


def compare_resampled(
    first_ap: float, first: Resampled, second_ap: float, second: Resampled
) -> Comparison:
    """Compare two detectors by their mean APs, resampled with the same draws."""
    difference = second.means - first.means
    drawn = difference[~np.isnan(difference)]
    return Comparison(
        first=interval_of_ap(first_ap, first.means),
        second=interval_of_ap(second_ap, second.means),
        difference=interval_of(second_ap - first_ap, difference),
        # About the difference as measured, for the reason of `interval_of`.
        p_worse=float((drawn - drawn.mean() + second_ap - first_ap <= 0).mean()),
    )


def image_draws(images: int, seed: int, rounds: int) -> Array:
    """The number of times that each round draws each image, (R, B)."""
    if rounds < 1:
        raise SettingsError(f"rounds is {rounds}; the bootstrap needs at least 1")
    share = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, share, size=rounds)


def interval_of(estimate: float, resampled: Array) -> Interval:
    """The estimate with the spread of the resampled values about their own mean."""
    # About their mean and not about the estimate: repeated images make the curve rougher, and the
    # envelope lifts a rough curve, so all resampled values lie a little high. That is a bias of the
    # method, not of the detector.
    resampled = resampled[~np.isnan(resampled)]
    if len(resampled) == 0:
        raise EvaluationError("no resampled set of images has an object to be found")
    tail = (1 - CONFIDENCE) / 2
    low, high = estimate + np.quantile(resampled, [tail, 1 - tail]) - resampled.mean()
    return Interval(estimate, float(low), float(high), CONFIDENCE)


def interval_of_ap(estimate: float, resampled: Array) -> Interval:
    """The interval of a (mean) AP, which lies within 0 and 1."""
    found = interval_of(estimate, resampled)
    return Interval(estimate, max(found.low, 0.0), min(found.high, 1.0), CONFIDENCE)


def _aps_of(
    matching: Matching, rows: Array, positives: Array, draws: Array, average: Average
) -> Array:
    """The APs (R,) of one class: its detections, and its objects (B,) in each image."""
    images = matching.images[rows]
    # Only at the right detections: the wrong ones between them add no recall, and precision is
    # never greater there.
    rights = np.flatnonzero(matching.verdicts[rows] == RIGHT)
    aps = np.full(len(draws), np.nan)
    for row, count in enumerate(draws @ positives):
        if count == 0:
            continue
        weight = draws[row].astype(np.float64)[images]
        true_positives, ranked = np.cumsum(weight[rights]), np.cumsum(weight)[rights]
        precision = np.divide(
            true_positives, ranked, out=np.zeros_like(true_positives), where=ranked > 0
        )
        aps[row] = average(precision, true_positives / count)
    return aps
