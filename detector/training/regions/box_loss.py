"""Box regression learnt together with the classes (Girshick 2015, "Fast R-CNN", section 2.3).

A linear layer beside the last one predicts how each class would move a region; the features that
both see are trained for both. R-CNN fitted it afterwards, on features that knew nothing of places
(heads/bbox_regression.py). What is learnt here is saved as that head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import SettingsError
from detector.heads.linear import BoxRegression
from detector.settings import Settings
from detector.structures import Array

LAYER = "boxes"
"""The layer's name in the network while it is trained."""

SPREAD = (0.1, 0.1, 0.2, 0.2)
"""The layer predicts moves in these units, so that all four weigh alike (Fast R-CNN's numbers)."""


class BoxLossSettings(Settings):
    """How much places count beside classes."""

    weight: float = Field(1.0, gt=0)
    """Of the smooth L1 loss of the regions on objects (Fast R-CNN's lambda)."""


class RegionOutput(NamedTuple):
    """Logits (N, K+1), and moves (N, 4 K) in units of SPREAD."""

    logits: Tensor
    moves: Tensor


def add_layer(network: nn.Module, classes: int, start: BoxRegression | None = None) -> None:
    """Give the network its layer for `classes` classes, on the device of its last layer; it begins
    as the head `start`, or nearly at zero.
    """
    last = network.get_submodule("classifier")
    if not isinstance(last, nn.Linear) or getattr(network, "auxiliary", None):
        raise SettingsError(
            "box_loss: the network must end in one linear layer, without auxiliary heads"
        )
    layer = nn.Linear(last.in_features, 4 * classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    if start is not None:
        unit = _units(classes)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(start.weight / unit[:, None]))
            layer.bias.copy_(torch.from_numpy(start.bias / unit))
    network.add_module(LAYER, layer.to(last.weight.device))


class WithMoves:
    """The network's forward pass with both layers: inputs to a RegionOutput."""

    def __init__(self, network: nn.Module) -> None:
        self.network: Any = network
        self.dropout = getattr(network, "dropout", nn.Identity())

    def __call__(self, inputs: Tensor) -> RegionOutput:
        features = self.network.features(inputs)
        logits = self.network.classifier(self.dropout(features))
        with torch.autocast(features.device.type, enabled=False):  # places want the digits
            return RegionOutput(logits, self.network.boxes(features.float()))


def box_loss(moves: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 of each region's own class: moves (N, 4 K), targets (N, 4) as
    `heads.bbox_regression.encode_deltas` gives them, labels (N,), K for background, to (N,); 0 for
    background.
    """
    moves = moves.float().view(len(moves), moves.shape[1] // 4, 4)
    classes = moves.shape[1]
    objects = labels < classes
    own = moves[torch.arange(len(moves), device=moves.device), labels.clamp(max=classes - 1)]
    wanted = targets.float() / targets.new_tensor(SPREAD)
    losses = F.smooth_l1_loss(own, wanted, reduction="none").sum(1)
    return torch.where(objects, losses, 0.0)


def split_head(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], BoxRegression | None]:
    """A trained state without the layer, and the layer as a head; None where there is none."""
    rest = {name: value for name, value in state.items() if not name.startswith(f"{LAYER}.")}
    if len(rest) == len(state):
        return rest, None
    weight, bias = (state[f"{LAYER}.{name}"].detach().cpu().numpy() for name in ("weight", "bias"))
    unit = _units(len(bias) // 4)
    return rest, BoxRegression(weight * unit[:, None], bias * unit)


def _units(classes: int) -> Array:
    """(4 K,) what the layer's outputs are multiplied by to be moves."""
    return np.tile(np.array(SPREAD, np.float32), classes)
