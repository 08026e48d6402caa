"""GoogLeNet in its three published forms (arXiv 1409.4842, "Going deeper with convolutions")."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.inception import Inception, StagedNetwork, Widths
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool, SeparableConvReLU

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. Stages 3, 4 and 5 each begin with
# a max-pool.
TABLE1: dict[str, Widths] = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
AUXILIARY_AFTER = ("4a", "4d")  # section 5

# Section 7: the ensemble is six networks "and one wider version".
# Departs from the paper: it does not say how much wider. Every width times 5/4 keeps all of Table 1
# whole numbers and costs 1.5 times as much.
WIDER = 1.25

# v1: response normalisation and 5x5 kernels, as published. bn: batch normalisation in their place
# (arXiv 1502.03167, the "BN-Baseline"). torchvision: bn with 3x3 kernels in the "5x5" branch and a
# 2x2 fourth pool, as torchvision's port.
Form = Literal["v1", "bn", "torchvision"]


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier (section 5): 5x5/3 average pool, 128 1x1 filters, 1024 units."""

    def __init__(self, inputs: int, num_outputs: int, *, form: Form, dropout: float = 0.7) -> None:
        super().__init__()
        self.form = form
        self.conv = ConvReLU(inputs, 128, 1, norm=form != "v1")
        self.hidden = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "torchvision":
            x = F.adaptive_avg_pool2d(x, 4)
        elif x.shape[-2:] == (14, 14):
            x = F.avg_pool2d(x, 5, stride=3)
        else:
            raise ValueError(
                f"auxiliary heads as published need a 14 x 14 grid, not {tuple(x.shape[-2:])}: "
                "train with 224-pixel input, or with auxiliary=False"
            )
        x = F.relu(self.hidden(self.conv(x).flatten(1)))
        return self.classifier(self.dropout(x))


class GoogLeNet(StagedNetwork):
    """GoogLeNet; S is 224 in the paper, and without auxiliary heads any S >= 32 works.

    `dropout` is 0.4 as published unless given (torchvision: 0.2). `width` multiplies the channels
    of the trunk. `separable_first` makes the first layer separable, at the cost that Table 1 prints
    for it (2.7K, 34M); public weights have the plain 7x7. `double_three` replaces each 5x5 by two
    3x3: with form "bn", the network in the text of arXiv 1502.03167.
    """

    stem_layers = ("conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2")

    def __init__(
        self,
        num_outputs: int,
        *,
        form: Form = "v1",
        auxiliary: bool = False,
        dropout: float | None = None,
        width: float = 1.0,
        separable_first: bool = False,
        double_three: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if form not in ("v1", "bn", "torchvision"):
            raise ValueError(f"form {form!r} is not one of 'v1', 'bn', 'torchvision'")
        if not 1 / 16 <= width <= 16:
            raise ValueError(f"width {width} is not a factor from 1/16 to 16")
        norm, ported = form != "v1", form == "torchvision"
        first, channels = round(64 * width), round(192 * width)
        layer = SeparableConvReLU if separable_first else ConvReLU
        self.conv1 = layer(3, first, 7, norm=norm, stride=2, padding=3)
        self.pool1 = MaxPool(stride=2, ceil=True)
        self.norm1 = nn.Identity() if norm else LocalResponseNorm(first)
        self.conv2_reduce = ConvReLU(first, first, 1, norm=norm)
        self.conv2 = ConvReLU(first, channels, 3, norm=norm, padding=1)
        self.norm2 = nn.Identity() if norm else LocalResponseNorm(channels)
        self.begin_stages()
        for name in ("3a", "4a", "5a"):
            kernel = 2 if ported and name == "5a" else 3
            self.pools[name] = MaxPool(kernel, stride=2, ceil=True)
        for name, published in TABLE1.items():
            widths = published.times(width)
            self.inception[name] = Inception(
                channels, widths, norm=norm, five_kernel=3 if ported else 5,
                double_three=double_three,
            )  # fmt: skip
            channels = widths.out
            if auxiliary and name in AUXILIARY_AFTER:
                self.auxiliary[name] = AuxiliaryHead(channels, num_outputs, form=form)
        if dropout is None:  # torchvision departs from Table 1
            dropout = 0.2 if ported else 0.4
        self.finish(channels, num_outputs, dropout, generator)
