"""The loss scale that keeps small float16 gradients from vanishing (Micikevicius et al. 2018)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

# Steps without an overflow until the factor is doubled; this and the start are torch's.
GROW_AFTER = 2000
# Powers of two change the exponent only, so scaling loses no digit.
_START, _MAX = 2.0**16, 2.0**24


class LossScale:
    """Multiply the loss by `factor`, divide the gradients by it; halve it at an overflow.

    The factor changes by what all processes see alike (the summed gradient), and is saved with the
    run, so that a resumed one goes on with the same. With `enabled=False` it is 1 and stays so.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.factor = _START if enabled else 1.0
        self.good_steps = 0

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.factor)

    def succeeded(self) -> None:
        self.good_steps += 1
        if self.enabled and self.good_steps % GROW_AFTER == 0:
            self.factor = min(2 * self.factor, _MAX)

    def overflowed(self) -> bool:
        """Halve the factor after an overflow; False where it is 1 already, and halving cures
        nothing.
        """
        self.good_steps = 0
        if self.factor <= 1:
            return False
        self.factor /= 2
        return True

    def state(self) -> dict[str, Tensor]:
        values = [self.factor, float(self.good_steps)]
        return {"loss_scale": torch.tensor(values, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        if "loss_scale" in state:
            factor, good_steps = state["loss_scale"].tolist()
            self.factor, self.good_steps = float(factor), int(good_steps)
