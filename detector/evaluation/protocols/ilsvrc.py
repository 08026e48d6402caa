"""ILSVRC DET's rule for a right detection (eval_detection.m of the ILSVRC development kit).

Small objects get a looser threshold: five pixels of slack on each side of the box.
"""

import numpy as np

from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG
from detector.structures import Array

MAX_THRESHOLD = 0.5
SLACK = 10.0  # pixels that a box may be wider and higher than its object


def thresholds(objects: Array) -> Array:
    """The least overlap (G,) of a right detection with each object: min(0.5, wh / ((w + 10)(h +
    10))).
    """
    width, height = np.asarray(objects, np.float64)[:, 2:].T
    shares: Array = width * height / ((width + SLACK) * (height + SLACK))
    return np.minimum(MAX_THRESHOLD, shares)


def judge_ilsvrc(overlaps: Array, objects: Array, ignored: Array) -> Array:
    """Match each detection to the object of largest overlap among those still free whose threshold
    it reaches.

    Unlike VOC's rule, a taken object does not stand in the way of its neighbour. ILSVRC has no
    objects to ignore; where a data set has them, a detection that finds only such a one is neither
    right nor wrong, and the object is never used up.
    """
    verdicts = np.full(len(overlaps), WRONG, np.int8)
    near = overlaps >= thresholds(objects)
    free = ~ignored
    for row in np.flatnonzero(near.any(1)):
        wanted = near[row] & free
        if wanted.any():
            verdicts[row] = RIGHT
            free[np.where(wanted, overlaps[row], -1.0).argmax()] = False
        elif (near[row] & ignored).any():
            verdicts[row] = NEITHER
    return verdicts
