"""From scored regions to detections: threshold, per-class and class-agnostic suppression, box
voting, limits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detector import boxes as box_ops
from detector.detection.settings import DetectionSettings
from detector.structures import Array, Detections


class ClassRegions(NamedTuple):
    """The regions of one class.

    boxes       (N, 4) of all regions
    kept        rows above the threshold that no better one overlaps, best first
    suppressed  the other rows above the threshold
    """

    label: int
    boxes: Array
    kept: Array
    suppressed: Array


def per_class(boxes: Array, scores: Array, settings: DetectionSettings) -> Iterator[ClassRegions]:
    """Non-maximum suppression in each class, of scores (N, K+1) and boxes (N, 4) or (N, K, 4)."""
    for label in range(scores.shape[1] - 1):
        rows = np.flatnonzero(scores[:, label] >= settings.score_threshold)
        class_boxes = boxes if boxes.ndim == 2 else boxes[:, label]
        kept = box_ops.nms(class_boxes[rows], scores[rows, label], settings.nms_threshold)
        yield ClassRegions(label, class_boxes, rows[kept], np.delete(rows, kept))


def suppress(
    boxes: Array, scores: Array, settings: DetectionSettings, classes: Sequence[str] = ()
) -> Detections:
    """Reduce scores (N, K+1) of boxes (N, 4) or (N, K, 4) to detections, best first; ties are
    broken by class, then by rank. `classes` are the names of the labels.
    """
    columns: list[tuple[Array, Array, Array]] = []
    for label, class_boxes, kept, _ in per_class(boxes, scores, settings):
        moved = np.asarray(class_boxes, np.float64)[kept]
        if settings.voting_iou is not None and len(kept):
            moved = box_ops.vote(moved, class_boxes, scores[:, label], settings.voting_iou)
        columns.append((moved, scores[kept, label], np.full(len(kept), label)))
    if not columns:
        return Detections.empty()
    final, values, labels = (np.concatenate(column) for column in zip(*columns, strict=True))
    best = np.argsort(-values, kind="stable")
    if settings.class_agnostic_nms is not None:
        best = best[box_ops.nms(final[best], values[best], settings.class_agnostic_nms)]
    best = best[: settings.max_detections]
    return Detections(final[best], values[best], labels[best], classes=tuple(classes))
