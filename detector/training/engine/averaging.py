"""The moving average of the weights over the training path, used for inference (Polyak and Juditsky
1992; arXiv 1409.4842, section 6).
"""

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
        """Move the averages towards the weights of `model` after `step` steps."""
        # TensorFlow's ramp (ExponentialMovingAverage): early averages forget the random start.
        decay = min(self.decay, (1 + step) / (10 + step))
        current = {name: tensor.detach() for name, tensor in _moving(model).items()}
        floating = [name for name, tensor in current.items() if tensor.is_floating_point()]
        if floating:  # one fused kernel instead of one per tensor on a GPU
            torch._foreach_lerp_(
                [self.values[name] for name in floating],
                [current[name] for name in floating],
                1 - decay,
            )
        # Integer buffers, such as num_batches_tracked, have no average: the latest value counts.
        for name in current.keys() - set(floating):
            self.values[name].copy_(current[name])

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Replace the averages by `values`, keeping the memory format of each."""
        for name, average in self.values.items():
            self.values[name] = torch.empty_like(average).copy_(values[name])

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's complete state with the averages in place of what they average."""
        return {**model.state_dict(), **self.values}


def _moving(model: nn.Module) -> dict[str, Tensor]:
    # A saved model holds no other buffers, and a frozen parameter is its own average.
    saved = model.state_dict().keys()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return trainable | {name: b for name, b in model.named_buffers() if name in saved}
