"""GoogLeNet split into a trunk, computed once for each crop, and a top.

The top is trained alone, or an ensemble has several tops on one trunk. Parameters keep their names
in the whole network, so that both state dicts together are that of the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.models.googlenet import AUXILIARY_AFTER, GoogLeNet
from detector.models.normalisation import CENTRED, Normalisation


class SharedTrunk(NamedTuple):
    """Reference to the layers of an ensemble's member number `member` up to the module `after`."""

    member: int
    after: str


class Trunk(nn.Module):
    """Crops (N, 3, S, S) to maps (N, C, h, w): the layers up to a module, and the next pool.

    With `pool_behind=False` the map is that of the module itself: after 4e, a finer grid.
    """

    def __init__(self, whole: nn.Module, after: str, *, pool_behind: bool = True) -> None:
        super().__init__()
        model = _check_cut(whole, after)
        self.normalisation: Normalisation = model.normalisation
        self.conv1, self.pool1, self.norm1 = model.conv1, model.pool1, model.norm1
        self.conv2_reduce, self.conv2, self.norm2 = model.conv2_reduce, model.conv2, model.norm2
        names = list(model.inception)
        lower, self.next = names[: names.index(after) + 1], names[names.index(after) + 1]
        self.inception = nn.ModuleDict({name: model.inception[name] for name in lower})
        pooled = (*lower, self.next) if pool_behind else lower
        self.pools = nn.ModuleDict(
            {name: pool for name, pool in model.pools.items() if name in pooled}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pool1(self.conv1(x)))
        x = self.norm2(self.conv2(self.conv2_reduce(x)))
        for name, block in self.inception.items():
            if name in self.pools:
                x = self.pools[name](x)
            x = block(x)
        return self.pools[self.next](x) if self.next in self.pools else x


class Top(nn.Module):
    """The layers above a trunk: maps (N, C, h, w) to logits (N, num_outputs)."""

    normalisation = CENTRED

    def __init__(self, whole: nn.Module, after: str) -> None:
        super().__init__()
        model = _check_cut(whole, after)
        names = list(model.inception)
        upper = names[names.index(after) + 1 :]
        self.inception = nn.ModuleDict({name: model.inception[name] for name in upper})
        self.pools = nn.ModuleDict(
            {name: pool for name, pool in model.pools.items() if name in upper[1:]}
        )
        self.dropout = model.dropout
        self.classifier = model.classifier

    def features(self, x: Tensor) -> Tensor:
        """Average over the last map, the input of the linear layer: (N, 1024)."""
        for name, block in self.inception.items():
            if name in self.pools:
                x = self.pools[name](x)
            x = block(x)
        return x.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


def _check_cut(model: nn.Module, after: str) -> GoogLeNet:
    if not isinstance(model, GoogLeNet):
        raise SettingsError(f"only a GoogLeNet can be cut, not a {type(model).__name__}")
    names = list(model.inception)[:-1]
    if after not in names:
        raise SettingsError(f"a GoogLeNet is not cut after {after!r}; choose one of {names}")
    if set(model.auxiliary) & set(AUXILIARY_AFTER):
        raise SettingsError("a GoogLeNet with auxiliary heads is not cut; set auxiliary to false")
    return model
