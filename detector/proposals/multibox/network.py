"""MultiBox's heads: locations and confidences of K boxes from the feature map of a trunk.

arXiv 1312.2249, section 3.1: locations are 4K linear outputs, confidences K outputs through a
sigmoid, of the network's last hidden layer. arXiv 1412.1441 makes them convolutional: each cell of
a grid predicts its own priors.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from detector.models.inception import initialise
from detector.models.layers import ConvReLU
from detector.models.split import Trunk
from detector.proposals.multibox.priors import SHAPES, Priors
from detector.settings import Settings

# Expected share of matched predictions before training; it sets the bias of the confidences.
EXPECTED_SHARE = 0.002


class HeadSettings(Settings):
    """Size and kind of the heads on the trunk."""

    priors: Literal[50, 100, 200, 400, 800] | Literal["grids"] = "grids"
    """K free priors, or the 1,420 on grids."""
    width: int = Field(128, ge=8, le=4096)
    """Channels of the convolutions between the trunk and the outputs."""
    hidden: int = Field(512, ge=8, le=8192)
    """Units of the layer under free priors (the paper's network has 4,096)."""
    dropout: float = Field(0.1, ge=0, lt=1)


class Standardise(nn.Module):
    """Divide each channel by its standard deviation, which `measure` takes from sample maps."""

    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def measure(self, maps: Tensor) -> None:
        """Measure the deviations on maps (N, C, h, w)."""
        deviation = maps.float().std((0, 2, 3))
        # A floor of a twentieth of the mean keeps channels that are nearly dead from blowing up.
        self.deviation.copy_(deviation.clamp_min(0.05 * float(deviation.mean()) + 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x / self.deviation.to(x.dtype)[:, None, None]


class FreeHeads(nn.Module):
    """Maps (N, C, h, w) to locations (N, K, 4) and confidence logits (N, K) of free priors."""

    def __init__(self, shape: tuple[int, int, int], count: int, settings: HeadSettings) -> None:
        super().__init__()
        self.standardise = Standardise(shape[0])
        self.reduce = ConvReLU(shape[0], settings.width // 2, 1, norm=False)
        self.hidden = nn.Linear(settings.width // 2 * 7 * 7, settings.hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.location = nn.Linear(settings.hidden, 4 * count)
        self.confidence = nn.Linear(settings.hidden, count)
        initialise(self)
        _start_at_the_priors(self.location, self.confidence)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        # To 7 x 7 from any input size, which the linear layer needs.
        x = F.adaptive_avg_pool2d(self.reduce(self.standardise(maps)), 7).flatten(1)
        x = self.dropout(F.relu(self.hidden(x)))
        return self.location(x).unflatten(1, (-1, 4)).float(), self.confidence(x).float()


class GridHeads(nn.Module):
    """Maps (N, C, h, w) to locations (N, K, 4) and confidence logits (N, K) of priors on grids.

    For a grid of g x g cells the map is averaged to 2g x 2g, and a 4 x 4 filter at stride 2 sees a
    cell's four quarters and half of its neighbours.
    """

    def __init__(
        self, shape: tuple[int, int, int], grids: tuple[int, ...], settings: HeadSettings
    ) -> None:
        super().__init__()
        width = settings.width
        self.standardise = Standardise(shape[0])
        self.reduce = ConvReLU(shape[0], width, 1, norm=False)
        self.context = ConvReLU(width, width, 3, norm=False, padding=1)
        self.sides = (*grids, 1)  # and the one prior of the whole image
        cells = [ConvReLU(width, width, 4, norm=False, stride=2, padding=1) for _ in self.sides]
        self.cells = nn.ModuleList(cells)
        self.dropout = nn.Dropout(settings.dropout)
        counts = [SHAPES] * len(grids) + [1]
        self.locations = nn.ModuleList(nn.Conv2d(width, 4 * n, 1) for n in counts)
        self.confidences = nn.ModuleList(nn.Conv2d(width, n, 1) for n in counts)
        initialise(self)
        for location, confidence in zip(self.locations, self.confidences, strict=True):
            _start_at_the_priors(location, confidence)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        x = self.context(self.reduce(self.standardise(maps)))
        locations, logits = [], []
        parts = zip(self.sides, self.cells, self.locations, self.confidences, strict=True)
        for side, cell, location, confidence in parts:
            features = self.dropout(cell(F.adaptive_avg_pool2d(x, 2 * side)))
            locations.append(location(features).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
            logits.append(confidence(features).permute(0, 2, 3, 1).flatten(1))
        return torch.cat(locations, 1).float(), torch.cat(logits, 1).float()


class MultiBoxNetwork(nn.Module):
    """Crops (N, 3, S, S) to locations (N, K, 4) and confidence logits (N, K)."""

    def __init__(self, trunk: Trunk, heads: nn.Module) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, heads

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.trunk(crops))


def build_heads(
    shape: tuple[int, int, int], priors: Priors, settings: HeadSettings
) -> FreeHeads | GridHeads:
    """Build the heads for these priors on maps of `shape` (C, h, w)."""
    if priors.grids:
        return GridHeads(shape, priors.grids, settings)
    return FreeHeads(shape, len(priors), settings)


def _start_at_the_priors(location: nn.Module, confidence: nn.Module) -> None:
    # So each prediction begins near its prior, and almost certainly no object.
    for layer, bias in (
        (location, 0.0),
        (confidence, math.log(EXPECTED_SHARE / (1 - EXPECTED_SHARE))),
    ):
        nn.init.normal_(layer.get_parameter("weight"), 0, 0.01)
        nn.init.constant_(layer.get_parameter("bias"), bias)
