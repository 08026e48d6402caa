"""Oracle mAPs (voc12): one perfect stage, the others unchanged."""

from collections.abc import Mapping

import numpy as np

from detector.boxes import iou
from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError
from detector.evaluation.diagnosis.errors import BACKGROUND_IOU, FOREGROUND_IOU
from detector.evaluation.diagnosis.misses import NOT_PROPOSED
from detector.evaluation.protocols.matching import RIGHT, Matching
from detector.evaluation.protocols.rules import match_voc, mean_ap
from detector.structures import Annotations, Array, Detections, Proposals


def oracles_of(
    dataset: Dataset, results: Mapping[str, Detections], matching: Matching, reasons: Array
) -> dict[str, float]:
    """The oracle mAPs by name, in the order of the stages; perfect proposals only if regions gave
    `reasons`.

    perfect proposals  objects that no region covers do not count
    perfect classes    each detection on an object (IoU 0.5) has its class, the others go
    perfect boxes      each detection near an object of its class (IoU 0.1) has its box
    """
    oracles = {"as measured": map_of(matching)}
    unproposed = reasons == NOT_PROPOSED
    if unproposed.any():
        oracles["perfect proposals"] = map_of(matching, objects=~unproposed)
    oracles["perfect classes"] = map_of(_with_perfect_classes(dataset, results))
    # The best detection near each object finds it, further ones stay duplicates.
    rows = np.flatnonzero((matching.own_iou >= BACKGROUND_IOU) & matching.judged)
    _, first = np.unique(matching.own[rows], return_index=True)
    right = np.zeros(len(matching.own), bool)
    right[rows[first]] = True
    oracles["perfect boxes"] = map_of(matching, right)
    return oracles


def map_of(matching: Matching, right: Array | None = None, objects: Array | None = None) -> float:
    """VOC2012's mAP; of other right detections (D,), or of some of the objects (G,), if given."""
    right = matching.verdicts == RIGHT if right is None else right
    judged = matching.judged
    return mean_ap(matching.labels[judged], right[judged], matching.positives(objects))


def oracle_detections(
    dataset: Dataset, proposals: Mapping[str, Proposals]
) -> dict[str, Detections]:
    """Detections of a classifier that knows every object, and a suppression that never errs.

    A proposal gets the label of the object that it overlaps most, and their IoU for a score, if
    that is at least a half; of the proposals for one object, the best stays. Their mAP is the
    ceiling that the proposals set.
    """
    missing = [s.image_id for s in dataset.samples if s.image_id not in proposals]
    if missing:
        raise EvaluationError(
            f"{dataset.name}: no proposals for {len(missing)} of {len(dataset)} images, "
            f"for example {missing[0]!r}; make them with inception-rcnn propose run"
        )
    return {s.image_id: _oracle(s.annotations, proposals[s.image_id]) for s in dataset.samples}


def _oracle(truth: Annotations, proposals: Proposals) -> Detections:
    overlaps = iou(proposals.boxes, truth.boxes)  # (N, G)
    rows, scores, labels = [], [], []
    # Class by class, since one region may stand for a rider and for the horse.
    for label in np.unique(truth.labels) if len(proposals) else ():
        mine = overlaps[:, truth.labels == label]
        nearest = mine.argmax(1)
        for target in range(mine.shape[1]):
            shared = np.where(nearest == target, mine[:, target], 0.0)
            best = int(shared.argmax())
            if shared[best] >= FOREGROUND_IOU:
                rows.append(best)
                scores.append(shared[best])
                labels.append(label)
    order = np.argsort(-np.array(scores), kind="stable")
    return Detections(proposals.boxes[np.array(rows, int)], np.array(scores), np.array(labels))[
        order
    ]


def _with_perfect_classes(dataset: Dataset, results: Mapping[str, Detections]) -> Matching:
    nothing, proposals = Detections.empty(), {}
    for sample in dataset.samples:
        boxes = results.get(sample.image_id, nothing).boxes
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]  # those of a file may have no area
        # Labels and scores are dropped; the size of the image is not looked at.
        proposals[sample.image_id] = Proposals(boxes, sample.size or (1, 1))
    return match_voc(dataset, oracle_detections(dataset, proposals))
