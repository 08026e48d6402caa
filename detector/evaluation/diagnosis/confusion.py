"""The confusion matrix of detections."""

import numpy as np

from detector.boxes import iou
from detector.evaluation.diagnosis.errors import FOREGROUND_IOU
from detector.evaluation.protocols.matching import RIGHT, WRONG, Matching
from detector.structures import Array


def confusion_of(matching: Matching, threshold: float) -> Array:
    """The confusion matrix (K+1, K+1) int64: rows are the truth, columns the detected class at a
    score of at least `threshold`.

    The last row is background (false alarms), the last column nothing (missed objects). Right
    detections come first; then, best first, each wrong one takes the object of another class that
    it overlaps most, of those that are still free, if by 0.5 or more.
    """
    count = len(matching.classes)
    table = np.zeros((count + 1, count + 1), np.int64)
    objects = matching.objects
    strong = matching.scores >= threshold
    right = matching.labels[strong & (matching.verdicts == RIGHT)]
    np.add.at(table, (right, right), 1)  # `+= 1` would count each class once
    free = objects.counted & ~matching.found_at(threshold)
    for row in np.flatnonzero(strong & (matching.verdicts == WRONG)):
        label = matching.labels[row]
        target = _free_object(matching, int(row), free)
        table[count if target is None else objects.labels[target], label] += 1
        if target is not None:
            free[target] = False
    table[:count, count] = np.bincount(objects.labels[free], minlength=count)
    return table


def _free_object(matching: Matching, row: int, free: Array) -> int | None:
    objects = matching.objects
    image = matching.images[row]
    low, high = np.searchsorted(objects.images, [image, image + 1])
    usable = free[low:high] & (objects.labels[low:high] != matching.labels[row])
    rows = low + np.flatnonzero(usable)
    if len(rows) == 0:
        return None
    overlaps = iou(matching.boxes[row : row + 1], objects.boxes[rows])[0]
    best = int(overlaps.argmax())
    return int(rows[best]) if overlaps[best] >= FOREGROUND_IOU else None
