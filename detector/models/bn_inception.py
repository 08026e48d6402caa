"""BN-Inception (Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, figure 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from detector.models.inception import (
    ConvReLU,
    HalvingPool,
    MaxPool,
    SeparableConvReLU,
    initialise,
)
from detector.models.normalisation import CENTRED, Normalisation


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


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> ConvReLU:
    """Convolution padded to keep the grid, or to halve it at stride 2."""
    return ConvReLU(inputs, outputs, kernel, norm=True, stride=stride, padding=kernel // 2)


class DoubleInception(nn.Module):
    """GoogLeNet's module with two 3x3 convolutions in place of the 5x5."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        stride = 1 if widths.one else 2
        self.branches = nn.ModuleList()
        if widths.one:
            self.branches.append(_conv(inputs, widths.one, 1))
        self.branches.append(
            nn.Sequential(
                _conv(inputs, widths.reduce3, 1),
                _conv(widths.reduce3, widths.three, 3, stride),
            )
        )
        self.branches.append(
            nn.Sequential(
                _conv(inputs, widths.reduce_double, 1),
                _conv(widths.reduce_double, widths.double, 3),
                _conv(widths.double, widths.double, 3, stride),
            )
        )
        self.branches.append(_pool(inputs, widths))
        passed = widths.pooled or inputs
        self.outputs = widths.one + widths.three + widths.double + passed

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _pool(inputs: int, widths: Widths) -> nn.Module:
    if not widths.pooled:
        return HalvingPool()
    pool: nn.Module = nn.AvgPool2d(3, 1, 1)
    if widths.pool == "max":
        pool = MaxPool(stride=1, padding=1, ceil=False)
    return nn.Sequential(pool, _conv(inputs, widths.pooled, 1))


class BNInception(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs); S is 224 in the paper, at least 32.

    `separable_first` makes the first layer separable, as in the paper's appendix (multiplier 8).
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        separable_first: bool = False,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.normalisation: Normalisation = CENTRED
        first: nn.Module = _conv(3, 64, 7, 2)
        if separable_first:
            first = SeparableConvReLU(3, 64, 7, norm=True, stride=2, padding=3)
        self.stem = nn.Sequential(
            first,
            HalvingPool(),
            _conv(64, 64, 1),
            _conv(64, 192, 3),
            HalvingPool(),
        )
        self.inception = nn.ModuleDict()
        channels = 192
        for name, widths in FIGURE5.items():
            block = DoubleInception(channels, widths)
            self.inception[name] = block
            channels = block.outputs
        self.dropout = nn.Dropout(dropout)  # none in the paper: batch norm makes it needless
        self.classifier = nn.Linear(channels, num_outputs)
        initialise(self, generator)

    def stages(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each module in turn, with its name in figure 5."""
        x = self.stem(x)
        for name, block in self.inception.items():
            x = block(x)
            yield name, x

    def last_map(self, x: Tensor) -> Tensor:
        """The output of 5b: (N, 1024, S/32, S/32)."""
        for _, last in self.stages(x):
            x = last
        return x

    def features(self, x: Tensor) -> Tensor:
        """Average over the last map, the input of the linear layer: (N, 1024)."""
        return self.last_map(x).mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(x)))
