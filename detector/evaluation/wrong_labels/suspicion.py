"""Suspicion of the labels of one image: the probability that each is wrong, by a detector.

The evidence is that of ObjectLab (Tkachenko, Thyagarajan and Mueller 2023, arXiv 2309.00832):
detections that no label covers, boxes that look like another class, boxes beside a detection. A
label's own score is its self-confidence (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068).

Departs from ObjectLab: the kinds are made comparable not by scores of one range but by two logistic
functions, of annotated boxes and of overlooked objects, fitted to mistakes put into photographs
that were not trained on (`experiments/wrong_labels.py fit`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detector.boxes import area, intersection, iou
from detector.datasets.dataset import Sample
from detector.detection.aggregate import RegionScores
from detector.evaluation.diagnosis.errors import BACKGROUND_IOU, FOREGROUND_IOU
from detector.evaluation.wrong_labels.suspects import Suspect
from detector.structures import Annotations, Array, Detections

# Detections below this score are no candidates for overlooked objects.
MIN_SCORE = 0.2
# Scores of networks beyond this are not told apart.
MIN_PROBABILITY, MAX_PROBABILITY = 1e-3, 1 - 1e-3
# Two labels with an IoU above this may be of one object.
DOUBLED_IOU = 0.7


class Logistic(NamedTuple):
    """A logistic function of evidence (N, F)."""

    weights: tuple[float, ...]
    bias: float

    def __call__(self, evidence: Array) -> Array:
        return 1 / (1 + np.exp(-(evidence @ np.array(self.weights) + self.bias)))


# Of a mistake in one of twenty labels, by the columns of `box_evidence` and `overlooked_evidence`.
OF_BOXES = Logistic((-1.05, -0.10, 2.83), -7.54)
OF_OVERLOOKED = Logistic((0.92, -1.36, -3.53), -3.24)


class OwnScores(NamedTuple):
    """The scores of n annotated boxes themselves.

    own         (n,) of the annotated class
    other       (n,) the best of another class;  other_label  (n,) which
    background  (n,)
    """

    own: Array
    other: Array
    other_label: Array
    background: Array


def own_scores(sample: Sample, scores: Array) -> OwnScores:
    """The scores (n, K+1) of the sample's boxes; only classes annotated in it can be the other."""
    labels = sample.annotations.labels
    rows, classes = np.arange(len(labels)), range(scores.shape[1] - 1)
    others = np.where([sample.is_annotated(label) for label in classes], scores[:, :-1], -1.0)
    others[rows, labels] = -1.0
    best = others.argmax(1)
    return OwnScores(scores[rows, labels], others.max(1).clip(0), best, scores[:, -1])


def suspects_of(
    sample: Sample,
    seen: OwnScores,
    regions: RegionScores,
    found: Detections,
    names: Sequence[str],
    unknown: Array,
) -> Iterator[Suspect]:
    """Each label that counts once, as what it is most suspicious of, and each overlooked object.

    seen     of the annotated boxes
    regions  proposals of the image;  found  detections made of them
    names    of the classes
    unknown  boxes (M, 4) annotated as classes that the detector does not know
    """
    evidence, rivals = box_evidence(sample.annotations, seen, regions, found)
    suspicions = OF_BOXES(evidence)
    doubles = dict(doubled(sample.annotations, seen))
    for row in np.flatnonzero(sample.annotations.real).tolist():
        suspect = _of_box(sample, row, seen, found, rivals[row], names)
        suspicion = float(suspicions[row])
        other, suspicion_doubled = doubles.get(row, (row, 0.0))
        if suspicion_doubled > suspicion:
            suggestion, suspicion = "nothing", suspicion_doubled
            better = sample.annotations.boxes[other]
            suspect = replace(suspect, kind="doubled", suggestion=suggestion, better_box=better)
        yield replace(suspect, suspicion=suspicion, evidence=tuple(evidence[row].tolist()))
    rows, evidence = overlooked_evidence(sample, found, unknown)
    for row, numbers, suspicion in zip(rows, evidence, OF_OVERLOOKED(evidence), strict=True):
        yield Suspect(
            sample.image_id, sample.path, "overlooked", float(suspicion), None, found.boxes[row],
            names[found.labels[row]], evidence=tuple(numbers.tolist()),
        )  # fmt: skip


def box_evidence(
    truth: Annotations, seen: OwnScores, regions: RegionScores, found: Detections
) -> tuple[Array, Array]:
    """Evidence (n, 3) of n annotated boxes, and the row (n,) in `found` of the detection that each
    should perhaps be, or -1.

    The log-odds of a box's own score, those of the best region of its class with an IoU of 0.5, and
    the score of the detection of its class beside it.
    """
    rivals = _rivals(truth, found)
    beside = np.append(found.scores, 0.0)[rivals]
    support = _support(truth, regions)
    return np.stack([_log_odds(seen.own), _log_odds(support), beside], 1), rivals


def overlooked_evidence(sample: Sample, found: Detections, unknown: Array) -> tuple[Array, Array]:
    """Rows (C,) of detections that no label covers, and their evidence (C, 3).

    The log-odds of the score, the share of the box inside a label of its class, and the IoU with a
    label of any class. A label covers a detection of its class with an IoU of 0.5; one that is
    difficult, a crowd, or of an unknown class covers any.
    """
    truth = sample.annotations
    overlap, same = iou(found.boxes, truth.boxes), found.labels[:, None] == truth.labels
    any_class = np.concatenate([truth.boxes[~truth.real], unknown])
    covered = ((overlap >= FOREGROUND_IOU) & (same | ~truth.real)).any(1)
    covered |= (iou(found.boxes, any_class) >= FOREGROUND_IOU).any(1)
    annotated = np.array([sample.is_annotated(label) for label in found.labels.tolist()], bool)
    rows = np.flatnonzero((found.scores >= MIN_SCORE) & ~covered & annotated)
    shares = intersection(found.boxes, truth.boxes) / area(found.boxes)[:, None]
    inside = (shares * same).max(1, initial=0.0)
    columns = [_log_odds(found.scores), inside, overlap.max(1, initial=0.0)]
    return rows, np.stack(columns, 1)[rows]


def doubled(truth: Annotations, seen: OwnScores) -> Iterator[tuple[int, tuple[int, float]]]:
    """Pairs of labels on one object: the one with the lower own score, the other, and a suspicion
    that rises from 0 at an IoU of DOUBLED_IOU to 1 where the boxes are equal.
    """
    overlap = np.triu(iou(truth.boxes, truth.boxes), 1)
    pairs = np.argwhere((overlap > DOUBLED_IOU) & truth.real & truth.real[:, None])
    for first, second in pairs.tolist():
        less, more = sorted((first, second), key=lambda row: seen.own[row])
        suspicion = (overlap[first, second] - DOUBLED_IOU) / (1 - DOUBLED_IOU)
        yield less, (more, float(suspicion))


def _of_box(
    sample: Sample, row: int, seen: OwnScores, found: Detections, rival: int, names: Sequence[str]
) -> Suspect:
    truth = sample.annotations
    label, beside = names[truth.labels[row]], float(found.scores[rival]) if rival >= 0 else 0.0
    about = {
        "swapped": (seen.other[row], names[seen.other_label[row]], None),
        "misplaced": (beside, label, found.boxes[rival] if rival >= 0 else None),
        "spurious": (seen.background[row] * (1 - beside), "nothing", None),
    }
    kind = max(about, key=lambda name: about[name][0])
    _, suggestion, better = about[kind]
    box = truth.boxes[row]
    return Suspect(sample.image_id, sample.path, kind, 0.0, label, box, suggestion, better, row)


def _rivals(truth: Annotations, found: Detections) -> Array:
    """For each label the best detection of its class beside it, IoU 0.1 to 0.5, that no label has;
    -1 where there is none.
    """
    overlap = iou(found.boxes, truth.boxes)
    same = found.labels[:, None] == truth.labels
    free = ~(same & (overlap >= FOREGROUND_IOU)).any(1)
    beside = same & (overlap >= BACKGROUND_IOU) & (overlap < FOREGROUND_IOU) & free[:, None]
    scores = np.where(beside, found.scores[:, None], 0.0)
    if not len(found):
        return np.full(len(truth), -1)
    return np.where(beside.any(0), scores.argmax(0), -1)


def _support(truth: Annotations, regions: RegionScores) -> Array:
    """The best score (n,) of a region for each label's class, with an IoU of 0.5 or more."""
    boxes = regions.boxes
    support = np.zeros(len(truth))
    for row, label in enumerate(truth.labels.tolist()):
        of_class = boxes if boxes.ndim == 2 else boxes[:, label]
        on_it = iou(of_class, truth.boxes[row : row + 1])[:, 0] >= FOREGROUND_IOU
        support[row] = regions.scores[on_it, label].max(initial=0.0)
    return support


def _log_odds(scores: Array) -> Array:
    bounded = np.clip(np.asarray(scores, np.float64), MIN_PROBABILITY, MAX_PROBABILITY)
    return np.log(bounded / (1 - bounded))
