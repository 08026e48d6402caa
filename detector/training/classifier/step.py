"""One training step of a classifier: its loss, and the gradients of a batch in parts.

The auxiliary heads' "loss gets added to the total loss of the network with a discount weight"
(arXiv 1409.4842, section 5; arXiv 1512.00567, sections 4 and 7): 0.3 for GoogLeNet's two.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.models.input_normalisation import Normalisation
from detector.training.classifier.patch_batches import UNREADABLE, PatchBatch
from detector.training.classifier.settings import NetworkSettings, OptimiserSettings
from detector.training.regions.loss import auxiliary_loss


def classifier_loss(
    output: Tensor | tuple[Tensor, ...],
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    auxiliary_weight: float = 0.3,
) -> Tensor:
    """Cross entropy (N,) with labels smoothed to 1 - e of the class plus e / K of each, and the
    auxiliary heads added; zero where the label is UNREADABLE.

    output  logits (N, K), or the last layer's and then each auxiliary head's
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        return F.cross_entropy(
            logits.float(), labels, ignore_index=UNREADABLE, reduction="none",
            label_smoothing=label_smoothing,
        )  # fmt: skip

    return auxiliary_loss(output, cross_entropy, weight=auxiliary_weight)


class ClassifierSums(NamedTuple):
    """Sums over the readable images: loss, correct predictions, images."""

    loss: float
    right: float
    images: float


@dataclass(frozen=True)
class ClassifierStep:
    """The constants of a training's steps.

    forward  the network, perhaps compiled
    """

    forward: Any
    normalise: Normalisation
    network_settings: NetworkSettings
    device: torch.device
    precision: torch.dtype
    optimiser: OptimiserSettings

    def feed(self, crops: Tensor) -> Tensor:
        """Convert centred crops (N, 3, S, S) to the network's input, on its device."""
        crops = crops.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self.normalise(crops * self.network_settings.pixel_scale)

    def __call__(self, batch: PatchBatch, scale: float) -> Tensor:
        """Add the gradients of `scale` times the loss of this process's part of the batch; returns
        sums (3,) in the order of ClassifierSums.
        """
        optimiser, sums = self.optimiser, torch.zeros(3, device=self.device)
        for crops, labels in zip(
            batch.crops.chunk(optimiser.accumulate),
            batch.labels.chunk(optimiser.accumulate),
            strict=True,
        ):
            labels = labels.to(self.device)
            half = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=half):
                output = self.forward(self.feed(crops))
            losses = classifier_loss(
                output, labels, label_smoothing=optimiser.label_smoothing,
                auxiliary_weight=optimiser.auxiliary_weight,
            )  # fmt: skip
            # Divided by the whole batch, so that parts and processes add up to its mean.
            (losses.sum() * (scale / optimiser.batch)).backward()
            # Auxiliary heads are not there at inference, so they are not counted.
            logits = output[0] if isinstance(output, tuple) else output
            right, readable = logits.argmax(1) == labels, labels != UNREADABLE
            sums += torch.stack([losses.sum(), right.sum(), readable.sum()]).detach()
        return sums
