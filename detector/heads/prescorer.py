"""A pre-scorer: which regions of an image are objects, by one pass of a network's own layers over
the whole image, so that only the best regions need a crop and a pass of their own.

It sees the averages of the map inside a region and around it, and the region's place and rank. Its
first layer is applied to the map before these averages are taken. That gives the same numbers, and
a region then costs next to nothing (the map pooled for each region of Fast R-CNN, Girshick 2015,
with one cell).
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from detector.errors import BundleError
from detector.models.weights.tensor_files import (
    compare_layouts,
    layout_in_header,
    name_file_in_errors,
    verified_bytes,
)
from detector.settings import Settings, TensorFile

# Sides of a region with its surroundings, in those of the region.
SURROUNDINGS = 1.6
NUMBERS = 10  # of a region's place and rank


class PrescorerManifest(Settings):
    """Manifest of a pre-scorer on member 0; saving fills in `file`, `bytes` and `sha256`."""

    side: int = Field(default=448, ge=64, le=4096)
    """The image is warped to a square of so many pixels."""
    recipe: dict[str, Any] = {}
    """Data and settings of the fit."""
    file: TensorFile = ""
    bytes: int = Field(default=0, ge=0)
    sha256: str = ""


class Prescorer(nn.Module):
    """The map (C, h, w) of an image, N boxes in fractions of its sides and their ranks (N,) to
    logits (N,), higher for objects.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.maps = nn.Linear(channels, 2 * hidden, bias=False)
        self.place = nn.Linear(NUMBERS, hidden)
        self.dropout = nn.Dropout(0.2)
        self.hidden = nn.Linear(hidden, hidden // 2)
        self.out = nn.Linear(hidden // 2, 1)

    def forward(self, maps: Tensor, boxes: Tensor, ranks: Tensor) -> Tensor:
        inside, around = self.maps(maps.permute(1, 2, 0)).chunk(2, -1)
        x = self.place(_numbers(boxes, ranks))
        x = x + average(inside, boxes) + average(around, _with_surroundings(boxes))
        x = self.hidden(self.dropout(x.relu())).relu()
        logits: Tensor = self.out(x)[:, 0]
        return logits


def average(maps: Tensor, boxes: Tensor) -> Tensor:
    """Averages (N, C) of maps (h, w, C) over boxes (N, 4) in fractions of their sides; cells count
    by the area that is inside.
    """
    height, width, channels = maps.shape
    rows = _shares(boxes[:, 1], boxes[:, 3], height)
    columns = _shares(boxes[:, 0], boxes[:, 2], width)
    shares = (rows[:, :, None] * columns[:, None, :]).reshape(len(boxes), height * width)
    return shares @ maps.reshape(height * width, channels)


def _shares(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """The share (N, cells) that each of so many cells has in an interval of [0, 1]."""
    first = torch.arange(cells, dtype=low.dtype)
    low = (low * cells).clamp(0, cells - 1e-3)[:, None]
    high = torch.maximum((high * cells).clamp(max=cells)[:, None], low + 1e-3)
    inside = (torch.minimum(high, first + 1) - torch.maximum(low, first)).clamp(min=0)
    return inside / inside.sum(1, keepdim=True)


def _with_surroundings(boxes: Tensor) -> Tensor:
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat([centre - SURROUNDINGS / 2 * sides, centre + SURROUNDINGS / 2 * sides], 1)


def _numbers(boxes: Tensor, ranks: Tensor) -> Tensor:
    """Place and rank of regions (N, NUMBERS), all of about the same size."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-4).T
    area = width * height
    shape = (width, height, area.sqrt(), area.log() / 4, (width / height).log() / 2)
    return torch.cat([boxes, torch.stack([*shape, ranks.log1p() / 7], 1)], 1)


def encode_prescorer(
    manifest: PrescorerManifest, network: Prescorer
) -> tuple[PrescorerManifest, bytes]:
    """Encode a pre-scorer in half precision: its manifest, and the file's bytes."""
    from safetensors.torch import save

    data = save({name: value.half().contiguous() for name, value in network.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    new = {"file": f"prescorer-{digest[:12]}.safetensors", "bytes": len(data), "sha256": digest}
    return manifest.model_copy(update=new), data


def load_prescorer(folder: Path, manifest: PrescorerManifest, channels: int) -> Prescorer:
    """Load a pre-scorer for maps of so many channels. Raises BundleError."""
    from safetensors.torch import load

    data = verified_bytes(folder, manifest.file, manifest.bytes, manifest.sha256)
    label = str(folder / manifest.file)
    network = Prescorer(channels)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    compare_layouts(layout_in_header(data, label), wanted, label)
    with name_file_in_errors(label):
        tensors = load(data)
    for name, values in tensors.items():
        if values.dtype != torch.float16 or not torch.isfinite(values).all():
            raise BundleError(f"{label}: tensor {name} is not of finite numbers in half precision")
    network.load_state_dict({name: values.float() for name, values in tensors.items()})
    return network.eval().requires_grad_(False)
