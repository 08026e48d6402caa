"""The costs of single modules that the papers and the text books compare, one table each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from detector.models.costs import Published
from detector.models.googlenet import TABLE1
from detector.models.grid_reduction import ConvThenPool, PoolThenConv, parallel_reduction
from detector.models.inception import ConvReLU, Inception
from detector.models.inception_v3 import InceptionV3, inception_v2
from detector.models.module_variants import (
    AveragePooledHead,
    FullyConnectedHead,
    NaiveInception,
    UnreducedInception,
    reduced,
)

Shape = tuple[int, int, int]


class ModuleRow(NamedTuple):
    """One module, the (C, H, W) of its input, and what is published of it."""

    name: str
    build: Callable[[], nn.Module]
    shape: Shape
    published: Published = Published(None, None, "")


def _inception_rows() -> list[ModuleRow]:
    widths, given = TABLE1["3a"], (192, 28, 28)
    table1 = Published(159 * 1024, 128e6, "arXiv 1409.4842, Table 1")
    return [
        ModuleRow("3a, naive (figure 2a)", lambda: NaiveInception(192, widths), given),
        ModuleRow("3a, no reductions", lambda: UnreducedInception(192, widths), given),
        ModuleRow("3a (figure 2b)", lambda: Inception(192, widths, norm=False), given, table1),
    ]


def _reduction_rows() -> list[ModuleRow]:
    """The 5x5 branch of 4a, the text books' example."""
    given = (480, 14, 14)
    direct = Published(None, 112.9e6, "text books")
    behind = Published(None, 5.3e6, "text books")
    return [
        ModuleRow(
            "5x5, 48 filters", lambda: ConvReLU(480, 48, 5, norm=False, padding=2), given, direct
        ),
        ModuleRow("1x1, 16; 5x5, 48", lambda: reduced(480, 16, 48, 5), given, behind),
        ModuleRow("5x5, 32 filters", lambda: ConvReLU(480, 32, 5, norm=False, padding=2), given),
        ModuleRow("1x1, 16; 5x5, 32", lambda: reduced(480, 16, 32, 5), given),
    ]


def _head_rows() -> list[ModuleRow]:
    last = (1024, 7, 7)
    table1 = Published(1000 * 1024, 1.024e6, "arXiv 1409.4842, Table 1", "prints 1000K and 1M")
    return [
        ModuleRow("fully connected, 1000", lambda: FullyConnectedHead(1024, 7, 1000), last),
        ModuleRow("averaged, 1000", lambda: AveragePooledHead(1024, 1000), last, table1),
    ]


def _grid_rows() -> list[ModuleRow]:
    """35 x 35 x 288 to 17 x 17 x 768, the halving that Inception-v3 needs first."""
    given = (288, 35, 35)
    return [
        ModuleRow("convolution, then pool (figure 9)", lambda: ConvThenPool(288, 768), given),
        ModuleRow("pool, then convolution (figure 9)", lambda: PoolThenConv(288, 768), given),
        ModuleRow("side by side (figure 10)", lambda: parallel_reduction(288, 384, 96), given),
    ]


def _step_rows() -> list[ModuleRow]:
    """From Inception-v2 to v3, with auxiliary head; each row adds one option to the one above."""
    given = (3, 299, 299)
    paper = "arXiv 1512.00567, Table 3"

    def two(**options: Any) -> Callable[[], nn.Module]:
        return lambda: inception_v2(1000, auxiliary=True, **options)

    v2 = Published(None, 3.8e9, paper, "see inception_v2 in the table of networks")
    v3 = Published(None, 4.8e9, paper, "the paper's step to it costs 1.0G")
    released = Published(27_161_264, 5.713e9, "torchvision's meta data")
    training = Published(None, 3.8e9, paper, "settings of the training")
    return [
        ModuleRow("Inception-v2, 7x7 first", two(factorised_stem=False), given, v2),
        ModuleRow("+ RMSProp, label smoothing", two(factorised_stem=False), given, training),
        ModuleRow("+ factorised 7x7 (as Table 1)", two(), given, v3),
        ModuleRow("+ BN-auxiliary", two(norm_auxiliary=True), given, v3._replace(note="")),
        ModuleRow(
            "released layout: Inception-v3",
            lambda: InceptionV3(1000, auxiliary=True),
            given,
            released,
        ),
    ]


class ModuleTable(NamedTuple):
    """Rows to be compared; of `steps` each row is the one above and one option more."""

    title: str
    rows: Callable[[], list[ModuleRow]]
    steps: bool = False


MODULE_TABLES = (
    ModuleTable("the Inception module on 28 x 28 x 192", _inception_rows),
    ModuleTable("a 5x5 convolution on 14 x 14 x 480", _reduction_rows),
    ModuleTable("the last layer on 7 x 7 x 1024", _head_rows),
    ModuleTable("halving 35 x 35 x 288 to 17 x 17 x 768", _grid_rows),
    ModuleTable("from Inception-v2 to v3", _step_rows, steps=True),
)
