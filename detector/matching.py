"""Matching of regions to annotated objects: an object, background, or ignored.

Evaluation neither rewards nor penalises detections of `difficult` objects and in crowds, so regions
on them are ignored in training as well.
"""

import numpy as np

from detector import boxes as box_ops
from detector.structures import Annotations, Array

BACKGROUND, IGNORE = -1, -2  # negative, so that neither is the index of an object


def match_to_objects(boxes: Array, truth: Annotations, iou: float) -> tuple[Array, Array]:
    """Match boxes (N, 4): indices (N,) into `truth`, and the IoU (N,) with the best object.

    A region is matched to the object of largest IoU if that is at least `iou`; otherwise its index
    is IGNORE or BACKGROUND.
    """
    rows = np.flatnonzero(truth.real)
    best, which = np.zeros(len(boxes)), np.full(len(boxes), BACKGROUND)
    if len(rows):
        overlap = box_ops.iou(boxes, truth.boxes[rows])
        best, which = overlap.max(1), rows[overlap.argmax(1)]
    others = np.where(set_aside(boxes, truth, iou), IGNORE, BACKGROUND)
    return np.where(best >= iou, which, others), best


def set_aside(boxes: Array, truth: Annotations, iou: float) -> Array:
    """Mask (N,) of regions to ignore: on a `difficult` object, or in a crowd.

    On a difficult object means an IoU of at least `iou`. In a crowd means that at least half of the
    region (or `iou`, where that is less) lies in it: a crowd has no outline to compare with, so the
    share of the region's own area counts, as in COCO's evaluation.
    """
    on_difficult = box_ops.iou(boxes, truth.boxes[truth.difficult]) >= iou
    shared = box_ops.intersection(boxes, truth.boxes[truth.crowd])
    in_crowd = shared >= min(iou, 0.5) * box_ops.area(boxes)[:, None]
    return np.logical_or(on_difficult.any(1), in_crowd.any(1))
