"""The optimiser of a recipe, and its rate by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from detector.training.classifier.settings import OptimiserSettings
from detector.training.engine.schedule import rate_at


def build_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD, RMSProp or AdamW over the trainable parameters. Kernels and matrices decay; vectors
    (biases, batch normalisation) only if the settings say so.
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    vectors = [p for p in trainable if p.ndim <= 1]
    others = [p for p in trainable if p.ndim > 1]
    decay = settings.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": others, "weight_decay": decay},
        {"params": vectors, "weight_decay": decay if settings.decay_vectors else 0.0},
    ]
    rate, momentum, eps = settings.rate, settings.momentum, settings.epsilon
    if settings.method == "rmsprop":
        return torch.optim.RMSprop(
            groups, lr=rate, alpha=settings.square_decay, eps=eps, momentum=momentum
        )
    if settings.method == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, settings.square_decay), eps=eps)
    nesterov = settings.method == "nesterov" and momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov)


def rate_by_step(
    settings: OptimiserSettings, steps: int, steps_per_epoch: float
) -> Callable[[int], float]:
    """The learning rate as a function of the step, with lengths that are given in epochs."""

    def rate(step: int) -> float:
        return rate_at(
            step, base=settings.rate, steps=steps, warmup=round(settings.warmup * steps_per_epoch),
            kind=settings.schedule, power=settings.power, factor=settings.decay,
            every=settings.decay_every * steps_per_epoch,
        )  # fmt: skip

    return rate


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], norm: float, limit: float | None) -> None:
    """Scale gradients of total norm `norm` down to `limit`, keeping their direction."""
    if limit is not None and norm > limit:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(limit / norm)
