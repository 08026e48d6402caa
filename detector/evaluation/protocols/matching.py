"""The table of a data set's detections and objects, from which every measure is computed.

Detections are judged best first. Those with equal scores keep the order of the data set's images
and, inside an image, the order in which they were given: the devkits leave ties to their sort, and
this is what a stable one does with a result file in that order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from detector.boxes import iou_xywh
from detector.datasets.dataset import Dataset, Sample
from detector.errors import EvaluationError
from detector.structures import Annotations, Array, Detections

RIGHT, WRONG, NEITHER = 1, 0, -1

# One image and one class: overlaps (D, G) of detections, best first, with objects; the objects
# (G, 4) as x, y, width, height; which of them are ignored (G,) -> verdicts (D,).
Judge = Callable[[Array, Array, Array], Array]


class Objects(NamedTuple):
    """The G objects of a data set that are annotated exhaustively in their image.

    images   (G,) index into the data set's samples, ascending
    areas    (G,) pixels inside the outline, where it is known
    counted  (G,) bool: to be found; the others (difficult, crowds) are neither reward nor penalty
    """

    images: Array
    labels: Array
    boxes: Array
    areas: Array
    counted: Array


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

    @cached_property
    def judged(self) -> Array:
        """True (D,) for detections that are right or wrong."""
        return np.not_equal(self.verdicts, NEITHER)

    @cached_property
    def finder(self) -> Array:
        """The right detection (G,) of each object by VOC's rule, -1 where there is none."""
        finder = np.full(len(self.objects.labels), -1)
        right = np.flatnonzero(self.verdicts == RIGHT)
        finder[self.own[right]] = right
        return finder

    def found_at(self, threshold: float) -> Array:
        """True (G,) where a right detection with at least this score found the object."""
        found = self.finder >= 0
        found[found] = self.scores[self.finder[found]] >= threshold
        return found

    def positives(self, among: Array | None = None) -> Array:
        """The number (K,) of counted objects of each class, restricted to `among` (G,) bool."""
        counted = self.objects.counted if among is None else self.objects.counted & among
        return np.bincount(self.objects.labels[counted], minlength=len(self.classes))

    def of_classes(self) -> Iterator[tuple[Array, Array]]:
        """For each class its judged detections, best first, and its objects (B,) in each image."""
        rows = np.flatnonzero(self.judged)
        rows = rows[np.argsort(self.labels[rows], kind="stable")]  # best first in each class
        ends = np.searchsorted(self.labels[rows], np.arange(len(self.classes) + 1))
        for label in range(len(self.classes)):
            mine = self.objects.counted & (self.objects.labels == label)
            positives = np.bincount(self.objects.images[mine], minlength=len(self.image_areas))
            yield rows[ends[label] : ends[label + 1]], positives


def match(dataset: Dataset, results: Mapping[str, Detections], judge: Judge) -> Matching:
    """Judge every detection by the rule `judge`; an image without results has none.

    Raises EvaluationError for results of other images or of another class list.
    """
    check_results(dataset, results)
    columns: list[tuple[Array, ...]] = []
    objects: list[Objects] = []
    before = 0
    for image, sample in enumerate(dataset.samples):
        truth = _annotated(sample)
        found = judgeable(sample, results.get(sample.image_id))
        found = found[np.argsort(-found.scores.astype(np.float64), kind="stable")]
        columns.append(_columns(image, found, truth, judge, before))
        objects.append(
            Objects(np.full(len(truth), image), truth.labels, truth.boxes, truth.areas, truth.real)
        )
        before += len(truth)
    table = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    # Stable: equal scores keep the images' order, as a devkit's sort of a result file does.
    order = np.argsort(-table[2], kind="stable")
    images, labels, scores, boxes, verdicts, own, own_iou, other, other_iou = (
        column[order] for column in table
    )
    pixels = [np.nan if one.size is None else np.prod(one.size) for one in dataset.samples]
    return Matching(
        dataset.classes, images, labels, scores, boxes, verdicts, own, own_iou, other, other_iou,
        Objects(*map(np.concatenate, zip(*objects, strict=True))), np.array(pixels, np.float64),
    )  # fmt: skip


def judgeable(sample: Sample, found: Detections | None) -> Detections:
    """The detections of classes that are annotated in this image; the others prove nothing."""
    if found is None:
        return Detections.empty()
    if sample.annotated is None:
        return found
    return found[np.isin(found.labels, sorted(sample.annotated))]


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


def _columns(
    image: int, found: Detections, truth: Annotations, judge: Judge, before: int
) -> tuple[Array, ...]:
    """The columns of one image, best first; indices of objects begin at `before`."""
    overlaps = iou_xywh(found.xywh, truth.xywh)
    ignored = ~truth.real  # VOC's difficult objects, COCO's crowds
    verdicts = np.full(len(found), WRONG, np.int8)
    for label in np.unique(found.labels):
        rows, mine = found.labels == label, truth.labels == label
        verdicts[rows] = judge(overlaps[np.ix_(rows, mine)], truth.xywh[mine], ignored[mine])
    # A diagnosis names only objects that were to be found.
    counted = np.where(ignored, 0.0, overlaps)
    same = found.labels[:, None] == truth.labels[None]
    return (
        np.full(len(found), image), found.labels, found.scores.astype(np.float64), found.boxes,
        verdicts, *_max_overlap(counted * same, before), *_max_overlap(counted * ~same, before),
    )  # fmt: skip


def _annotated(sample: Sample) -> Annotations:
    truth = sample.annotations
    if sample.annotated is None:
        return truth
    return truth[np.isin(truth.labels, sorted(sample.annotated))]


def _max_overlap(overlaps: Array, before: int) -> tuple[Array, Array]:
    """For each row the column of the greatest overlap, numbered from `before`, and the overlap."""
    if overlaps.shape[1] == 0:
        return np.full(len(overlaps), -1), np.zeros(len(overlaps))
    most = overlaps.max(1)
    return np.where(most > 0, overlaps.argmax(1) + before, -1), most
