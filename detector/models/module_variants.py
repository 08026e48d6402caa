"""What the Inception module is compared with in the text: the same module without its reductions.

arXiv 1409.4842, section 4: figure 2a is the naive version, figure 2b the one with reductions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detector.models.inception import ConvReLU, MaxPool, Widths


class NaiveInception(nn.Module):
    """Figure 2a: 1x1, 3x3 and 5x5 on all the input's channels, and a max-pool that keeps them all.

    (N, C, H, W) to (N, one + three + five + C, H, W): with every module the maps get deeper.
    """

    def __init__(self, inputs: int, widths: Widths, *, norm: bool = False) -> None:
        super().__init__()
        self.outputs = widths.one + widths.three + widths.five + inputs
        self.one = ConvReLU(inputs, widths.one, 1, norm=norm)
        self.three = ConvReLU(inputs, widths.three, 3, norm=norm, padding=1)
        self.five = ConvReLU(inputs, widths.five, 5, norm=norm, padding=2)
        self.pool = MaxPool(stride=1, padding=1, ceil=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class UnreducedInception(nn.Module):
    """The module's own outputs without the 1x1 reductions: only the pool is still projected."""

    def __init__(self, inputs: int, widths: Widths, *, norm: bool = False) -> None:
        super().__init__()
        self.outputs = widths.out
        self.one = ConvReLU(inputs, widths.one, 1, norm=norm)
        self.three = ConvReLU(inputs, widths.three, 3, norm=norm, padding=1)
        self.five = ConvReLU(inputs, widths.five, 5, norm=norm, padding=2)
        self.pool = MaxPool(stride=1, padding=1, ceil=False)
        self.project = ConvReLU(inputs, widths.pool, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.project(self.pool(x))
        return torch.cat([self.one(x), self.three(x), self.five(x), pooled], 1)


def reduced(inputs: int, between: int, outputs: int, kernel: int) -> nn.Sequential:
    """A k x k convolution behind a 1x1 reduction: one branch of figure 2b."""
    return nn.Sequential(
        ConvReLU(inputs, between, 1, norm=False),
        ConvReLU(between, outputs, kernel, norm=False, padding=kernel // 2),
    )


class FullyConnectedHead(nn.Module):
    """Every place of the last map (N, C, side, side) to logits (N, num_outputs), as AlexNet does.

    GoogLeNet averages over the map first, which makes the layer side * side times smaller.
    """

    def __init__(self, channels: int, side: int, num_outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels * side * side, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x.flatten(1))


class AveragePooledHead(nn.Module):
    """The mean over the last map (N, C, side, side) to logits (N, num_outputs)."""

    def __init__(self, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))
