"""Judging of every detection of a data set as right, wrong or neither, by a given rule.

Detections are judged best first. Those with equal scores keep the order of the data set's images
and, inside an image, the order in which they were given: the devkits leave ties to their sort, and
this is what a stable one does with a result file in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError
from detector.structures import Annotations, Array, Detections

RIGHT, WRONG, NEITHER = 1, 0, -1

_NOTHING = Detections.empty()

# One image and one class: boxes (D, 4) best first, objects (G, 4), both x, y, width, height as the
# files give them, and which objects are to be ignored (G,) -> verdicts (D,).
Judge = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True, eq=False)
class Judged:
    """All detections of one class over the data set, best first.

    scores     (D,) float64
    images     (D,) int64 index into the data set's samples
    verdicts   (D,) int8: RIGHT, WRONG or NEITHER
    positives  (B,) int64 number of objects to be found, per image
    """

    scores: Array
    images: Array
    verdicts: Array
    positives: Array


def judge_all(
    dataset: Dataset, results: Mapping[str, Detections], judge: Judge
) -> tuple[Judged, ...]:
    """Judge detections class by class; an image without results has no detections."""
    check_results(dataset, results)
    count = len(dataset.classes)
    positives = np.zeros((count, len(dataset)), np.int64)
    parts: list[list[tuple[Array, Array, Array]]] = [[] for _ in range(count)]
    for image, sample in enumerate(dataset.samples):
        truth = sample.annotations
        ignored = ignorable(truth)
        np.add.at(positives[:, image], truth.labels[~ignored], 1)
        if sample.annotated is not None:  # unannotated classes prove nothing
            positives[[i for i in range(count) if i not in sample.annotated], image] = 0
        detections = results.get(sample.image_id, _NOTHING)
        for label in map(int, np.unique(detections.labels)):
            if not sample.is_annotated(label):
                continue
            scores, boxes = best_first(detections, label)
            of_label = truth.labels == label
            verdicts = judge(boxes, truth.xywh[of_label], ignored[of_label])
            parts[label].append((scores, np.full(len(scores), image), verdicts))
    return tuple(_merged(parts[label], positives[label]) for label in range(count))


def ignorable(truth: Annotations) -> Array:
    """Objects (G,) that earn neither reward nor penalty: VOC's difficult ones, COCO's crowds."""
    return truth.difficult | truth.crowd


def best_first(found: Detections, label: int) -> tuple[Array, Array]:
    """Scores (float64) and boxes (x, y, width, height) of one class, in the order of judging."""
    rows = np.flatnonzero(found.labels == label)
    scores = found.scores[rows].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    return scores[order], found.xywh[rows[order]]


def check_results(dataset: Dataset, results: Mapping[str, Detections]) -> None:
    """Raise EvaluationError for results of other images or of another class list."""
    unknown = set(results) - {sample.image_id for sample in dataset.samples}
    if unknown:
        raise EvaluationError(
            f"{dataset.name}: {len(unknown)} of {len(results)} results are of images that it does "
            f"not have, for example {min(unknown)!r}; choose the split that was detected on"
        )
    for image_id, found in results.items():
        if len(found) and found.labels.max() >= len(dataset.classes):
            raise EvaluationError(
                f"{dataset.name}: a detection in image {image_id!r} has label "
                f"{found.labels.max()}, but there are {len(dataset.classes)} classes"
            )


def _merged(parts: list[tuple[Array, Array, Array]], positives: Array) -> Judged:
    if not parts:
        empty = np.zeros(0, np.int64)
        return Judged(np.zeros(0), empty, empty.astype(np.int8), positives)
    scores, images, verdicts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Judged(scores[order], images[order], verdicts[order].astype(np.int8), positives)
