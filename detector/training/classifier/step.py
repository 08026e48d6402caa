"""One step of a classifier: forward and backward of a batch, in parts that fit memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from detector.training.classifier import loss as classifier_loss
from detector.training.classifier.patch_batches import UNREADABLE, PatchBatch

if TYPE_CHECKING:
    from detector.models.normalisation import Normalisation
    from detector.training.classifier.settings import NetworkSettings, OptimiserSettings


class Sums(NamedTuple):
    """Over the images that could be read: loss, right ones, how many."""

    loss: float
    right: float
    images: float


@dataclass(frozen=True)
class Step:
    """What stays the same from step to step.

    forward  the network, compiled perhaps
    """

    forward: Any
    normalise: Normalisation
    seen: NetworkSettings
    device: torch.device
    precision: torch.dtype
    how: OptimiserSettings

    def feed(self, crops: Tensor) -> Tensor:
        """Centred crops (N, 3, S, S) to what the network takes, on its device."""
        crops = crops.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self.normalise(crops * self.seen.pixel_scale)

    def __call__(self, batch: PatchBatch, scale: float) -> Tensor:
        """Adds the gradients of `scale` times the loss of one process's part of the batch; returns
        (3,) sums, in the order of Sums.
        """
        how, sums = self.how, torch.zeros(3, device=self.device)
        for crops, labels in zip(
            batch.crops.chunk(how.accumulate), batch.labels.chunk(how.accumulate), strict=True
        ):
            labels = labels.to(self.device)
            half = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=half):
                output = self.forward(self.feed(crops))
            losses = classifier_loss.classifier_loss(
                output, labels, label_smoothing=how.label_smoothing,
                auxiliary_weight=how.auxiliary_weight,
            )  # fmt: skip
            (losses.sum() * (scale / how.batch)).backward()
            logits = output[0] if isinstance(output, tuple) else output
            right, readable = logits.argmax(1) == labels, labels != UNREADABLE
            sums += torch.stack([losses.sum(), right.sum(), readable.sum()]).detach()
        return sums
