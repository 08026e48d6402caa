"""Evaluation by the four protocols voc07, voc12, ilsvrc and coco."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError, SettingsError
from detector.evaluation.protocols.average_precision import (
    area_under_envelope,
    eleven_point,
    precision_recall,
)
from detector.evaluation.protocols.coco_engines import MAX_DETS, CocoEngine
from detector.evaluation.protocols.ilsvrc import judge_ilsvrc
from detector.evaluation.protocols.matching import NEITHER, RIGHT, WRONG, Judge, Judged, judge_all
from detector.evaluation.protocols.voc import judge_voc
from detector.evaluation.result import PROTOCOLS, ClassResult, Evaluation, Protocol
from detector.structures import Array, Detections

# (precision, recall) along the ranking -> average precision
Average = Callable[[Array, Array], float]

# Protocol -> (rule for right detections, average of the curve). COCO's protocol is separate: it has
# ten thresholds and four ranges of area.
RULES: dict[str, tuple[Judge, Average]] = {
    "voc07": (judge_voc, eleven_point),
    "voc12": (judge_voc, area_under_envelope),
    "ilsvrc": (judge_ilsvrc, area_under_envelope),
}


def evaluate(
    dataset: Dataset,
    results: Mapping[str, Detections],
    protocol: Protocol = "voc12",
    coco_engine: CocoEngine = "pycocotools",
    max_dets: int = MAX_DETS,
) -> Evaluation:
    """Judge `results` (image id -> detections) against the data set by a published protocol.

    coco_engine  the program that computes COCO's numbers; both give the same
    max_dets     COCO: detections of a class that count in an image
    """
    check_protocol(protocol)
    check_objects(dataset)
    if protocol == "coco":
        from detector.evaluation.protocols.coco import evaluate_coco

        return evaluate_coco(dataset, results, coco_engine, max_dets)
    judge, average = RULES[protocol]
    rows = tuple(
        class_result(name, judged, average)
        for name, judged in zip(dataset.classes, judge_all(dataset, results, judge), strict=True)
    )
    extras = {"images": len(dataset), "images_with_detections": len(results)}
    return Evaluation(protocol, mean_over_classes([row.ap for row in rows]), rows, extras)


def check_objects(dataset: Dataset) -> None:
    """Raise EvaluationError, with the cure, where no object counts, so that there is no mAP."""
    if (why := dataset.why_nothing_counts()) is not None:
        raise EvaluationError(f"{dataset.name}: {why}; so there is no mAP")


def class_result(name: str, judged: Judged, average: Average) -> ClassResult:
    """The result of one class from its verdicts."""
    counted = judged.verdicts != NEITHER
    verdicts = judged.verdicts[counted]
    positives = int(judged.positives.sum())
    precision, recall = precision_recall(verdicts == RIGHT, verdicts == WRONG, max(positives, 1))
    ap = average(precision, recall) if positives else float("nan")
    return ClassResult(
        name, ap, positives, len(verdicts), recall, precision, judged.scores[counted]
    )


def mean_over_classes(aps: list[float]) -> float:
    """The mean AP of the classes that have objects."""
    defined = [ap for ap in aps if not np.isnan(ap)]
    if not defined:
        raise EvaluationError("no class has an object to be found, so there is no mAP")
    return float(np.mean(defined))


def check_protocol(name: str, known: Iterable[str] = PROTOCOLS) -> Protocol:
    """The protocol named `name`. Raises SettingsError with the known names."""
    for protocol in PROTOCOLS:
        if protocol == name and protocol in known:
            return protocol
    raise SettingsError(f"protocol {name!r} is not possible here; choose one of {', '.join(known)}")
