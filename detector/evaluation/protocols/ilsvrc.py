"""ILSVRC DET's rule for a right detection (eval_detection.m of the ILSVRC development kit).

Small objects get a looser threshold: five pixels of slack on each side of the box.
"""

from __future__ import annotations

import numpy as np

from detector.boxes import iou_xywh
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG
from detector.structures import Array

MAX_THRESHOLD = 0.5
SLACK = 10.0  # pixels that a box may be wider and higher than its object


def thresholds(objects: Array) -> Array:
    """The least overlap (G,) of a right detection with each object: min(0.5, wh / ((w + 10)(h +
    10))).
    """
    width, height = np.asarray(objects, np.float64)[:, 2:].T
    return np.minimum(MAX_THRESHOLD, width * height / ((width + SLACK) * (height + SLACK)))


def judge_ilsvrc(boxes: Array, objects: Array, ignored: Array) -> Array:
    """Match each detection to the object of largest overlap among those still free whose threshold
    it reaches; boxes are x, y, width, height.

    Unlike VOC's rule, a taken object does not stand in the way of its neighbour. ILSVRC has no
    objects to ignore; where a data set has them, a detection that finds only such a one is neither
    right nor wrong, and the object is never used up.
    """
    verdicts = np.full(len(boxes), WRONG, np.int8)
    if len(objects) == 0 or len(boxes) == 0:
        return verdicts
    overlaps = iou_xywh(boxes, objects)
    near = overlaps >= thresholds(objects)
    free = np.ones(len(objects), bool)
    for row in np.flatnonzero(near.any(1)):
        wanted = near[row] & free & ~ignored
        if wanted.any():
            verdicts[row] = RIGHT
            free[np.where(wanted, overlaps[row], -1.0).argmax()] = False
        elif (near[row] & ignored).any():
            verdicts[row] = NEITHER
    return verdicts
