"""VOC's and ILSVRC's protocols: a rule for right detections, and an average of the curve.

The rules are those of the development kits (VOCevaldet.m, eval_detection.m). VOC's adds one pixel
to every width because its boxes are 1-based and inclusive. Ours are 0-based with exclusive ends,
x1 = xmin - 1 and x2 = xmax, so that the plain x2 - x1 is the very same number: no pixel is added
here. ILSVRC's gives small objects a looser threshold: five pixels of slack on each side of the box.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.evaluation.protocols.average_precision import (
    area_under_envelope,
    eleven_point,
    precision_recall,
)
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG, Judge, Matching, match
from detector.evaluation.result import PROTOCOLS, ClassResult, Protocol
from detector.structures import Array, Detections

MIN_OVERLAP = 0.5  # VOCopts.minoverlap, and ILSVRC's for large objects
SLACK = 10.0  # pixels that a box may be wider and higher than its object, by ILSVRC's rule

# (precision, recall) along the ranking -> average precision
Average = Callable[[Array, Array], float]


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


def thresholds(objects: Array) -> Array:
    """The least overlap (G,) of a right detection with each object: min(0.5, wh / ((w + 10)(h +
    10))).
    """
    width, height = np.asarray(objects, np.float64)[:, 2:].T
    shares: Array = width * height / ((width + SLACK) * (height + SLACK))
    return np.minimum(MIN_OVERLAP, shares)


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


# COCO's protocol is separate: it has ten thresholds and four ranges of area.
RULES: dict[str, tuple[Judge, Average]] = {
    "voc07": (judge_voc, eleven_point),
    "voc12": (judge_voc, area_under_envelope),
    "ilsvrc": (judge_ilsvrc, area_under_envelope),
}


def match_voc(dataset: Dataset, results: Mapping[str, Detections]) -> Matching:
    """Match by VOC's rule, as the diagnosis does whatever the protocol of the mAP."""
    return match(dataset, results, judge_voc)


def class_results(matching: Matching, average: Average) -> tuple[ClassResult, ...]:
    """The result of every class."""
    rows = []
    for name, (mine, per_image) in zip(matching.classes, matching.of_classes(), strict=True):
        right = matching.verdicts[mine] == RIGHT
        positives = int(per_image.sum())
        # A class without objects has a curve that says nothing, and no AP.
        precision, recall = precision_recall(right, ~right, max(positives, 1))
        ap = average(precision, recall) if positives else float("nan")
        scores = matching.scores[mine]
        rows.append(ClassResult(name, ap, positives, len(mine), recall, precision, scores))
    return tuple(rows)


def mean_ap(labels: Array, right: Array, positives: Array) -> float:
    """VOC2012's mean AP of detections (D,), best first, over the classes that have objects; NaN
    without any.
    """
    aps = []
    for label in np.flatnonzero(positives):
        mine = right[labels == label]
        aps.append(area_under_envelope(*precision_recall(mine, ~mine, float(positives[label]))))
    return float(np.mean(aps)) if aps else float("nan")


def mean_over_classes(rows: Iterable[ClassResult]) -> float:
    """The mean AP of the classes that have objects."""
    defined = [row.ap for row in rows if not np.isnan(row.ap)]
    if not defined:
        raise EvaluationError("no class has an object to be found, so there is no mAP")
    return float(np.mean(defined))


def check_protocol(name: str, known: Iterable[str] = PROTOCOLS) -> Protocol:
    """The protocol named `name`. Raises SettingsError with the known names."""
    for protocol in PROTOCOLS:
        if protocol == name and protocol in known:
            return protocol
    raise SettingsError(f"protocol {name!r} is not possible here; choose one of {', '.join(known)}")
