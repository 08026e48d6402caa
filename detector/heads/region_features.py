"""Regions of one annotated image as positives and negatives for the heads of each class."""

from dataclasses import dataclass

import numpy as np

from detector import boxes as box_ops
from detector.heads.bbox_regression import encode_deltas
from detector.matching import BACKGROUND, match_to_objects
from detector.structures import Annotations, Array


@dataclass(frozen=True, eq=False)
class DescribedImage:
    """Regions of one image with their features and annotations.

    boxes          (N, 4): first the objects that are neither `difficult` nor crowds, then proposals
    features       (N, F) float32
    truth          annotated objects
    background_of  labels for which regions away from every box are negatives; None stands for all
    shown          (G,) bool mask of the G objects that are the first rows; None stands for all
    """

    boxes: Array
    features: Array
    truth: Annotations
    background_of: frozenset[int] | None = None
    shown: Array | None = None

    @staticmethod
    def regions(truth: Annotations, proposals: Array) -> Array:
        """Boxes (N, 4) of an image whose features are needed: objects, then proposals."""
        real = truth.boxes[truth.real]
        return np.concatenate([real, proposals]).astype(np.float32)

    @property
    def real(self) -> Annotations:
        """The G objects that are neither `difficult` nor crowds."""
        return self.truth[self.truth.real]

    @property
    def objects(self) -> Annotations:
        """The objects of the first rows."""
        return self.real if self.shown is None else self.real[self.shown]

    def is_object(self, label: int, iou: float) -> Array:
        """Mask (N,) of regions whose IoU with an object of the class is at least `iou`."""
        return self._owners(label, iou) >= 0

    def is_background(self, label: int, below: float) -> Array:
        """Mask (N,) of regions whose IoU with every object of the class is less than `below`.

        Ignored regions are left out; all False where the class is not annotated exhaustively.
        """
        if self.background_of is not None and label not in self.background_of:
            return np.zeros(len(self.boxes), bool)
        return self._owners(label, below) == BACKGROUND

    def _owners(self, label: int, iou: float) -> Array:
        # Difficult ones and crowds too, so that regions on them are ignored, not background.
        return match_to_objects(self.boxes, self.truth[self.truth.labels == label], iou)[0]

    def positives(self, label: int) -> Array:
        """Features of the objects of a class, ground truth only."""
        return self.features[: len(self.objects)][self.objects.labels == label]

    def negatives(self, label: int, below: float) -> Array:
        """Features of the regions that are background for a class."""
        return self.features[self.is_background(label, below)]

    def to_move(self, min_iou: float) -> tuple[Array, Array, Array]:
        """Proposals whose IoU with their best object is above `min_iou`: their rows (M,), the
        objects' labels (M,), and the box deltas (M, 4).
        """
        real = self.real
        if not len(real):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))
        overlap = box_ops.iou(self.boxes, real.boxes)
        rows = np.flatnonzero(overlap.max(1) > min_iou)
        rows = rows[rows >= len(self.objects)]
        which = overlap[rows].argmax(1)
        return rows, real.labels[which], encode_deltas(self.boxes[rows], real.boxes[which])
