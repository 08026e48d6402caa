"""VOC's and ILSVRC's protocols: a rule for right detections, and an average of the curve."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.evaluation.protocols.average_precision import (
    area_under_envelope,
    eleven_point,
    precision_recall,
)
from detector.evaluation.protocols.ilsvrc import judge_ilsvrc
from detector.evaluation.protocols.matching import RIGHT, Judge, Matching, match
from detector.evaluation.protocols.voc import judge_voc
from detector.evaluation.result import PROTOCOLS, ClassResult, Protocol
from detector.structures import Array, Detections

# (precision, recall) along the ranking -> average precision
Average = Callable[[Array, Array], float]

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
