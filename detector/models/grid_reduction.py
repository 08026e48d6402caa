"""Three ways to halve a grid (arXiv 1512.00567, section 5, figures 9 and 10).

From d x d x k to d/2 x d/2 x 2k, with a convolution that costs c for each place: pooling first is
cheap (c d^2/4) but a bottleneck for what the network can say, convolving first is expensive
(c d^2), and convolutions and a pool side by side at stride 2 are cheap without a bottleneck.
"""

from __future__ import annotations

from torch import Tensor, nn

from detector.models.inception import ConvReLU, MaxPool
from detector.models.mixed import Branch, Halving, Mixed


class PoolThenConv(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H/2, W/2): figure 9, left."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.pool = MaxPool(stride=2, ceil=False)
        self.conv = ConvReLU(inputs, outputs, kernel, norm=True, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(self.pool(x))
        return found


class ConvThenPool(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H/2, W/2): figure 9, right."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = ConvReLU(inputs, outputs, kernel, norm=True, padding=kernel // 2)
        self.pool = MaxPool(stride=2, ceil=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.pool(self.conv(x))
        return found


def parallel_reduction(inputs: int, once: int, twice: int, reduce: int = 64) -> Mixed:
    """(N, inputs, H, W) to (N, once + twice + inputs, H/2, W/2): figure 10.

    A 3x3, two 3x3 behind a 1x1, and a max-pool, all ending at stride 2. With 384 and 96 on 288
    channels it is the module between the 35 x 35 and the 17 x 17 grid of Inception-v3.
    """
    branches: list[Branch] = [[Halving(once)], [(reduce, 1), (twice, 3), Halving(twice)]]
    return Mixed(inputs, branches, 0, padding_counts=True)
