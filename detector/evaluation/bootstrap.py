"""Bootstrap confidence intervals over images, for a mAP and for the difference of two detectors.

Every detection is judged once. A round then draws as many images as there are, with replacement;
an image drawn k times counts its detections and objects k times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.evaluation.protocols.matching import NEITHER, RIGHT, Judged, judge_all
from detector.evaluation.protocols.rules import (
    RULES,
    Average,
    check_protocol,
    class_result,
    mean_over_classes,
)
from detector.evaluation.result import Protocol
from detector.structures import Array, Detections

ROUNDS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate, and bounds that span the central `confidence` of the resampled values."""

    estimate: float
    low: float
    high: float
    confidence: float = CONFIDENCE


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


def bootstrap_interval(
    dataset: Dataset,
    results: Mapping[str, Detections],
    protocol: Protocol = "voc12",
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Interval:
    """The mean AP of `results` with its bootstrap interval."""
    check_protocol(protocol, RULES)
    mean_ap, means = _resampled(dataset, results, protocol, image_draws(len(dataset), seed, rounds))
    return _within(_interval(mean_ap, means))


def compare(
    dataset: Dataset,
    first: Mapping[str, Detections],
    second: Mapping[str, Detections],
    protocol: Protocol = "voc12",
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Comparison:
    """Compare two sets of results on the same resampled images."""
    check_protocol(protocol, RULES)
    draws = image_draws(len(dataset), seed, rounds)
    first_ap, first_aps = _resampled(dataset, first, protocol, draws)
    second_ap, second_aps = _resampled(dataset, second, protocol, draws)
    difference = second_aps - first_aps
    drawn = difference[~np.isnan(difference)]
    return Comparison(
        first=_within(_interval(first_ap, first_aps)),
        second=_within(_interval(second_ap, second_aps)),
        difference=_interval(second_ap - first_ap, difference),
        p_worse=float((drawn - drawn.mean() + second_ap - first_ap <= 0).mean()),
    )


def _resampled(
    dataset: Dataset, results: Mapping[str, Detections], protocol: Protocol, draws: Array
) -> tuple[float, Array]:
    """The mean AP, and the resampled ones (R,); every detection is judged once for both."""
    judge, average = RULES[protocol]
    classes = judge_all(dataset, results, judge)
    rows = [class_result(*pair, average) for pair in zip(dataset.classes, classes, strict=True)]
    aps = np.stack([_resampled_aps(judged, draws, average) for judged in classes], axis=1)  # (R, K)
    defined = ~np.isnan(aps)
    count = defined.sum(1)
    total = np.where(defined, aps, 0.0).sum(1)
    means = np.divide(total, count, out=np.full(len(draws), np.nan), where=count > 0)
    return mean_over_classes([row.ap for row in rows]), means


def _resampled_aps(judged: Judged, draws: Array, average: Average) -> Array:
    """The APs (R,) of one class. Precision is computed at the right detections only: the wrong ones
    between them add no recall, and precision is never greater there.
    """
    counted = judged.verdicts != NEITHER
    images, right = judged.images[counted], judged.verdicts[counted] == RIGHT
    rights = np.flatnonzero(right)
    aps = np.full(len(draws), np.nan)
    for row, positives in enumerate(draws @ judged.positives):
        if positives == 0:
            continue
        weight = draws[row].astype(np.float64)[images]
        true_positives, ranked = np.cumsum(weight[rights]), np.cumsum(weight)[rights]
        precision = np.divide(
            true_positives, ranked, out=np.zeros_like(true_positives), where=ranked > 0
        )
        aps[row] = average(precision, true_positives / positives)
    return aps


def image_draws(images: int, seed: int, rounds: int) -> Array:
    """How often each image is drawn in each round, (R, B)."""
    if rounds < 1:
        raise SettingsError(f"rounds is {rounds}; the bootstrap needs at least 1")
    share = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, share, size=rounds)


def _interval(estimate: float, resampled: Array) -> Interval:
    """The estimate with the spread of the resampled values about their own mean.

    Repeated images make the curve rougher, and the envelope lifts a rough curve, so all resampled
    values lie a little high: a bias of the method, not of the detector.
    """
    resampled = resampled[~np.isnan(resampled)]
    if len(resampled) == 0:
        raise EvaluationError("no resampled set of images has an object to be found")
    tail = (1 - CONFIDENCE) / 2
    low, high = estimate + np.quantile(resampled, [tail, 1 - tail]) - resampled.mean()
    return Interval(estimate, float(low), float(high))


def _within(interval: Interval) -> Interval:
    """Clip the interval of a mean AP to 0 and 1."""
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))
