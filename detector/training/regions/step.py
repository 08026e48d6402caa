"""One training step of a region classifier: forward and backward of a batch, in parts that fit
memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detector.models.input_normalisation import CENTRED, Normalisation
from detector.training.regions.box_loss import RegionOutput, box_loss
from detector.training.regions.loss import (
    auxiliary_loss,
    background_losses,
    distillation_loss,
    region_loss,
    select_hard_negatives,
)


class Target(NamedTuple):
    """Targets of N regions.

    allowed_classes  (N, K+1) bool: the classes that each may be
    labels           (N,) K for background
    read             (N,) bool: False where the image could not be read; such a region has no loss
    deltas           (N, 4) from it to its object, where boxes are learnt
    teacher_logits   (N, K+1) of a teacher, where they were computed in advance
    place            (N,) positions in the batch of all processes (None: these are all)
    """

    allowed_classes: Tensor
    labels: Tensor
    read: Tensor
    deltas: Tensor | None = None
    teacher_logits: Tensor | None = None
    place: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Target:
        """The targets with `change` made to every tensor."""
        parts: Any = (part if part is None else change(part) for part in self)
        return Target(*parts)


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
    hard_share  of the background that is learnt from, its hard negatives (1: all)
    drawn       regions before hard negatives are selected, over all processes
    all_reduce  sums a tensor over all processes
    teacher     crops -> its logits, where Target.teacher_logits does not hold them
    weight      of the teacher in the loss (0: no teacher)
    box_weight  of the loss of boxes, where the network predicts deltas (box_loss.py)
    """

    network: Callable[[Tensor], Any]
    device: torch.device
    precision: torch.dtype
    batch_size: int
    normalise: Normalisation = CENTRED
    hard_share: float = 1.0
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
        inputs = inputs.to(self.device, non_blocking=True)
        target = target.each(lambda part: part.to(self.device))
        background = target.allowed_classes.shape[1] - 1
        if self.hard_share < 1:  # a pass without gradients, and the step on what it selects
            selected = self._objects_and_hard_negatives(inputs, target, target.labels == background)
            inputs, target = inputs[selected], target.each(lambda part: part[selected])
        sums = torch.zeros(len(RegionSums._fields), device=self.device)
        size = max(1, -(-len(inputs) // self.accumulate))  # as torch.chunk divides
        for first in range(0, max(1, len(inputs)), size):
            rows = slice(first, first + size)
            x, part = inputs[rows], target.each(lambda values: values[rows])  # noqa: B023 at once
            losses, boxes, logits = self.losses(x, part)
            # Divided by the whole batch, so that parts and processes add up to its mean.
            (losses.sum() * (scale / self.batch_size)).backward()
            hits = part.allowed_classes[torch.arange(len(x)), logits.argmax(1)] & part.read
            objects = part.labels != background
            columns = [losses, hits, hits & objects, objects, boxes, part.read]
            sums += torch.stack([column.sum() for column in columns]).detach()
        return sums

    def losses(self, inputs: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (N,) of each region, the part (N,) of it that is of boxes, and logits (N, K+1)."""
        with self._autocast():
            output = self.network(self.normalise(inputs))
        boxes = torch.zeros(len(inputs), device=self.device)
        if isinstance(output, RegionOutput):
            if target.deltas is not None:
                boxes = self.box_weight * box_loss(output.deltas, target.deltas, target.labels)
            output = output.logits
        logits = output[0] if isinstance(output, tuple) else output
        losses, boxes = (
            torch.where(target.read, values, 0.0)
            for values in (self._class_losses(output, logits, inputs, target) + boxes, boxes)
        )
        return losses, boxes, logits

    def mean_loss(self, sums: Sequence[float]) -> float:
        """The mean loss of a region, from the sums of all processes; nan where none was read."""
        total = RegionSums(*sums)
        return total.loss / self.batch_size if total.read else math.nan

    def _objects_and_hard_negatives(
        self, inputs: Tensor, target: Target, background: Tensor
    ) -> Tensor:
        """Select (N,) bool the objects, and the hard negatives of the whole batch."""
        with self._autocast():
            losses = background_losses(
                self.network, self.normalise(inputs), target.allowed_classes, background
            )
        place = target.place
        if place is None:
            place = torch.arange(len(inputs), device=self.device)
        # Every process fills in its own places, and the sum has the losses of all.
        both = torch.zeros(2, max(self.drawn, len(inputs)), device=self.device)
        both[:, place] = torch.stack([losses, background.float()])
        losses, of_background = self.all_reduce(both)
        hard = select_hard_negatives(losses, of_background > 0, self.hard_share)
        return ~background | hard[place]

    def _class_losses(self, output: Any, logits: Tensor, inputs: Tensor, target: Target) -> Tensor:
        def of_one(head: Tensor) -> Tensor:
            return region_loss(head, target.allowed_classes, label_smoothing=self.label_smoothing)

        losses = auxiliary_loss(output, of_one)
        teacher_logits = target.teacher_logits
        if teacher_logits is None and self.teacher is not None:
            teacher_logits = self.teacher(inputs)
        if teacher_logits is None:
            return losses
        imitation = distillation_loss(logits, teacher_logits, self.temperature)
        return (1 - self.weight) * losses + self.weight * imitation

    def _autocast(self) -> torch.autocast:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=half)
