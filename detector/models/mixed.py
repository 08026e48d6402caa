"""Inception modules as tables (arXiv 1502.03167, figure 5; arXiv 1512.00567, figures 5 to 10).

Each row is a branch; each step (outputs, kernel) is a convolution with batch norm and ReLU.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.layers import ConvReLU

Kernel = int | tuple[int, int]


class Halving(NamedTuple):
    """A 3x3 convolution at stride 2, the last step of a branch that halves the grid."""

    outputs: int
    padding: int = 0


class Fork(NamedTuple):
    """A 1x3 and a 3x1 convolution in parallel (figure 7), each with `outputs` channels."""

    outputs: int


Step = tuple[int, Kernel] | Halving | Fork
Branch = Sequence[Step]


class Forked(nn.Module):
    """Two asymmetric convolutions of one input, concatenated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.row = _conv(inputs, outputs, (1, 3))
        self.column = _conv(inputs, outputs, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.row(x), self.column(x)], 1)


class Mixed(nn.Module):
    """Parallel branches, and a pool with a 1x1 projection onto `pooled` channels (0: none)."""

    def __init__(
        self, inputs: int, branches: Sequence[Branch], pool: nn.Module, pooled: int
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        self.outputs = pooled or inputs  # a pool without projection keeps the channels
        for branch in branches:
            steps, width = _branch(inputs, branch)
            self.branches.append(steps)
            self.outputs += width
        self.pool = pool
        self.project = _conv(inputs, pooled, 1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(branch(x) for branch in self.branches), self.project(self.pool(x))], 1)


def _conv(inputs: int, outputs: int, kernel: Kernel) -> ConvReLU:
    # Padded to keep the grid, so that branches can be concatenated.
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return ConvReLU(inputs, outputs, sides, norm=True, padding=(sides[0] // 2, sides[1] // 2))


def _branch(inputs: int, branch: Branch) -> tuple[nn.Sequential, int]:
    steps = nn.Sequential()
    for step in branch:
        if isinstance(step, Fork):
            steps.append(Forked(inputs, step.outputs))
            inputs = 2 * step.outputs
        elif isinstance(step, Halving):
            steps.append(
                ConvReLU(inputs, step.outputs, 3, norm=True, stride=2, padding=step.padding)
            )
            inputs = step.outputs
        else:
            steps.append(_conv(inputs, *step))
            inputs = step[0]
    return steps, inputs
