"""What a network costs: its parameters and multiply-adds, counted while it runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Cost(NamedTuple):
    """Of one crop; biases and norms count as parameters, not as multiply-adds."""

    parameters: int
    multiply_adds: int


class Published(NamedTuple):
    """What the source says; None where it says nothing."""

    parameters: float | None
    multiply_adds: float | None
    source: str
    note: str = ""

    def explained(self) -> str:
        """Source and note in one cell."""
        return "; ".join(part for part in (self.source, self.note) if part)


def cost(model: nn.Module, shape: tuple[int, int, int]) -> Cost:
    """Counted on one input of `shape` (C, H, W): convolutions, grouped ones rightly, and linear
    layers.
    """
    multiply_adds = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal multiply_adds
        weight = module.weight
        assert isinstance(weight, Tensor)
        multiply_adds += output.numel() * weight[0].numel()

    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = model.training
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return Cost(sum(p.numel() for p in model.parameters()), multiply_adds)
