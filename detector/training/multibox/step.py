"""One training step of a MultiBox: forward, matching and backward of a batch, in parts that fit
memory.
"""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.proposals.multibox.loss import LossSettings, multibox_loss
from detector.proposals.multibox.priors import Priors
from detector.training.multibox.examples import ViewBatch


class MultiBoxSums(NamedTuple):
    """Sums over the views learnt from: both losses, matched objects, views."""

    location: float
    confidence: float
    matched: float
    views: float


@dataclass
class MultiBoxStep:
    """The constants of a training's steps.

    batch    views of a step, over all processes: gradients are of the mean over them
    seconds  spent on matching; the caller resets it
    """

    network: nn.Module
    priors: Priors
    loss: LossSettings
    device: torch.device
    precision: torch.dtype
    batch: int
    accumulate: int = 1
    seconds: float = field(default=0.0)

    def __call__(self, batch: ViewBatch, scale: float) -> Tensor:
        """Add the gradients of `scale` times the loss; returns sums (4,) in the order of
        MultiBoxSums.
        """
        sums = torch.zeros(4, device=self.device)
        for rows in torch.arange(len(batch.inputs)).chunk(self.accumulate):
            inputs = batch.inputs[rows].to(self.device, memory_format=torch.channels_last)
            half = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=half):
                location, logits = self.network(inputs)
            before = time.perf_counter()
            losses = multibox_loss(
                location.float(), logits.float(), [batch.boxes[row] for row in rows],
                batch.complete[rows], self.priors, self.loss,
            )  # fmt: skip
            self.seconds += time.perf_counter() - before
            learnt = batch.learnt[rows].to(self.device).float()
            total = ((losses.location + losses.confidence) * learnt).sum()
            # Divided by the whole batch, so that parts and processes add up to its mean.
            (total * (scale / self.batch)).backward()
            parts = torch.stack([losses.location, losses.confidence, losses.matched]).detach()
            sums += torch.cat([(parts * learnt).sum(1), learnt.sum()[None]])
        return sums
