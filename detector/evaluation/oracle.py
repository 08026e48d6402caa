"""How much of the mAP each stage allows: what a perfect classifier would make of the proposals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detector.boxes import iou
from detector.datasets.dataset import Dataset
from detector.errors import EvaluationError
from detector.structures import Annotations, Detections, Proposals

MIN_OVERLAP = 0.5


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
    """Class by class, since one region may stand for a rider and for the horse."""
    boxes, scores, labels = [], [], []
    for label in np.unique(truth.labels):
        overlaps = iou(proposals.boxes, truth.boxes[truth.labels == label])  # (N, G)
        if overlaps.size == 0:
            continue
        nearest = overlaps.argmax(1)
        for target in range(overlaps.shape[1]):
            mine = np.where(nearest == target, overlaps[:, target], 0.0)
            best = int(mine.argmax())
            if mine[best] >= MIN_OVERLAP:
                boxes.append(proposals.boxes[best])
                scores.append(mine[best])
                labels.append(label)
    if not boxes:
        return Detections.empty()
    order = np.argsort(-np.array(scores), kind="stable")
    return Detections(np.array(boxes), np.array(scores), np.array(labels))[order]
