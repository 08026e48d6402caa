"""The costs of networks and of their modules, beside the published figures.

    python experiments/network_costs.py            # the table of networks in docs/networks.md
    python experiments/network_costs.py --modules  # those of modules, on the same page

Parameters and multiply-adds of one input; biases and norms are parameters, not multiply-adds.
Networks stand on torch's meta device, where shapes are all there is, so nothing is computed.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detector.models import build_model
from detector.models.googlenet import TABLE1
from detector.models.inception import Inception, Widths
from detector.models.inception_v3 import InceptionV3, inception_v2
from detector.models.layers import ConvReLU, MaxPool
from detector.models.mixed import Halving, Mixed

Shape = tuple[int, int, int]


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int


def cost(build: Callable[[], nn.Module], shape: Shape) -> Cost:
    """Count the network that `build` makes, for one input of `shape` (C, H, W)."""
    # In evaluation auxiliary heads do not run: they count as parameters, not as operations.
    with torch.device("meta"):
        model, x = build().eval(), torch.empty(1, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    # torch counts a multiply-add as two operations.
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


class Row(NamedTuple):
    """A network or module, its input (C, H, W), and what is published of it, if anything is."""

    name: str
    build: Callable[[], nn.Module]
    shape: Shape
    parameters: float | None = None
    multiply_adds: float | None = None
    note: str = ""


def network(
    architecture: str,
    parameters: float | None,
    multiply_adds: float | None,
    note: str,
    size: int = 224,
    **options: bool,
) -> Row:
    name = ", ".join([architecture, *(f"{key}={value}" for key, value in options.items())])
    build = partial(build_model, architecture, 1000, **options)
    return Row(name, build, (3, size, size), parameters, multiply_adds, note)


PAPER1 = "arXiv 1409.4842, columns of Table 1 added up (K is 1024 there)"
PAPER3 = "arXiv 1512.00567, Table 3"
TORCHVISION = "torchvision's meta data"
NETWORKS = [
    # Twice: with a plain 7x7 first, and with the separable one whose cost Table 1 prints.
    network("googlenet", 6797.7 * 1024, 1.502e9, f"{PAPER1}; 2.7K and 34M, Table 1's conv1, are the"
            " cost of a separable one: the plain 7x7 does 118M"),
    network("googlenet", 6797.7 * 1024, 1.502e9, PAPER1, separable_first=True),
    network("wide_googlenet", None, None, "the wider network of the ensemble; 5/4 of all widths is"
            " our choice"),
    network("bn_googlenet", None, 1.5e9, f"{PAPER3}; 1.499G with separable_first=True"),
    network("torchvision_googlenet", 6_624_904, 1.498e9, TORCHVISION),
    network("bn_googlenet", 13.6e6, None, "arXiv 1502.03167, section 4.2; our reading of its text,"
            " by this count: two 3x3 of up to 128 filters, with both heads",
            auxiliary=True, separable_first=True, double_three=True),
    network("bn_inception", 13.6e6, 2.0e9, "arXiv 1502.03167 (parameters), 1512.00567 (operations);"
            " 13.6M is the network of the text, a row above; figure 5, this one, adds up to 11.26M"
            " weights and has up to 256 filters there; 2.0G is printed with two digits"),
    network("bn_inception", None, 3.8e9, f'{PAPER3}, its "Inception-v2"', 299),
    network("inception_v2", None, 3.8e9, f"{PAPER3}; the layers of Table 1, whose stem alone,"
            " printed in full, costs 1.63G; 3.8G is what bn_inception costs at 299 pixels, stem"
            " 0.86G", 299),
    network("inception_v3", 23_834_568, 5.713e9, f"{TORCHVISION} (parameters less the auxiliary"
            " head); the paper says 4.8G (Table 3) and 5G (abstract)", 299),
    network("nin", 7.6e6, None, "Caffe model zoo, a 29 MB file of float32"),
    network("alexnet", 61_100_840, 0.714e9, TORCHVISION),
    network("vgg16", 138_357_544, 15.47e9, TORCHVISION),
    network("resnet50", 25_557_032, 4.089e9, TORCHVISION),
    network("densenet121", 7_978_856, 2.834e9, TORCHVISION),
]  # fmt: skip


class WithoutReductions(nn.Module):
    """GoogLeNet's module with 3x3 and 5x5 on all channels; `naive` (figure 2a) keeps the whole
    pool too, so that with every module the maps get deeper.
    """

    def __init__(self, inputs: int, widths: Widths, *, naive: bool) -> None:
        super().__init__()
        pool: list[nn.Module] = [MaxPool(stride=1, padding=1, ceil=False)]
        if not naive:
            pool.append(ConvReLU(inputs, widths.pool, 1, norm=False))
        self.branches = nn.ModuleList(
            [
                ConvReLU(inputs, widths.one, 1, norm=False),
                ConvReLU(inputs, widths.three, 3, norm=False, padding=1),
                ConvReLU(inputs, widths.five, 5, norm=False, padding=2),
                nn.Sequential(*pool),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def chain(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer() for layer in layers))


def conv(
    inputs: int, outputs: int, kernel: int, other: int | None = None
) -> Callable[[], nn.Conv2d]:
    """A plain convolution without bias that keeps the grid, kernel x other (kernel)."""
    sides = kernel, kernel if other is None else other
    return partial(nn.Conv2d, inputs, outputs, sides, padding="same", bias=False)


def behind(inputs: int, between: int, outputs: int) -> Callable[[], nn.Module]:
    """A 5x5 convolution behind a 1x1 reduction."""
    return chain(
        partial(nn.Conv2d, inputs, between, 1), partial(nn.Conv2d, between, outputs, 5, padding=2)
    )


def halved(*, pool_first: bool) -> nn.Module:
    """Figure 9 of arXiv 1512.00567: a bottleneck if the pool comes first, expensive if last."""
    pool = MaxPool(stride=2, ceil=False)
    convolution = ConvReLU(288, 768, 3, norm=True, padding=1)
    return nn.Sequential(*((pool, convolution) if pool_first else (convolution, pool)))


def side_by_side() -> nn.Module:
    """Figure 10, and module 6a of Inception-v3: convolutions and a pool, all ending at stride 2."""
    pool = MaxPool(stride=2, ceil=False)
    return Mixed(288, [[Halving(384)], [(64, 1), (96, 3), Halving(96)]], pool, 0)


# Inputs (C, H, W): of 3a, of 4a, of the last layer, of v3's first reduction, and a photograph.
ON_28, ON_14, LAST, ON_35, WHOLE = (
    (192, 28, 28), (480, 14, 14), (1024, 7, 7), (288, 35, 35), (3, 299, 299),
)  # fmt: skip
ON_40, ON_17 = (200, 40, 40), (64, 17, 17)
WIDTHS = TABLE1["3a"]
SAVED = "{saved:+.1%} against the row above; published: "


def v2(**options: Any) -> Callable[[], nn.Module]:
    return partial(inception_v2, 1000, auxiliary=True, **options)


MODULES = {
    "the Inception module on 28 x 28 x 192": [
        Row("3a, naive (figure 2a)", partial(WithoutReductions, 192, WIDTHS, naive=True), ON_28),
        Row("3a, no reductions", partial(WithoutReductions, 192, WIDTHS, naive=False), ON_28),
        Row("3a (figure 2b)", partial(Inception, 192, WIDTHS, norm=False), ON_28, 159 * 1024,
            128e6, "arXiv 1409.4842, Table 1"),
    ],
    "a 5x5 convolution and its reduction": [
        Row("5x5, 48 filters", partial(nn.Conv2d, 480, 48, 5, padding=2), ON_14, None, 112.9e6,
            "text books"),
        Row("1x1, 16; 5x5, 48", behind(480, 16, 48), ON_14, None, 5.3e6, "text books"),
        Row("5x5, 20 filters", partial(nn.Conv2d, 200, 20, 5, padding=2), ON_40, None, 160e6,
            "text books; the shape is ours, and fits both figures"),
        Row("1x1, 40; 5x5, 20", behind(200, 40, 20), ON_40, None, 44.8e6, "text books"),
    ],
    "a factorised kernel on 17 x 17 x 64": [
        Row("5x5", conv(64, 64, 5), ON_17),
        Row("two 3x3", chain(conv(64, 64, 3), conv(64, 64, 3)), ON_17, None, None, SAVED + "-28 %"),
        Row("7x7", conv(64, 64, 7), ON_17),
        Row("three 3x3", chain(*[conv(64, 64, 3)] * 3), ON_17, None, None, SAVED + "-45 %"),
        Row("3x3", conv(64, 64, 3), ON_17),
        Row("1x3, 3x1", chain(conv(64, 64, 1, 3), conv(64, 64, 3, 1)), ON_17, None, None,
            SAVED + "-33 %"),
    ],
    "the last layer on 7 x 7 x 1024": [
        Row("fully connected, 1000", chain(nn.Flatten, partial(nn.Linear, 49 * 1024, 1000)), LAST),
        Row("averaged, 1000", chain(partial(nn.AvgPool2d, 7), nn.Flatten,
            partial(nn.Linear, 1024, 1000)), LAST, 1000 * 1024, 1.024e6,
            "arXiv 1409.4842, Table 1; prints 1000K and 1M"),
    ],
    "halving 35 x 35 x 288 to 17 x 17 x 768 (arXiv 1512.00567)": [
        Row("convolution, then pool (figure 9)", partial(halved, pool_first=False), ON_35),
        Row("pool, then convolution (figure 9)", partial(halved, pool_first=True), ON_35),
        Row("side by side (figure 10)", side_by_side, ON_35),
    ],
    "from Inception-v2 to v3, each row one option more": [
        Row("Inception-v2, 7x7 first", v2(factorised_stem=False), WHOLE, None, 3.8e9,
            f"{PAPER3}; see inception_v2 in the table of networks"),
        Row("+ factorised 7x7 (as Table 1)", v2(), WHOLE, None, 4.8e9,
            f"{PAPER3}; the paper's step to it costs 1.0G"),
        Row("+ BN-auxiliary", v2(norm_auxiliary=True), WHOLE, None, 4.8e9, PAPER3),
        Row("released layout: Inception-v3", partial(InceptionV3, 1000, auxiliary=True), WHOLE,
            27_161_264, 5.713e9, TORCHVISION),
    ],
}  # fmt: skip


def table(title: str, rows: list[Row]) -> None:
    """Print a table in Markdown."""
    print(f"| {title} | input | parameters | published | multiply-adds | published | note |")
    print("|---|---|---|---|---|---|---|")
    above = 1
    for row in rows:
        found = cost(row.build, row.shape)
        channels, height, width = row.shape
        cells = [
            row.name, f"{height}x{width}x{channels}", short(found.parameters),
            sibling(found.parameters, row.parameters), short(found.multiply_adds),
            sibling(found.multiply_adds, row.multiply_adds),
            row.note.format(saved=found.multiply_adds / above - 1),
        ]  # fmt: skip
        above = found.multiply_adds
        print("| " + " | ".join(cells) + " |")


def short(number: float) -> str:
    """Format a number with four digits: 112.9M, 1.583G."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.4g}{letter}"
    return f"{number:.4g}"


def sibling(counted: int, published: float | None) -> str:
    """Format the published figure, and our count's difference from it in per cent."""
    if published is None:
        return "-"
    away = round(counted / published - 1, 3) + 0.0  # no "-0.0%"
    return f"{short(published)} ({away:+.1%})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What networks cost, as tables in Markdown.")
    parser.add_argument("--modules", action="store_true", help="modules in place of networks")
    if parser.parse_args().modules:
        for title, rows in MODULES.items():
            table(title, rows)
            print()
    else:
        table("network", NETWORKS)
