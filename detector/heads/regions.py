"""What the regions of one annotated image teach the heads of each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from detector import boxes as box_ops
from detector.heads.bbox_regression import targets
from detector.structures import Annotations, Array


@dataclass(frozen=True, eq=False)
class DescribedImage:
    """Regions with their features, and the truth about them.

    boxes      (N, 4): first the G objects that are neither `difficult` nor crowds, then proposals
    features   (N, F) float32
    truth      the objects
    annotated  labels that are annotated exhaustively in this image; None stands for all
    """

    boxes: Array
    features: Array
    truth: Annotations
    annotated: frozenset[int] | None = None

    @staticmethod
    def regions(truth: Annotations, proposals: Array) -> Array:
        """The boxes (N, 4) to be described."""
        real = truth.boxes[~(truth.difficult | truth.crowd)]
        return np.concatenate([real, proposals]).astype(np.float32)

    @property
    def real(self) -> Annotations:
        """The G objects of the first rows."""
        return self.truth[~(self.truth.difficult | self.truth.crowd)]

    @cached_property
    def _overlap(self) -> Array:
        return box_ops.iou(self.boxes, self.truth.boxes)

    def best_overlap(self, label: int) -> Array:
        """(N,) IoU with the best object of a class, `difficult` ones and crowds included."""
        own = self._overlap[:, self.truth.labels == label]
        best: Array = own.max(1) if own.shape[1] else np.zeros(len(self.boxes))
        return best

    def positives(self, label: int) -> Array:
        """Features of the objects of a class: ground truth only."""
        return self.features[: len(self.real)][self.real.labels == label]

    def negatives(self, label: int, below: float) -> Array:
        """Features of the regions that overlap every object of a class by less than `below`; none
        where the class is not annotated exhaustively.
        """
        if self.annotated is not None and label not in self.annotated:
            return self.features[:0]
        return self.features[self.best_overlap(label) < below]

    def to_move(self, least_iou: float) -> tuple[Array, Array, Array]:
        """Proposals that overlap their best object by more than `least_iou`: rows (M,), the
        objects' labels (M,), and the targets (M, 4) that move them onto it.
        """
        real = self.real
        if not len(real):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))
        overlap = box_ops.iou(self.boxes, real.boxes)
        rows = np.flatnonzero(overlap.max(1) > least_iou)
        rows = rows[rows >= len(real)]
        which = overlap[rows].argmax(1)
        return rows, real.labels[which], targets(self.boxes[rows], real.boxes[which])
