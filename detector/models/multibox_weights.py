"""The network that google/multibox released (arXiv 1312.2249): a BN-Inception that proposes boxes.

Its names, widths and shapes are public: Caffe2's `conv2d0`, `mixed3a_3x3d_bottleneck`, ..., each
with `_w` (outputs, height, width, inputs) and `_b`. A port that copied the definition's numbers
shows Caffe2's `legacy_pad`: SAME (2) everywhere, VALID (1) in the 3x3 average pool at stride 2
between 5b and the first of the fully connected layers, whose 9,216 inputs it explains.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import WeightsError
from detector.models.bn_inception import RELEASED, BNInception
from detector.models.inception import ConvReLU
from detector.models.normalisation import Normalisation
from detector.models.pretrained import fit, replace_classifier

BOXES = 800
_BRANCHES = ("1x1", "3x3_bottleneck", "3x3", "3x3d_bottleneck", "3x3d_pre", "3x3d", "pool_reduce")
_HALVING = _BRANCHES[1:-1]
HEADS = {
    "hidden.0": "nn0",
    "hidden.1": "nn1",
    "location": "imagenet_location_projection",
    "confidence": "imagenet_confidence_projection",
}
# Pixels in 0..1 less 0.5.
LESS_HALF = Normalisation((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def trunk_names() -> list[str]:
    """The names of the convolutions in the order of the network, without `_w` and `_b`."""
    names = ["conv2d0", "conv2d1", "conv2d2"]
    for block, widths in RELEASED.items():
        parts = _BRANCHES if widths.one else _HALVING
        names += [f"mixed{block}_{part}" for part in parts]
    return names


class ReleasedMultiBox(nn.Module):
    """Crops (N, 3, 224, 224) to locations (N, 800, 4) and confidence logits (N, 800).

    A box is location * std + mean of its prior (`ipriors800.txt`): xmin, ymin, xmax, ymax in units
    of the image's sides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalisation = LESS_HALF
        self.trunk = BNInception(1, form="multibox")
        del self.trunk.classifier  # boxes come from the map itself, not from its mean
        self.hidden = nn.ModuleList([nn.Linear(1024 * 3 * 3, 4096), nn.Linear(4096, 4096)])
        self.location = nn.Linear(4096, 4 * BOXES)
        self.confidence = nn.Linear(4096, BOXES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.avg_pool2d(self.trunk.last_map(x), 3, stride=2).flatten(1)
        for layer in self.hidden:
            x = layer(x).clamp(0, 6)
        return self.location(x).view(-1, BOXES, 4), self.confidence(x)


def load_released_multibox(
    tensors: Mapping[str, Tensor], source: str = "google/multibox"
) -> ReleasedMultiBox:
    """The whole released network from its own tensors (`read_caffe2_tensors`), exactly."""
    model = ReleasedMultiBox()
    ours = {f"trunk.{name}": value for name, value in _trunk(model.trunk, tensors, source).items()}
    for layer, theirs in HEADS.items():
        weight = _get(tensors, f"{theirs}_w", source)
        if weight.ndim == 4:  # (outputs, height, width, inputs); ours flattens channels first
            weight = weight.permute(0, 3, 1, 2)
        ours[f"{layer}.weight"] = weight.flatten(1)
        ours[f"{layer}.bias"] = _get(tensors, f"{theirs}_b", source)
    fit(model, ours, source)
    return model


def load_multibox_trunk(
    tensors: Mapping[str, Tensor],
    num_outputs: int,
    source: str = "google/multibox",
    generator: torch.Generator | None = None,
) -> BNInception:
    """Only its body, with a fresh last layer: what a region classifier can start from."""
    model = BNInception(num_outputs, form="multibox")
    replace_classifier(model, num_outputs, generator)
    own = {f"classifier.{name}": value for name, value in model.classifier.state_dict().items()}
    fit(model, _trunk(model, tensors, source) | own, source)
    model.normalisation = LESS_HALF
    return model


def _trunk(model: BNInception, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    layers = [name for name, layer in model.named_modules() if isinstance(layer, ConvReLU)]
    found: dict[str, Tensor] = {}
    for ours, theirs in zip(layers, trunk_names(), strict=True):
        weight = _get(tensors, f"{theirs}_w", source)
        if weight.ndim != 4:
            raise WeightsError(f"{source}: tensor {theirs}_w has {weight.ndim} axes, expected 4")
        found[f"{ours}.conv.weight"] = weight.permute(0, 3, 1, 2)
        found[f"{ours}.conv.bias"] = _get(tensors, f"{theirs}_b", source)
    return found


def _get(tensors: Mapping[str, Tensor], name: str, source: str) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"{source}: tensor {name} is missing")
    return tensors[name]
