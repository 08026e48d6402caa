"""Oracle mAPs (voc12): one perfect stage, the others unchanged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detector.datasets.dataset import Dataset
from detector.evaluation.diagnosis.matching import BACKGROUND_IOU, Matching, mean_ap
from detector.evaluation.diagnosis.misses import NOT_PROPOSED
from detector.evaluation.oracle import oracle_detections
from detector.evaluation.protocols.matching import NEITHER, RIGHT
from detector.evaluation.protocols.rules import evaluate
from detector.structures import Array, Detections, Proposals

_ANY_SIZE = (1, 1)


def oracles_of(
    dataset: Dataset, results: Mapping[str, Detections], matching: Matching, reasons: Array
) -> dict[str, float]:
    """The oracle mAPs by name, in the order of the stages; perfect proposals only if regions gave
    `reasons`.

    perfect proposals  objects that no region covers do not count
    perfect classes    each detection on an object (IoU 0.5) has its class, the others go
    perfect boxes      each detection near an object of its class (IoU 0.1) has its box
    """
    oracles = {"as measured": matching.mean_ap()}
    unproposed = reasons == NOT_PROPOSED
    if unproposed.any():
        judged = matching.verdicts != NEITHER
        oracles["perfect proposals"] = mean_ap(
            matching.labels[judged],
            matching.verdicts[judged] == RIGHT,
            matching.positives(~unproposed),
        )
    oracles["perfect classes"] = _with_perfect_classes(dataset, results)
    oracles["perfect boxes"] = _with_perfect_boxes(matching)
    return oracles


def _with_perfect_classes(dataset: Dataset, results: Mapping[str, Detections]) -> float:
    nothing = Detections.empty()
    proposals = {}
    for sample in dataset.samples:
        boxes = results.get(sample.image_id, nothing).boxes
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]  # those of a file may have no area
        proposals[sample.image_id] = Proposals(boxes, sample.size or _ANY_SIZE)
    return evaluate(dataset, oracle_detections(dataset, proposals), "voc12").mean_ap


def _with_perfect_boxes(matching: Matching) -> float:
    """The mAP with perfect boxes: the best detection near each object finds it, further ones stay
    duplicates.
    """
    near = (matching.own_iou >= BACKGROUND_IOU) & (matching.verdicts != NEITHER)
    rows = np.flatnonzero(near)
    _, first = np.unique(matching.own[rows], return_index=True)
    right = np.zeros(len(near), bool)
    right[rows[first]] = True
    judged = matching.verdicts != NEITHER
    return mean_ap(matching.labels[judged], right[judged], matching.positives())
