"""One step of a classifier: forward and backward of a batch, in parts that fit memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from detector.training import classifier_loss
from detector.training.optimisers import clip_gradients
from detector.training.patch_batches import UNREADABLE, PatchBatch

if TYPE_CHECKING:
    from detector.models.normalisation import Normalisation
    from detector.training.classifier_settings import NetworkSettings, OptimiserSettings
    from detector.training.distributed import Group
    from detector.training.loss_scale import LossScale
    from detector.training.state import TrainingState


class Moved(NamedTuple):
    """What one step found, over all processes.

    loss      mean over the images that could be read
    right     share of them
    images    how many
    norm      of the whole gradient
    taken     whether the weights moved
    harmless  whether the step was given up only because float16's loss scale was too large
    """

    loss: float
    right: float
    images: int
    norm: float
    taken: bool
    harmless: bool


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
    run: TrainingState
    scale: LossScale
    group: Group

    def feed(self, crops: Tensor) -> Tensor:
        """Centred crops (N, 3, S, S) to what the network takes, on its device."""
        crops = crops.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self.normalise(crops * self.seen.pixel_scale)

    def __call__(self, step: int, batch: PatchBatch) -> Moved:
        """Learn from one process's part of the batch; a loss or gradient that is not finite leaves
        the weights.
        """
        sums = self._gradients(batch)
        run, scale = self.run, self.scale
        self.group.sum_gradients(run.trainable)
        scale.unscale(run.trainable)
        total, hits, count = self.group.sum(sums).tolist()
        loss, norm = total / max(count, 1), run.gradient_norm()
        taken = bool(count and math.isfinite(loss) and math.isfinite(norm))
        harmless = False
        if taken:
            clip_gradients(run.trainable, norm, self.how.clip)
            run.update(step)
            scale.succeeded()
        elif count and math.isfinite(loss) and scale.overflowed():
            run.optimizer.zero_grad(set_to_none=True)  # float16 only: try again, scaled less
            harmless = True
        return Moved(loss, hits / max(count, 1), int(count), norm, taken, harmless)

    def _gradients(self, batch: PatchBatch) -> Tensor:
        """Adds the gradients; (3,) sums over the images: loss, right ones, readable ones."""
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
            (losses.sum() * (self.scale.factor / how.batch)).backward()
            logits = output[0] if isinstance(output, tuple) else output
            right, readable = logits.argmax(1) == labels, labels != UNREADABLE
            sums += torch.stack([losses.sum(), right.sum(), readable.sum()]).detach()
        return sums
