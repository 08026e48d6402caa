"""Matching of detections and objects: the table that the whole diagnosis is computed from.

Verdicts follow VOC's rule (protocols/voc.py), so the table's mean AP is the one of voc12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.boxes import iou_xywh
from detector.datasets.dataset import Dataset, Sample
from detector.evaluation.protocols.average_precision import area_under_envelope, precision_recall
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG, check_results, ignorable
from detector.evaluation.protocols.voc import judge_voc
from detector.structures import Annotations, Array, Detections

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


class Objects(NamedTuple):
    """The G objects of a data set that are annotated exhaustively in their image.

    counted  (G,) bool: to be found; the others (difficult, crowds) are neither reward nor penalty
    finder   (G,) the right detection, -1 where there is none
    areas    (G,) pixels inside the outline, where it is known
    """

    images: Array
    labels: Array
    boxes: Array
    areas: Array
    counted: Array
    finder: Array


@dataclass(frozen=True, eq=False)
class Matching:
    """The D detections of a data set, best first, and its objects.

    images, labels, scores, boxes  (D,) ... (D, 4); images are indices of the data set's samples
    verdicts         (D,) RIGHT, WRONG or NEITHER
    own, own_iou     (D,) the counted object of its class that it overlaps most (-1: none), and how
    other, other_iou (D,) the same among the objects of other classes
    image_areas      (B,) pixels of each image, NaN where the data set does not say
    """

    classes: tuple[str, ...]
    images: Array
    labels: Array
    scores: Array
    boxes: Array
    verdicts: Array
    own: Array
    own_iou: Array
    other: Array
    other_iou: Array
    objects: Objects
    image_areas: Array

    def positives(self, among: Array | None = None) -> Array:
        """The number (K,) of counted objects of each class, restricted to `among` (G,) bool."""
        counted = self.objects.counted if among is None else self.objects.counted & among
        return np.bincount(self.objects.labels[counted], minlength=len(self.classes))

    def mean_ap(self) -> float:
        """The mean AP by voc12; NaN without objects."""
        judged = self.verdicts != NEITHER
        return mean_ap(self.labels[judged], self.verdicts[judged] == RIGHT, self.positives())

    def found_at(self, threshold: float) -> Array:
        """True (G,) where a right detection with at least this score found the object."""
        finder = self.objects.finder
        found = finder >= 0
        found[found] = self.scores[finder[found]] >= threshold
        return found


def mean_ap(labels: Array, right: Array, positives: Array) -> float:
    """The mean AP of detections (D,), best first, over the classes that have objects; NaN without
    any.
    """
    aps = []
    for label in np.flatnonzero(positives):
        class_right = right[labels == label]
        aps.append(
            area_under_envelope(
                *precision_recall(class_right, ~class_right, float(positives[label]))
            )
        )
    return float(np.mean(aps)) if aps else float("nan")


def match(dataset: Dataset, results: Mapping[str, Detections]) -> Matching:
    """Match all detections of a data set to its objects; classes not annotated in an image are left
    out.
    """
    check_results(dataset, results)
    parts = list(_of_images(dataset, results))
    columns = [np.concatenate(column) for column in zip(*(one for one, _ in parts), strict=True)]
    truth = Objects(*map(np.concatenate, zip(*(one for _, one in parts), strict=True)))
    order = np.argsort(-columns[2], kind="stable")
    images, labels, scores, boxes, verdicts, own, own_iou, other, other_iou = (
        column[order] for column in columns
    )
    pixels = [np.nan if one.size is None else np.prod(one.size) for one in dataset.samples]
    right = np.flatnonzero(verdicts == RIGHT)
    truth.finder[own[right]] = right
    return Matching(
        dataset.classes, images, labels, scores, boxes, verdicts, own, own_iou, other, other_iou,
        truth, np.array(pixels, np.float64),
    )  # fmt: skip


def _of_images(
    dataset: Dataset, results: Mapping[str, Detections]
) -> Iterator[tuple[tuple[Array, ...], Objects]]:
    """The columns of each image; indices of objects count through the whole data set."""
    before = 0
    for image, sample in enumerate(dataset.samples):
        annotated = _annotated(sample)
        truth = _objects(annotated, image)
        found = _best_first(sample, results.get(sample.image_id))
        same = found.labels[:, None] == truth.labels[None]
        overlaps = np.where(truth.counted, iou_xywh(found.xywh, annotated.xywh), 0.0)
        own, own_iou = _most(overlaps * same, before)
        other, other_iou = _most(overlaps * ~same, before)
        verdicts = _verdicts(found, annotated)
        scores = found.scores.astype(np.float64)
        images = np.full(len(found), image)
        yield (
            (images, found.labels, scores, found.boxes, verdicts, own, own_iou, other, other_iou),
            truth,
        )
        before += len(truth.labels)


def _annotated(sample: Sample) -> Annotations:
    """The objects of the classes that are annotated in this image."""
    truth = sample.annotations
    return truth[np.array([sample.is_annotated(int(one)) for one in truth.labels], bool)]


def _objects(truth: Annotations, image: int) -> Objects:
    count = len(truth)
    return Objects(
        np.full(count, image), truth.labels, truth.boxes, truth.areas,
        ~ignorable(truth), np.full(count, -1),
    )  # fmt: skip


def _best_first(sample: Sample, found: Detections | None) -> Detections:
    if found is None:
        return Detections.empty()
    if sample.annotated is not None:
        found = found[np.isin(found.labels, sorted(sample.annotated))]
    return found[np.argsort(-found.scores.astype(np.float64), kind="stable")]


def _verdicts(found: Detections, truth: Annotations) -> Array:
    verdicts = np.full(len(found), WRONG, np.int8)
    for label in np.unique(found.labels):
        of_label, objects_of_label = found.labels == label, truth.labels == label
        verdicts[of_label] = judge_voc(
            found.xywh[of_label], truth.xywh[objects_of_label], ignorable(truth)[objects_of_label]
        )
    return verdicts


def _most(overlaps: Array, before: int) -> tuple[Array, Array]:
    """For each row the column of the greatest overlap, numbered from `before`, and the overlap."""
    if overlaps.shape[1] == 0:
        return np.full(len(overlaps), -1), np.zeros(len(overlaps))
    most = overlaps.max(1)
    return np.where(most > 0, overlaps.argmax(1) + before, -1), most
