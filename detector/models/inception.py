"""The Inception module (arXiv 1409.4842, section 4 and figure 2b), and networks made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.input_normalisation import CENTRED, Normalisation
from detector.models.layers import ConvReLU, MaxPool, SeparableConvReLU


class Widths(NamedTuple):
    """Channel widths of one Inception module, in the column order of Table 1."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int

    @property
    def out(self) -> int:
        return self.one + self.three + self.five + self.pool

    def times(self, factor: float) -> Widths:
        """Multiply every width by `factor` and round."""
        return Widths(*(round(width * factor) for width in self))


class Inception(nn.Module):
    """Four parallel branches: 1x1, reduced 3x3, reduced 5x5, and a projected 3x3 max-pool.

    With `double_three` the 5x5 is two 3x3 of the same width (arXiv 1502.03167, section 4.2).
    """

    def __init__(
        self,
        inputs: int,
        widths: Widths,
        *,
        norm: bool,
        five_kernel: int = 5,
        double_three: bool = False,
    ) -> None:
        super().__init__()
        self.one = ConvReLU(inputs, widths.one, 1, norm=norm)
        self.reduce3 = ConvReLU(inputs, widths.reduce3, 1, norm=norm)
        self.three = ConvReLU(widths.reduce3, widths.three, 3, norm=norm, padding=1)
        self.reduce5 = ConvReLU(inputs, widths.reduce5, 1, norm=norm)
        self.five: nn.Module = ConvReLU(
            widths.reduce5, widths.five, five_kernel, norm=norm, padding=five_kernel // 2
        )
        if double_three:
            self.five = nn.Sequential(
                ConvReLU(widths.reduce5, widths.five, 3, norm=norm, padding=1),
                ConvReLU(widths.five, widths.five, 3, norm=norm, padding=1),
            )
        self.pool = MaxPool(stride=1, padding=1, ceil=False)
        self.project = ConvReLU(inputs, widths.pool, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.one(x),
                self.three(self.reduce3(x)),
                self.five(self.reduce5(x)),
                self.project(self.pool(x)),
            ],
            1,
        )


def initialise(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Initialise with Xavier weights and bias 0.2 (as BVLC's), or He weights under batch norm."""
    for module in model.modules():
        if isinstance(module, ConvReLU) and module.bn is None and module.conv.bias is not None:
            nn.init.xavier_uniform_(module.conv.weight, generator=generator)
            nn.init.constant_(module.conv.bias, 0.2)
        elif isinstance(module, SeparableConvReLU):
            nn.init.xavier_uniform_(module.depthwise.weight, generator=generator)
        elif isinstance(module, ConvReLU):
            nn.init.kaiming_normal_(module.conv.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)


def run_blocks(
    x: Tensor, blocks: nn.ModuleDict, pools: nn.ModuleDict
) -> Iterator[tuple[str, Tensor]]:
    """Yield the output of each module in turn; a pool comes before the module of its name."""
    for name, block in blocks.items():
        x = block(pools[name](x) if name in pools else x)
        yield name, x


class StagedNetwork(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs), through Inception modules that have names.

    A stem, the modules, an average over the last map, dropout and one linear layer. In training a
    network with auxiliary heads returns a tuple: its own logits and each head's (N, num_outputs).
    """

    stem_layers: tuple[str, ...] = ("stem",)  # attributes of the layers before the first module
    can_be_cut = True  # where the modules follow one another as `models.split` runs them
    normalisation: Normalisation

    def __init__(self, normalisation: Normalisation = CENTRED) -> None:
        super().__init__()
        self.normalisation = normalisation

    def begin_stages(self) -> None:
        """Make room for the modules, the pools before them, and the heads on their maps.

        Call it after the stem is made: layers are initialised and saved in order of creation.
        """
        self.pools, self.inception, self.auxiliary = (nn.ModuleDict() for _ in range(3))

    def finish(
        self, channels: int, num_outputs: int, dropout: float, generator: torch.Generator | None
    ) -> None:
        """Add dropout and the linear layer, and initialise all layers."""
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_outputs)
        initialise(self, generator)

    def stages(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each module in turn, with its name."""
        for layer in self.stem_layers:
            x = self.get_submodule(layer)(x)
        yield from run_blocks(x, self.inception, self.pools)

    def features(self, x: Tensor) -> Tensor:
        """Average over the last map, the input of the linear layer: (N, F) float32."""
        for _, last in self.stages(x):
            x = last
        return x.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits: Tensor
        if not (self.training and self.auxiliary):
            logits = self.classifier(self.dropout(self.features(x)))
            return logits
        extra = []
        for name, x in self.stages(x):  # noqa: B020 the input is not needed again
            if name in self.auxiliary:
                extra.append(self.auxiliary[name](x))
        logits = self.classifier(self.dropout(x.mean((2, 3), dtype=torch.float32)))
        return logits, *extra
