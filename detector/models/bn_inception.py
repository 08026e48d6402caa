"""BN-Inception (Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, figure 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from detector.models.inception import ConvReLU, MaxPool, initialise
from detector.models.normalisation import CENTRED, Normalisation


class Widths(NamedTuple):
    """One row of figure 5; `one` or `pooled` 0: no such convolution, and the grid halves."""

    one: int
    reduce3: int
    three: int
    reduce_double: int
    double: int
    pool: Literal["average", "max"]
    pooled: int


# #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool and projection. The figure prints
# 576 as the depth of 4c and 4d, but its own columns add up to 608, as in every public port.
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


class DoubleInception(nn.Module):
    """GoogLeNet's module with two 3x3 convolutions in place of the 5x5."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        stride = 1 if widths.one else 2

        def three(channels: int, outputs: int, stride: int = 1) -> ConvReLU:
            return ConvReLU(channels, outputs, 3, norm=True, padding=1, stride=stride)

        self.branches = nn.ModuleList()
        if widths.one:
            self.branches.append(ConvReLU(inputs, widths.one, 1, norm=True))
        self.branches.append(
            nn.Sequential(
                ConvReLU(inputs, widths.reduce3, 1, norm=True),
                three(widths.reduce3, widths.three, stride),
            )
        )
        self.branches.append(
            nn.Sequential(
                ConvReLU(inputs, widths.reduce_double, 1, norm=True),
                three(widths.reduce_double, widths.double),
                three(widths.double, widths.double, stride),
            )
        )
        self.branches.append(_pool(inputs, widths, stride))
        passed = widths.pooled or inputs
        self.outputs = widths.one + widths.three + widths.double + passed

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _pool(inputs: int, widths: Widths, stride: int) -> nn.Module:
    if stride == 2:
        return MaxPool(stride=2, ceil=True)
    pool: nn.Module = nn.AvgPool2d(3, 1, 1)
    if widths.pool == "max":
        pool = MaxPool(stride=1, padding=1, ceil=False)
    return nn.Sequential(pool, ConvReLU(inputs, widths.pooled, 1, norm=True))


class BNInception(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs); S is 224 in the paper, at least 32."""

    def __init__(
        self,
        num_outputs: int,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.normalisation: Normalisation = CENTRED
        self.stem = nn.Sequential(
            ConvReLU(3, 64, 7, norm=True, stride=2, padding=3),
            MaxPool(stride=2, ceil=True),
            ConvReLU(64, 64, 1, norm=True),
            ConvReLU(64, 192, 3, norm=True, padding=1),
            MaxPool(stride=2, ceil=True),
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

    def features(self, x: Tensor) -> Tensor:
        """(N, 1024): the average over the last map, what the linear layer sees."""
        for _, last in self.stages(x):
            x = last
        return x.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(x)))
