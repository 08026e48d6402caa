"""What the regions of one annotated image teach the heads of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector import boxes as box_ops
from detector.heads.bbox_regression import encode_deltas
from detector.matching import BACKGROUND, match_to_objects
from detector.structures import Annotations, Array


@dataclass(frozen=True, eq=False)
class DescribedImage:
    """Regions with their features, and the truth about them.

    boxes          (N, 4): first the objects that are neither `difficult` nor crowds, then proposals
    features       (N, F) float32
    truth          the objects
    background_of  labels that a region away from every box is known not to have; None stands for
                   all
    shown          (G,) bool: which of these G objects the first rows are; None stands for all
    """

    boxes: Array
    features: Array
    truth: Annotations
    background_of: frozenset[int] | None = None
    shown: Array | None = None

    @staticmethod
    def regions(truth: Annotations, proposals: Array) -> Array:
        """The boxes (N, 4) to be described."""
        real = truth.boxes[truth.real]
        return np.concatenate([real, proposals]).astype(np.float32)

    @property
    def real(self) -> Annotations:
        """The G objects."""
        return self.truth[self.truth.real]

    @property
    def objects(self) -> Annotations:
        """Those of the first rows."""
        return self.real if self.shown is None else self.real[self.shown]

    def is_object(self, label: int, iou: float) -> Array:
        """(N,) bool: regions that overlap an object of a class by at least `iou`."""
        found: Array = self._owners(label, iou) >= 0
        return found

    def is_background(self, label: int, below: float) -> Array:
        """(N,) bool: regions that overlap every object of a class by less than `below`, and are not
        set aside; none where the image proves no absence of the class.
        """
        if self.background_of is not None and label not in self.background_of:
            return np.zeros(len(self.boxes), bool)
        found: Array = self._owners(label, below) == BACKGROUND
        return found

    def _owners(self, label: int, iou: float) -> Array:
        return match_to_objects(self.boxes, self.truth[self.truth.labels == label], iou)[0]

    def positives(self, label: int) -> Array:
        """Features of the objects of a class: ground truth only."""
        return self.features[: len(self.objects)][self.objects.labels == label]

    def negatives(self, label: int, below: float) -> Array:
        """Features of the regions that are background to a class."""
        return self.features[self.is_background(label, below)]

    def to_move(self, least_iou: float) -> tuple[Array, Array, Array]:
        """Proposals that overlap their best object by more than `least_iou`: rows (M,), the
        objects' labels (M,), and the targets (M, 4) that move them onto it.
        """
        real = self.real
        if not len(real):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))
        overlap = box_ops.iou(self.boxes, real.boxes)
        rows = np.flatnonzero(overlap.max(1) > least_iou)
        rows = rows[rows >= len(self.objects)]
        which = overlap[rows].argmax(1)
        return rows, real.labels[which], encode_deltas(self.boxes[rows], real.boxes[which])
