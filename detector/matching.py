"""What a region is by the annotations of its image: an object's, background, or neither.

Regions on `difficult` objects and in crowds are neither reward nor penalty where detections are
judged, so nothing is learnt from them either.
"""

from __future__ import annotations

import numpy as np

from detector import boxes as box_ops
from detector.structures import Annotations, Array

BACKGROUND, IGNORE = -1, -2


def match_to_objects(boxes: Array, truth: Annotations, iou: float) -> tuple[Array, Array]:
    """Whose each region is, (N,) rows of `truth`: the object's that it overlaps best, if at IoU >=
    `iou`; the others are IGNORE or BACKGROUND. And the IoU (N,) with that best object.
    """
    rows = np.flatnonzero(truth.real)
    best, which = np.zeros(len(boxes)), np.full(len(boxes), BACKGROUND)
    if len(rows):
        overlap = box_ops.iou(boxes, truth.boxes[rows])
        best, which = overlap.max(1), rows[overlap.argmax(1)]
    others = np.where(set_aside(boxes, truth, iou), IGNORE, BACKGROUND)
    return np.where(best >= iou, which, others), best


def set_aside(boxes: Array, truth: Annotations, iou: float) -> Array:
    """(N,) bool: regions that overlap a `difficult` object by `iou`, or lie by half (by `iou`,
    where that is less) in a crowd. A crowd has no outline to compare with, so what counts is the
    region's own area, as in COCO's evaluation.
    """
    on_difficult = box_ops.iou(boxes, truth.boxes[truth.difficult]) >= iou
    shared = box_ops.intersection(boxes, truth.boxes[truth.crowd])
    in_crowd = shared >= min(iou, 0.5) * box_ops.area(boxes)[:, None]
    found: Array = np.logical_or(on_difficult.any(1), in_crowd.any(1))
    return found
