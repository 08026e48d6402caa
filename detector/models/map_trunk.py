"""The lower part of a network as a trunk that returns feature maps, for MultiBox's heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.models.bn_inception import BNInception
from detector.models.googlenet import GoogLeNet
from detector.models.normalisation import Normalisation
from detector.models.split import Trunk


def map_trunk(whole: nn.Module, after: str) -> nn.Module:
    """Cut a network after a module, such as "4e": crops (N, 3, S, S) to maps (N, C, h, w).

    For GoogLeNet in all its forms, and BN-Inception; others raise SettingsError. The pool after the
    module is left out. Parameters keep their names in the whole network.
    """
    if isinstance(whole, GoogLeNet):
        return Trunk(whole, after, pool_behind=False)
    if isinstance(whole, BNInception):
        return BNInceptionTrunk(whole, after)
    raise SettingsError(
        f"a {type(whole).__name__} gives no maps here; choose googlenet, wide_googlenet,"
        " bn_googlenet, torchvision_googlenet or bn_inception"
    )


class BNInceptionTrunk(nn.Module):
    """BN-Inception up to a module of figure 5."""

    def __init__(self, whole: BNInception, after: str) -> None:
        super().__init__()
        names = list(whole.inception)
        if after not in names:
            raise SettingsError(f"a BN-Inception is not cut after {after!r}; choose one of {names}")
        self.normalisation: Normalisation = whole.normalisation
        self.stem = whole.stem
        lower = names[: names.index(after) + 1]
        self.inception = nn.ModuleDict({name: whole.inception[name] for name in lower})

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.inception.values():
            x = block(x)
        return x


@torch.no_grad()
def map_shape(trunk: nn.Module, input_size: int) -> tuple[int, int, int]:
    """Shape (C, h, w) of the map of one crop."""
    training = trunk.training
    like = next(trunk.parameters())
    maps = trunk.eval()(torch.zeros(1, 3, input_size, input_size, device=like.device))
    trunk.train(training)
    channels, height, width = maps.shape[1:]
    return channels, height, width
