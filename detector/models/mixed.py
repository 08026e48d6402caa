"""Inception modules as tables (arXiv 1512.00567, figures 5 to 7 and 10).

Each row is a branch; each step (outputs, kernel) is a convolution with batch norm and ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.inception import ConvReLU, MaxPool

Kernel = int | tuple[int, int]


class Halving(NamedTuple):
    """A convolution at stride 2 without padding, the last step of a branch that halves the grid."""

    outputs: int
    kernel: int = 3


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
    """Parallel branches and a pool: average with 1x1 projection, or maximum at stride 2."""

    def __init__(
        self, inputs: int, branches: Sequence[Branch], pooled: int, *, padding_counts: bool
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        self.outputs = pooled or inputs
        for branch in branches:
            steps, width = _branch(inputs, branch)
            self.branches.append(steps)
            self.outputs += width
        if pooled:
            self.pool: nn.Module = nn.AvgPool2d(3, 1, 1, count_include_pad=padding_counts)
        else:
            self.pool = MaxPool(stride=2, ceil=False)
        self.project = _conv(inputs, pooled, 1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(branch(x) for branch in self.branches), self.project(self.pool(x))], 1)


def _conv(inputs: int, outputs: int, kernel: Kernel, stride: int = 1) -> ConvReLU:
    """Convolution, padded to keep the grid at stride 1, not padded at stride 2."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (0, 0) if stride == 2 else (sides[0] // 2, sides[1] // 2)
    return ConvReLU(inputs, outputs, sides, norm=True, stride=stride, padding=padding)


def _branch(inputs: int, branch: Branch) -> tuple[nn.Sequential, int]:
    steps = nn.Sequential()
    for step in branch:
        if isinstance(step, Fork):
            steps.append(Forked(inputs, step.outputs))
            inputs = 2 * step.outputs
        else:
            stride = 2 if isinstance(step, Halving) else 1
            steps.append(_conv(inputs, step[0], step[1], stride))
            inputs = step[0]
    return steps, inputs
