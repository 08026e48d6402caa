"""Boxes that a machine drew where nobody did: which of its boxes are taken, and what they count.

Proposal distillation: a trained detector, or selective search's learned ranking, labels images for
the network that is to propose in one pass. A box is what a person drew, or else what the machine is
sure of, once: true boxes win.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from detector import boxes as box_ops
from detector.settings import Settings
from detector.structures import Array, Proposals

SAME_OBJECT = 0.5
"""Boxes whose IoU reaches it are of one object."""
SELECTIVE_SEARCH = "selective-search"


class PseudoSettings(Settings):
    """Who labels images that are not annotated in full, and how far that is believed."""

    source: str = Field(alias="from", min_length=1)
    """The folder of a trained detector's bundle, or "selective-search"."""
    min_score: float = Field(0.6, ge=0, le=1)
    """Of a detection its score; of a proposal the calibrated chance that it covers an object."""
    per_image: int = Field(10, ge=1, le=1000)
    """The best so many boxes of an image, at most."""
    weight: float = Field(0.5, gt=0, le=1)
    """Of such a box in both terms of the loss, against 1 of a true one."""
    background: float = Field(0.0, ge=0, le=1)
    """Weight of the predictions that are nobody's in an image with such boxes. With 0 the image
    counts as not annotated in full, and blames no prediction: of the objects that people box, a
    detector finds about half at a useful threshold, so that what it did not find is no evidence of
    background. Above 0 is for runs in which no image is annotated in full, for something must
    teach silence.
    """

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = handler(self)
        return {"from": found.pop("source", self.source), **found}


@dataclass(frozen=True, eq=False)
class PseudoBoxes:
    """Of one image: (P, 4) xyxy pixels, the weight of each, and that of unmatched predictions."""

    boxes: Array
    weight: float
    background: float


class Choice(NamedTuple):
    """The boxes taken, (P, 4) pixels, best first; and how many were dropped for which reason.

    weak      below the least score
    repeated  of the same object as a better one
    true      of the same object as a true box
    beyond    more than an image may have
    """

    boxes: Array
    weak: int
    repeated: int
    true: int
    beyond: int


def choose(found: Proposals, true: Array, settings: PseudoSettings) -> Choice:
    """What is taken of an image's scored boxes (any number, best first), beside (M, 4) true ones.

    Repetitions go first: of two boxes of one annotated object the true box drops both.
    """
    assert found.scores is not None
    sure = found[found.scores >= np.float32(settings.min_score)]
    once = box_ops.nms(sure.boxes, sure.scores, _just_below(SAME_OBJECT))  # type: ignore[arg-type]
    boxes = sure.boxes[once].astype(np.float64)
    free = boxes
    if len(true) and len(boxes):
        free = boxes[box_ops.iou(boxes, true).max(1) < SAME_OBJECT]
    kept = free[: settings.per_image]
    return Choice(
        kept, len(found) - len(sure), len(sure) - len(boxes), len(boxes) - len(free),
        len(free) - len(kept),
    )  # fmt: skip


def digest(boxes: Mapping[str, PseudoBoxes]) -> str:
    """A short hash of the boxes by image id: what kept maps and checkpoints are bound to."""
    whole = hashlib.sha256()
    for name, one in sorted(boxes.items()):
        whole.update(f"{name}\0{one.boxes.shape}".encode())
        whole.update(np.ascontiguousarray(one.boxes, np.float64).tobytes())
    return whole.hexdigest()[:16]


def _just_below(value: float) -> float:
    """So that what is above it includes `value` itself."""
    return float(np.nextafter(value, 0))
