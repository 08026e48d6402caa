"""One step of a region classifier: forward and backward of a batch, in parts that fit memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.models.normalisation import CENTRED, Normalisation
from detector.training.loss import auxiliary_loss, region_loss
from detector.training.mining import hardest


class Sums(NamedTuple):
    """Over the regions learnt from: loss, right ones, right objects, objects."""

    loss: float
    right: float
    objects_right: float
    objects: float


@dataclass(frozen=True)
class Step:
    """What stays the same from step to step.

    batch_size  regions that are learnt from, over all processes: gradients are of the mean
    normalise   crops (or maps) -> what the network was trained on
    share       of the background that is learnt from, the hardest (1: all)
    teacher     crops -> its logits, mixed into the loss by `weight` (None: no teacher)
    """

    network: nn.Module
    device: torch.device
    precision: torch.dtype
    batch_size: int
    normalise: Normalisation = CENTRED
    share: float = 1.0
    accumulate: int = 1
    label_smoothing: float = 0.0
    teacher: Callable[[Tensor], Tensor] | None = None
    weight: float = 0.0
    temperature: float = 1.0

    def __call__(self, inputs: Tensor, possible: Tensor, positive: Tensor, scale: float) -> Tensor:
        """Adds the gradients of `scale` times the loss; returns (4,) sums, in the order of Sums."""
        inputs, possible = inputs.to(self.device, non_blocking=True), possible.to(self.device)
        positive = positive.to(self.device)
        if self.share < 1:
            with self._autocast():
                seen = self.normalise(inputs)
                learnt = hardest(self.network, seen, possible, ~positive, self.share)
            inputs, possible, positive = inputs[learnt], possible[learnt], positive[learnt]
        sums = torch.zeros(4, device=self.device)
        for x, allowed, objects in zip(
            inputs.chunk(self.accumulate), possible.chunk(self.accumulate),
            positive.chunk(self.accumulate), strict=True,
        ):  # fmt: skip
            with self._autocast():
                output = self.network(self.normalise(x))
            logits = output[0] if isinstance(output, tuple) else output
            losses = self._losses(output, logits, x, allowed)
            (losses.sum() * (scale / self.batch_size)).backward()
            hits = allowed[torch.arange(len(allowed)), logits.argmax(1)]
            sums += torch.stack(
                [losses.sum(), hits.sum(), (hits & objects).sum(), objects.sum()]
            ).detach()
        return sums

    def _losses(self, output: Any, logits: Tensor, inputs: Tensor, possible: Tensor) -> Tensor:
        def of_one(head: Tensor) -> Tensor:
            return region_loss(head, possible, label_smoothing=self.label_smoothing)

        losses = auxiliary_loss(output, of_one)
        if self.teacher is None:
            return losses
        from detector.training.loss import distillation_loss

        taught = distillation_loss(logits, self.teacher(inputs), self.temperature)
        return (1 - self.weight) * losses + self.weight * taught

    def _autocast(self) -> torch.autocast:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=half)
