"""PASCAL VOC's rule for a right detection (VOCevaldet.m of the development kit).

The devkit adds one pixel to every width because its boxes are 1-based and inclusive. Ours are
0-based with exclusive ends, x1 = xmin - 1 and x2 = xmax, so that the plain x2 - x1 is the very same
number: no pixel is added here.
"""

import numpy as np

from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG
from detector.structures import Array

MIN_OVERLAP = 0.5  # VOCopts.minoverlap


def judge_voc(overlaps: Array, _objects: Array, ignored: Array) -> Array:
    """Compare each detection with the object that it overlaps most, taken or not.

    Right if they overlap by half and nobody claimed the object before, neither if the object is to
    be ignored, wrong otherwise.
    """
    verdicts = np.full(len(overlaps), WRONG, np.int8)
    if overlaps.size == 0:
        return verdicts
    best = overlaps.argmax(1)  # the first of equal ones, as in the devkit
    taken = np.zeros(len(ignored), bool)
    for row in np.flatnonzero(overlaps.max(1) >= MIN_OVERLAP):
        target = best[row]
        if ignored[target]:
            verdicts[row] = NEITHER
        elif not taken[target]:
            verdicts[row] = RIGHT
            taken[target] = True
    return verdicts
