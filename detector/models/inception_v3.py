"""Inception-v3 (Szegedy et al., "Rethinking the Inception architecture", arXiv 1512.00567).

The layers are torchvision's exactly. Each module is a table: one row a branch, each step
(outputs, kernel), written out in the order of figures 5 to 7 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.inception import ConvReLU, MaxPool, initialise
from detector.models.normalisation import HALF, Normalisation

Kernel = int | tuple[int, int]
ROW, COLUMN = (1, 7), (7, 1)


class Halving(NamedTuple):
    """A convolution at stride 2 without padding, which ends a branch that shrinks the grid."""

    outputs: int
    kernel: int = 3


class Fork(NamedTuple):
    """A 1x3 and a 3x1 convolution side by side (figure 7), each with so many outputs."""

    outputs: int


Step = tuple[int, Kernel] | Halving | Fork
Branch = Sequence[Step]


def _figure5(pooled: int) -> tuple[list[Branch], int]:
    """35 x 35: of the two 5x5 one is two 3x3, the other stays (as in the released network)."""
    return [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]], pooled


def _figure6(width: int) -> tuple[list[Branch], int]:
    """17 x 17: n x n factorised into 1 x n and n x 1, n = 7."""
    once: Branch = [(width, 1), (width, ROW), (192, COLUMN)]
    twice: Branch = [(width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)]
    return [[(192, 1)], once, twice], 192


# 8 x 8: the outputs spread over two factors side by side, for high-dimensional representations.
_FIGURE7: tuple[list[Branch], int] = (
    [[(320, 1)], [(384, 1), Fork(384)], [(448, 1), (384, 3), Fork(384)]],
    192,
)
# Figure 10: the grid halves in convolutions and in a max-pool side by side, whose width is 0 here.
_TO_17: tuple[list[Branch], int] = ([[Halving(384)], [(64, 1), (96, 3), Halving(96)]], 0)
_TO_8: tuple[list[Branch], int] = (
    [[(192, 1), Halving(320)], [(192, 1), (192, ROW), (192, COLUMN), Halving(192)]],
    0,
)
TABLE: dict[str, tuple[list[Branch], int]] = {
    "5b": _figure5(32),
    "5c": _figure5(64),
    "5d": _figure5(64),
    "6a": _TO_17,
    "6b": _figure6(128),
    "6c": _figure6(160),
    "6d": _figure6(160),
    "6e": _figure6(192),
    "7a": _TO_8,
    "7b": _FIGURE7,
    "7c": _FIGURE7,
}
AUXILIARY_AFTER = "6e"
FEATURES = 2048


class InceptionV3Output(NamedTuple):
    """What training with the auxiliary head sees: two sets of logits (N, K+1)."""

    logits: Tensor
    auxiliary_6e: Tensor


class Forked(nn.Module):
    """Two asymmetric convolutions of one input, concatenated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.row = _conv(inputs, outputs, (1, 3))
        self.column = _conv(inputs, outputs, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.row(x), self.column(x)], 1)


class Mixed(nn.Module):
    """Branches side by side with a pool: average and 1x1 projection, or maximum at stride 2."""

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
    """Padded to keep the grid at stride 1, not padded at stride 2."""
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


class AuxiliaryHead(nn.Module):
    """A classifier on the last 17 x 17 map; batch norm in it is the paper's "BN-auxiliary"."""

    def __init__(self, num_outputs: int, *, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = ConvReLU(768, 128, 1, norm=norm)
        self.conv2 = ConvReLU(128, 768, 5, norm=norm)
        self.classifier = nn.Linear(768, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(F.avg_pool2d(x, 5, stride=3)))
        return self.classifier(x.mean((2, 3), dtype=torch.float32))


class InceptionV3(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs); S is 299 in the paper, at least 75.

    In training with `auxiliary=True` the result is an `InceptionV3Output` (S at least 299 then).
    `padding_counts=False` leaves padding out of the average pools, as Keras does.

    The paper arrives at v3 by steps from its Inception-v2, which `inception_v2` builds:
    `factorised_stem` makes three 3x3 of the first 7x7, `norm_auxiliary` adds batch norm to the
    auxiliary head (RMSProp and label smoothing are the training's).
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        auxiliary: bool = False,
        dropout: float = 0.5,
        padding_counts: bool = True,
        factorised_stem: bool = True,
        norm_auxiliary: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.normalisation: Normalisation = HALF
        first = [ConvReLU(3, 64, 7, norm=True, stride=2)]  # 299 to 147, as the three that follow
        if factorised_stem:
            first = [
                ConvReLU(3, 32, 3, norm=True, stride=2),
                ConvReLU(32, 32, 3, norm=True),
                ConvReLU(32, 64, 3, norm=True, padding=1),
            ]
        self.stem = nn.Sequential(
            *first,
            MaxPool(stride=2, ceil=False),
            ConvReLU(64, 80, 1, norm=True),
            ConvReLU(80, 192, 3, norm=True),
            MaxPool(stride=2, ceil=False),
        )
        self.mixed = nn.ModuleDict()
        channels = 192
        for name, (branches, pooled) in TABLE.items():
            block = Mixed(channels, branches, pooled, padding_counts=padding_counts)
            self.mixed[name] = block
            channels = block.outputs
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            self.auxiliary = AuxiliaryHead(num_outputs, norm=norm_auxiliary)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_outputs)
        initialise(self, generator)

    def stages(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each module in turn, with its name in torchvision."""
        x = self.stem(x)
        for name, block in self.mixed.items():
            x = block(x)
            yield name, x

    def features(self, x: Tensor) -> Tensor:
        """(N, 2048): the average over the last map, what the linear layer sees."""
        for _, last in self.stages(x):
            x = last
        return x.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor | InceptionV3Output:
        if self.auxiliary is None or not self.training:
            return self.classifier(self.dropout(self.features(x)))
        extra = None
        for name, x in self.stages(x):  # noqa: B020 the input is not needed again
            if name == AUXILIARY_AFTER:
                extra = self.auxiliary(x)
        assert extra is not None
        logits = self.classifier(self.dropout(x.mean((2, 3), dtype=torch.float32)))
        return InceptionV3Output(logits, extra)


def inception_v2(num_outputs: int, **options: Any) -> InceptionV3:
    """Inception-v2 of arXiv 1512.00567, Table 1: v3 before its last two steps."""
    return InceptionV3(num_outputs, factorised_stem=False, norm_auxiliary=False, **options)
