"""The average of the weights over the training path, used for inference (Polyak; GoogLeNet section
6).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's trainable parameters and of its running statistics.

    The decay grows from 0 to `decay` in the first steps, (1 + step) / (10 + step), so that a short
    run is not an average with its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in _moving(model).items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        keep = min(self.decay, (1 + step) / (10 + step))
        now = {name: tensor.detach() for name, tensor in _moving(model).items()}
        real = [name for name, tensor in now.items() if tensor.is_floating_point()]
        if real:  # all in a few launches, where a device computes
            torch._foreach_lerp_(
                [self.values[name] for name in real], [now[name] for name in real], 1 - keep
            )
        for name in now.keys() - set(real):
            self.values[name].copy_(now[name])

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take these values, in the memory format that each average has."""
        for name, own in self.values.items():
            self.values[name] = torch.empty_like(own).copy_(values[name])

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's complete state with the averages in place of what they average."""
        return {**model.state_dict(), **self.values}


def _moving(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: trainable parameters, and the buffers that a saved state holds."""
    saved = model.state_dict().keys()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return trainable | {name: b for name, b in model.named_buffers() if name in saved}
