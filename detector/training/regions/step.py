"""One training step of a region classifier: forward and backward of a batch, in parts that fit
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detector.models.normalisation import CENTRED, Normalisation
from detector.training.regions.box_loss import RegionOutput, box_loss
from detector.training.regions.loss import auxiliary_loss, distillation_loss, region_loss
from detector.training.regions.mining import background_losses, hardest


class Target(NamedTuple):
    """Targets of N regions.

    allowed_classes  (N, K+1) bool: the classes that each may be
    labels           (N,) K for background
    moves            (N, 4) deltas onto their objects, where boxes are learnt
    teacher_logits   (N, K+1) of a teacher, where they were computed in advance
    read             (N,) bool: False where the image could not be read (None: all were)
    place            (N,) positions in the batch of all processes (None: there is one process)
    """

    allowed_classes: Tensor
    labels: Tensor
    deltas: Tensor | None = None
    teacher_logits: Tensor | None = None
    read: Tensor | None = None
    place: Tensor | None = None

    def at(self, rows: Tensor | slice) -> Target:
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device) -> Target:
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Target:
        rest = (self.deltas, self.teacher_logits, self.read, self.place)
        return Target(
            change(self.allowed_classes), change(self.labels),
            *(None if part is None else change(part) for part in rest),
        )  # fmt: skip

    def where_read(self, losses: Tensor) -> Tensor:
        """The losses (N,) with zeros where the image could not be read."""
        return losses if self.read is None else torch.where(self.read, losses, 0.0)


class RegionSums(NamedTuple):
    """Sums over the regions learnt from: loss, correct predictions, correct objects, objects, box
    loss (part of the loss), readable regions.
    """

    loss: float
    right: float
    objects_right: float
    objects: float
    boxes: float
    read: float


@dataclass(frozen=True)
class RegionStep:
    """The constants of a training's steps.

    batch_size  regions that are learnt from, over all processes: gradients are of the mean
    normalise   crops (or maps) -> the network's input
    share       of the background that is learnt from, the hardest (1: all)
    drawn       regions before mining, over all processes
    sum_of_all  sums a tensor over all processes
    teacher     crops -> its logits, where Target.teacher_logits does not hold them
    weight      of the teacher in the loss (0: no teacher)
    box_weight  of the loss of boxes, where the network predicts deltas (box_loss.py)
    """

    network: Callable[[Tensor], Any]
    device: torch.device
    precision: torch.dtype
    batch_size: int
    normalise: Normalisation = CENTRED
    share: float = 1.0
    drawn: int = 0
    all_reduce: Callable[[Tensor], Tensor] = lambda value: value
    accumulate: int = 1
    label_smoothing: float = 0.0
    teacher: Callable[[Tensor], Tensor] | None = None
    weight: float = 0.0
    temperature: float = 1.0
    box_weight: float = 0.0

    def __call__(self, inputs: Tensor, target: Target, scale: float) -> Tensor:
        """Add the gradients of `scale` times the loss; returns sums (6,) in the order of
        RegionSums.
        """
        inputs, target = inputs.to(self.device, non_blocking=True), target.to(self.device)
        background = target.allowed_classes.shape[1] - 1
        if self.share < 1:
            with self._autocast():
                normalised, is_background = self.normalise(inputs), target.labels == background
                losses = background_losses(
                    self.network, normalised, target.allowed_classes, is_background
                )
            place = torch.arange(len(inputs)) if target.place is None else target.place
            place = place.to(self.device)
            # The hardest of the whole batch: every process scatters its losses and sums them up.
            both = torch.zeros(2, max(self.drawn, len(inputs)), device=self.device)
            both[:, place] = torch.stack([losses, is_background.float()])
            losses, of_background = self.all_reduce(both)
            selected = ~is_background | hardest(losses, of_background > 0, self.share)[place]
            inputs, target = inputs[selected], target.at(selected)
        sums = torch.zeros(len(RegionSums._fields), device=self.device)
        size = max(1, -(-len(inputs) // self.accumulate))  # as torch.chunk divides
        for first in range(0, max(1, len(inputs)), size):
            x, part = inputs[first : first + size], target.at(slice(first, first + size))
            with self._autocast():
                output = self.network(self.normalise(x))
            boxes = self._box_losses(output, part)
            if isinstance(output, RegionOutput):
                output = output.logits
            logits = output[0] if isinstance(output, tuple) else output
            losses = part.where_read(self._losses(output, logits, x, part) + boxes)
            (losses.sum() * (scale / self.batch_size)).backward()
            hits = part.allowed_classes[torch.arange(len(x)), logits.argmax(1)]
            read = torch.ones_like(hits) if part.read is None else part.read
            hits, objects = hits & read, part.labels != background
            columns = [losses, hits, hits & objects, objects, boxes, read]
            sums += torch.stack([column.sum() for column in columns]).detach()
        return sums

    def _box_losses(self, output: Any, target: Target) -> Tensor:
        """The weighted box losses (N,); zeros where boxes are not learnt."""
        if not isinstance(output, RegionOutput) or target.deltas is None:
            return torch.zeros(len(target.labels), device=self.device)
        losses = self.box_weight * box_loss(output.deltas, target.deltas, target.labels)
        return target.where_read(losses)

    def _losses(self, output: Any, logits: Tensor, inputs: Tensor, target: Target) -> Tensor:
        def of_one(head: Tensor) -> Tensor:
            return region_loss(head, target.allowed_classes, label_smoothing=self.label_smoothing)

        losses = auxiliary_loss(output, of_one)
        teacher_logits = target.teacher_logits
        if teacher_logits is None and self.teacher is not None:
            teacher_logits = self.teacher(inputs)
        if teacher_logits is None:
            return losses
        imitation = distillation_loss(logits, teacher_logits, self.temperature)
        return (1 - self.weight) * losses + self.weight * target.where_read(imitation)

    def _autocast(self) -> torch.autocast:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=half)
