"""Inception-v2 and v3 (Szegedy et al., "Rethinking the Inception architecture", arXiv 1512.00567).

Two layouts: "released" is torchvision's Inception-v3 exactly; "table1" is the network that Table 1
of the paper prints.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.inception import StagedNetwork
from detector.models.input_normalisation import HALF
from detector.models.layers import ConvReLU, MaxPool
from detector.models.mixed import Branch, Fork, Halving, Mixed

Layout = Literal["table1", "released"]
ROW, COLUMN = (1, 7), (7, 1)


def _figure5(pooled: int, kernel: int) -> tuple[list[Branch], int]:
    """Figure 5, on 35 x 35: two 3x3 for a 5x5; `kernel`, 3 in the figure, is 5 as released."""
    return [[(64, 1)], [(48, 1), (64, kernel)], [(64, 1), (96, 3), (96, 3)]], pooled


def _figure6(width: int) -> tuple[list[Branch], int]:
    """Figure 6, on 17 x 17: n x n factorised into 1 x n and n x 1, n = 7."""
    once: Branch = [(width, 1), (width, ROW), (192, COLUMN)]
    twice: Branch = [(width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)]
    return [[(192, 1)], once, twice], 192


# Figure 7, on 8 x 8: both factors in parallel, for high-dimensional representations.
_FIGURE7: tuple[list[Branch], int] = (
    [[(320, 1)], [(384, 1), Fork(384)], [(448, 1), (384, 3), Fork(384)]],
    192,
)
# Figure 10: the grid is halved by convolutions and, in parallel, by a max-pool (width 0 here).
_TO_17: tuple[list[Branch], int] = ([[Halving(384)], [(64, 1), (96, 3), Halving(96)]], 0)
_TO_8: tuple[list[Branch], int] = (
    [[(192, 1), Halving(320)], [(192, 1), (192, ROW), (192, COLUMN), Halving(192)]],
    0,
)
_FROM_17: dict[str, tuple[list[Branch], int]] = {
    "6b": _figure6(128),
    "6c": _figure6(160),
    "6d": _figure6(160),
    "6e": _figure6(192),
    "7a": _TO_8,
    "7b": _FIGURE7,
    "7c": _FIGURE7,
}
# The modules by their names in torchvision. Table 1 counts them by their inputs: 3 maps of
# 35 x 35 x 288 (the third halves the grid), 5 of 17 x 17 x 768 (so does the fifth), then 2. Widths
# inside the modules are not in the paper; those of the released network give the printed depths.
MODULES: dict[Layout, dict[str, tuple[list[Branch], int]]] = {
    "table1": {"5c": _figure5(64, 3), "5d": _figure5(64, 3), "6a": _TO_17, **_FROM_17},
    "released": {
        "5b": _figure5(32, 5), "5c": _figure5(64, 5), "5d": _figure5(64, 5), "6a": _TO_17,
        **_FROM_17,
    },
}  # fmt: skip
AUXILIARY_AFTER = "6e"


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier on the last 17 x 17 map; with batch norm, the paper's "BN-auxiliary".

    Departs from the paper: with `adaptive` a map of any size is averaged to the 5 x 5 that a
    17 x 17 one has after its pool, so that the head can be trained on smaller crops.
    """

    def __init__(self, num_outputs: int, *, norm: bool = True, adaptive: bool = False) -> None:
        super().__init__()
        self.adaptive = adaptive
        self.conv1 = ConvReLU(768, 128, 1, norm=norm)
        self.conv2 = ConvReLU(128, 768, 5, norm=norm)
        self.classifier = nn.Linear(768, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 5) if self.adaptive else F.avg_pool2d(x, 5, stride=3)
        x = self.conv2(self.conv1(x))
        return self.classifier(x.mean((2, 3), dtype=torch.float32))


class InceptionV3(StagedNetwork):
    """Inception-v2 or v3; S is 299 in the paper, at least 75.

    With the auxiliary head S is at least 299 in training, or `adaptive_auxiliary=True` lets the
    head take any map.

    Table 3 of the paper arrives at v3 by steps, and each is an option: RMSProp and label smoothing
    are settings of the training, `factorised_stem` replaces the first 7x7 by three 3x3,
    `norm_auxiliary` adds batch norm to the auxiliary head. `layout` "released" has the widths that
    were published later.
    """

    can_be_cut = False  # its modules change the grid themselves: there are no pools to cut at

    def __init__(
        self,
        num_outputs: int,
        *,
        auxiliary: bool = False,
        dropout: float = 0.5,
        layout: Layout = "released",
        factorised_stem: bool = True,
        norm_auxiliary: bool = True,
        adaptive_auxiliary: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(HALF)
        if layout not in MODULES:
            raise ValueError(f"layout {layout!r} is not one of 'table1', 'released'")
        # 299 to 147, as the three 3x3 below
        first: list[nn.Module] = [ConvReLU(3, 64, 7, norm=True, stride=2)]
        if factorised_stem:
            first = [
                ConvReLU(3, 32, 3, norm=True, stride=2),
                ConvReLU(32, 32, 3, norm=True),
                ConvReLU(32, 64, 3, norm=True, padding=1),
            ]
        second: list[nn.Module] = [  # 73 to 71 to 35
            ConvReLU(64, 80, 1, norm=True),
            ConvReLU(80, 192, 3, norm=True),
            MaxPool(stride=2, ceil=False),
        ]
        if layout == "table1":
            second = [
                ConvReLU(64, 80, 3, norm=True),
                ConvReLU(80, 192, 3, norm=True, stride=2),
                ConvReLU(192, 288, 3, norm=True, padding=1),
            ]
        self.stem = nn.Sequential(*first, MaxPool(stride=2, ceil=False), *second)
        self.begin_stages()
        channels = 288 if layout == "table1" else 192
        for name, (branches, pooled) in MODULES[layout].items():
            pool = nn.AvgPool2d(3, 1, 1) if pooled else MaxPool(stride=2, ceil=False)
            self.inception[name] = block = Mixed(channels, branches, pool, pooled)
            channels = block.outputs
        if auxiliary:
            self.auxiliary[AUXILIARY_AFTER] = AuxiliaryHead(
                num_outputs, norm=norm_auxiliary, adaptive=adaptive_auxiliary
            )
        self.finish(channels, num_outputs, dropout, generator)


def inception_v2(
    num_outputs: int, *, layout: Layout = "table1", norm_auxiliary: bool = False, **options: Any
) -> InceptionV3:
    """Build Inception-v2 as in Table 1 of arXiv 1512.00567.

    Table 1 already has the factorised stem, which Table 3 counts as a later step: the network
    before that step is `inception_v2(..., factorised_stem=False)`.
    """
    return InceptionV3(num_outputs, layout=layout, norm_auxiliary=norm_auxiliary, **options)
