"""A network split into a trunk, computed once for each crop, and a top.

The top is trained alone, or an ensemble has several tops on one trunk; MultiBox's heads stand on
the map of a trunk. Parameters keep their names in the whole network, so that the state dicts of
trunk and top together are that of the whole.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.models.inception import StagedNetwork, run_blocks
from detector.models.input_normalisation import CENTRED


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
        model, names, at = _check_cut(whole, after, to_the_end=not pool_behind)
        self.normalisation, self.stem_layers = model.normalisation, model.stem_layers
        for layer in model.stem_layers:
            setattr(self, layer, model.get_submodule(layer))
        self.inception = nn.ModuleDict({name: model.inception[name] for name in names[:at]})
        pooled = names[: at + pool_behind]
        self.pools = nn.ModuleDict({name: p for name, p in model.pools.items() if name in pooled})
        self.last_pool = names[at] if pool_behind else ""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.stem_layers:
            x = self.get_submodule(layer)(x)
        for _, last in run_blocks(x, self.inception, self.pools):
            x = last
        return self.pools[self.last_pool](x) if self.last_pool in self.pools else x


class ImageMap(Trunk):
    """Images (N, 3, S, S) to maps (N, C, h, w): those of the modules before the last pool and of
    the last, the coarser one repeated to the grid of the finer.
    """

    def __init__(self, whole: nn.Module) -> None:
        names = list(getattr(whole, "inception", {"": None}))
        super().__init__(whole, names[-1], pool_behind=False)
        self.finer = names[names.index(list(self.pools)[-1]) - 1]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.stem_layers:
            x = self.get_submodule(layer)(x)
        maps = dict(run_blocks(x, self.inception, self.pools))
        fine = maps[self.finer]
        coarse = F.interpolate(maps[list(self.inception)[-1]], size=fine.shape[2:])
        return torch.cat([fine, coarse], 1)


class Top(nn.Module):
    """The layers above a trunk: maps (N, C, h, w) to logits (N, num_outputs)."""

    normalisation = CENTRED  # that of maps, which are not normalised

    def __init__(self, whole: nn.Module, after: str) -> None:
        super().__init__()
        model, names, at = _check_cut(whole, after)
        self.inception = nn.ModuleDict({name: model.inception[name] for name in names[at:]})
        pooled = names[at + 1 :]  # the first one's pool belongs to the trunk
        self.pools = nn.ModuleDict({name: p for name, p in model.pools.items() if name in pooled})
        self.dropout, self.classifier = model.dropout, model.classifier

    def features(self, x: Tensor) -> Tensor:
        """Average over the last map, the input of the linear layer: (N, F) float32."""
        for _, last in run_blocks(x, self.inception, self.pools):
            x = last
        return x.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(x)))


def _check_cut(
    whole: nn.Module, after: str, *, to_the_end: bool = False
) -> tuple[StagedNetwork, list[str], int]:
    """Network, names of its modules, and number of those in the trunk. Raises SettingsError."""
    if not (isinstance(whole, StagedNetwork) and whole.can_be_cut):
        raise SettingsError(
            f"a {type(whole).__name__} is not cut; choose googlenet, wide_googlenet, bn_googlenet,"
            " torchvision_googlenet or bn_inception"
        )
    names = list(whole.inception)
    known = names if to_the_end else names[:-1]
    if after not in known:
        raise SettingsError(
            f"a {type(whole).__name__} is not cut after {after!r}; choose one of {known}"
        )
    if whole.auxiliary:
        raise SettingsError("a network with auxiliary heads is not cut; set auxiliary to false")
    return whole, names, names.index(after) + 1


@torch.no_grad()
def map_shape(trunk: nn.Module, input_size: int) -> tuple[int, int, int]:
    """Shape (C, h, w) of the map of one crop."""
    training = trunk.training  # batch norm in training would learn from the zeros
    like = next(trunk.parameters())
    maps = trunk.eval()(torch.zeros(1, 3, input_size, input_size, device=like.device))
    trunk.train(training)
    channels, height, width = maps.shape[1:]
    return channels, height, width
