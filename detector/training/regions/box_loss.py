"""Box regression learnt together with the classes (Girshick 2015, "Fast R-CNN", section 2.3).

A linear layer beside the last one predicts box deltas for each class, and their shared features are
trained for both. R-CNN fits it afterwards, on features trained for classes alone
(heads/bbox_regression.py). The learnt layer is saved as such a head.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from detector.detection.bundle import load_bundle
from detector.errors import SettingsError
from detector.heads.linear import BoxRegression
from detector.settings import Settings
from detector.structures import Array
from detector.training.engine.network import MemberConfig

LAYER = "boxes"  # its name in the network while it is trained

# Units of the predicted deltas, so that all four weigh alike (Fast R-CNN's numbers).
SPREAD = (0.1, 0.1, 0.2, 0.2)


class BoxLossSettings(Settings):
    """Weight of the box loss beside the class loss."""

    weight: float = Field(1.0, gt=0)
    """Of the smooth L1 loss of the regions on objects (Fast R-CNN's lambda)."""


class RegionOutput(NamedTuple):
    """Logits (N, K+1), and box deltas (N, 4 K) in units of SPREAD."""

    logits: Tensor
    deltas: Tensor


def add_layer(network: nn.Module, classes: int, start: BoxRegression | None = None) -> None:
    """Give the network its box layer for `classes` classes, started from the head `start` or nearly
    at zero, on the device of its last layer. Raises SettingsError for a network that does not end
    in one linear layer.
    """
    last = network.get_submodule("classifier")
    if not isinstance(last, nn.Linear) or getattr(network, "auxiliary", None):
        raise SettingsError(
            "box_loss: the network must end in one linear layer, without auxiliary heads"
        )
    layer = nn.Linear(last.in_features, 4 * classes)
    nn.init.normal_(layer.weight, std=0.001)  # as Fast R-CNN, section 2.3
    nn.init.zeros_(layer.bias)
    if start is not None:
        unit = _units(classes)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(start.weight / unit[:, None]))
            layer.bias.copy_(torch.from_numpy(start.bias / unit))
    network.add_module(LAYER, layer.to(last.weight.device))


def regression_of_start(
    member: MemberConfig, classes: Sequence[str], root: str | Path = "."
) -> BoxRegression | None:
    """The box regression of the bundle that a network starts from, if it has one for the same
    classes.
    """
    path = None if member.weights is None else Path(root) / member.weights
    if path is None or not path.is_dir():
        return None
    bundle = load_bundle(path, members=member.start_member + 1)
    if bundle.manifest.network_classes != tuple(classes):
        return None
    return bundle.heads_of(member.start_member, bundle.manifest.heads).regression


class WithDeltas:
    """The forward pass of a network with both layers: inputs to a RegionOutput."""

    def __init__(self, network: nn.Module) -> None:
        self.network: Any = network
        self.dropout = getattr(network, "dropout", nn.Identity())

    def __call__(self, inputs: Tensor) -> RegionOutput:
        features = self.network.features(inputs)
        logits = self.network.classifier(self.dropout(features))
        # Deltas need float32's precision.
        with torch.autocast(features.device.type, enabled=False):
            return RegionOutput(logits, self.network.boxes(features.float()))


def box_loss(deltas: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 loss (N,) of the deltas of each region's own class; 0 for background.

    deltas   (N, 4 K) as the layer gives them
    targets  (N, 4) as `heads.bbox_regression.encode_deltas` gives them
    labels   (N,), K for background
    """
    deltas = deltas.float().view(len(deltas), deltas.shape[1] // 4, 4)
    classes = deltas.shape[1]
    objects = labels < classes
    # Background has no deltas: it takes the last class's, whose loss is dropped below.
    of_label = deltas[
        torch.arange(len(deltas), device=deltas.device), labels.clamp(max=classes - 1)
    ]
    scaled = targets.float() / targets.new_tensor(SPREAD)
    losses = F.smooth_l1_loss(of_label, scaled, reduction="none").sum(1)
    return torch.where(objects, losses, 0.0)


def split_head(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], BoxRegression | None]:
    """Split a trained state into the state without the layer, and the layer as a head; None if
    there is none.
    """
    rest = {name: value for name, value in state.items() if not name.startswith(f"{LAYER}.")}
    if len(rest) == len(state):
        return rest, None
    weight, bias = (state[f"{LAYER}.{name}"].detach().cpu().numpy() for name in ("weight", "bias"))
    unit = _units(len(bias) // 4)
    return rest, BoxRegression(weight * unit[:, None], bias * unit)


def _units(classes: int) -> Array:  # (4 K,) from the layer's outputs to box deltas
    return np.tile(np.array(SPREAD, np.float32), classes)
