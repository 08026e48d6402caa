"""BN-Inception (Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, figure 5)."""

from typing import Literal, NamedTuple

import torch
from torch import nn

from detector.models.inception import StagedNetwork
from detector.models.layers import ConvReLU, HalvingPool, MaxPool, SeparableConvReLU
from detector.models.mixed import Branch, Halving, Mixed


class Widths(NamedTuple):
    """Channel widths, one row of figure 5.

    Where `one` or `pooled` is 0 there is no such convolution, and the grid is halved.
    """

    one: int
    reduce3: int
    three: int
    reduce_double: int
    double: int
    pool: Literal["average", "max"]
    pooled: int


# #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool and projection. Of 4c and 4d the
# figure prints a depth of 576, but its columns add up to 608. Ports from Caffe and MXNet keep the
# columns, as we do; TensorFlow's slim keeps the depth and projects onto 96.
FIGURE5: dict[str, Widths] = {
    "3a": Widths(64, 64, 64, 64, 96, "average", 32),
    "3b": Widths(64, 64, 96, 64, 96, "average", 64),
    "3c": Widths(0, 128, 160, 64, 96, "max", 0),
    "4a": Widths(224, 64, 96, 96, 128, "average", 128),
    "4b": Widths(192, 96, 128, 96, 128, "average", 128),
    "4c": Widths(160, 128, 160, 128, 160, "average", 128),
    "4d": Widths(96, 128, 192, 160, 192, "average", 128),
    "4e": Widths(0, 128, 192, 192, 256, "max", 0),
    "5a": Widths(352, 192, 320, 160, 224, "average", 128),
    "5b": Widths(352, 192, 320, 192, 224, "max", 128),
}


def _module(inputs: int, row: Widths) -> Mixed:
    """GoogLeNet's module with two 3x3 convolutions in place of the 5x5."""

    def last(width: int) -> tuple[int, int] | Halving:
        return (width, 3) if row.one else Halving(width, padding=1)

    branches: list[Branch] = [[(row.one, 1)]] if row.one else []
    branches += [
        [(row.reduce3, 1), last(row.three)],
        [(row.reduce_double, 1), (row.double, 3), last(row.double)],
    ]
    pool: nn.Module = HalvingPool()
    if row.pooled and row.pool == "average":
        pool = nn.AvgPool2d(3, 1, 1)
    elif row.pooled:
        pool = MaxPool(stride=1, padding=1, ceil=False)
    return Mixed(inputs, branches, pool, row.pooled)


class BNInception(StagedNetwork):
    """BN-Inception; S is 224 in the paper, at least 32.

    `separable_first` makes the first layer separable, as in the paper's appendix (multiplier 8).
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        separable_first: bool = False,
        dropout: float = 0.0,  # none in the paper: batch norm makes it needless
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        first = SeparableConvReLU if separable_first else ConvReLU
        self.stem = nn.Sequential(
            first(3, 64, 7, norm=True, stride=2, padding=3),
            HalvingPool(),
            ConvReLU(64, 64, 1, norm=True),
            ConvReLU(64, 192, 3, norm=True, padding=1),
            HalvingPool(),
        )
        self.begin_stages()
        channels = 192
        for name, row in FIGURE5.items():
            self.inception[name] = block = _module(channels, row)
            channels = block.outputs
        self.finish(channels, num_outputs, dropout, generator)
