"""From scored regions to detections: threshold, per-class and class-agnostic suppression, box
voting, limits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from detector import boxes as box_ops
from detector.settings import Settings
from detector.structures import Array, Detections


class DetectionSettings(Settings):
    """Settings of the steps after scoring. Bundles and the configurations of trainings, whose
    `thresholds` they are, write some by a shorter name.
    """

    score_threshold: float = Field(0.05, ge=0, le=1, alias="score")
    """Detections below it are dropped. Measuring mAP wants about 0.01: low scores cost nothing
    there.
    """
    nms_threshold: float = Field(0.3, ge=0, le=1, alias="nms")
    """Per-class suppression above this IoU (R-CNN: 0.3)."""
    class_agnostic_nms: float | None = Field(None, ge=0, le=1)
    """After that, suppression of a worse box of any class above this IoU: one object of an unknown
    kind is then one detection, not a dog, a horse and a cow. None is off, as in the paper.
    """
    voting_iou: float | None = Field(None, gt=0, le=1, alias="voting")
    """Move each detection to the score-weighted mean of the regions that overlap it at least so
    much (box voting; 0.5 is usual). Departs from the paper: GoogLeNet took boxes as proposed, and
    None does so too.
    """
    max_detections: int = Field(100, ge=1)
    """Most detections of one image, over all classes; COCO's limit."""
    max_proposals: int | None = Field(None, ge=1)
    """Only so many of the best ranked proposals are classified; None is all."""
    svm: bool = False
    """Scores of the bundle's SVMs in place of the softmax. Departs from the paper, as
    `regression` does: GoogLeNet's entry had neither, for lack of time.
    """
    regression: bool = False
    """Each class moves its regions before suppression."""


def suppress(
    boxes: Array, scores: Array, settings: DetectionSettings, classes: Sequence[str] = ()
) -> Detections:
    """Reduce scores (N, K+1) of boxes (N, 4) or (N, K, 4) to detections, best first; ties are
    broken by class, then by rank. `classes` are the names of the labels.
    """
    per_class: list[tuple[Array, Array, Array]] = []
    for label in range(scores.shape[1] - 1):
        rows = np.flatnonzero(scores[:, label] >= settings.score_threshold)
        class_boxes = boxes if boxes.ndim == 2 else boxes[:, label]
        kept = rows[box_ops.nms(class_boxes[rows], scores[rows, label], settings.nms_threshold)]
        moved = np.asarray(class_boxes, np.float64)[kept]
        if settings.voting_iou is not None and len(kept):
            moved = box_ops.vote(moved, class_boxes, scores[:, label], settings.voting_iou)
        per_class.append((moved, scores[kept, label], np.full(len(kept), label)))
    if not per_class:
        return Detections.empty()
    final, values, labels = (np.concatenate(column) for column in zip(*per_class, strict=True))
    best = np.argsort(-values, kind="stable")
    if settings.class_agnostic_nms is not None:
        best = best[box_ops.nms(final[best], values[best], settings.class_agnostic_nms)]
    best = best[: settings.max_detections]
    return Detections(final[best], values[best], labels[best], classes=tuple(classes))
