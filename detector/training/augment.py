"""Photometric distortion of training crops, after Howard (arXiv 1312.5402), as GoogLeNet used it
(arXiv 1409.4842, section 6).

Crops are centred RGB, `pixel / 255 - FILL_MEAN`. The fill outside the image is distorted with the
rest, so it keeps the mean colour only roughly.
"""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from detector.settings import Settings
from detector.structures import FILL_MEAN, Array


class AugmentSettings(Settings):
    """Largest change of each property; 0 switches it off."""

    flip: bool = True
    brightness: float = Field(0.2, ge=0, lt=1)
    """Factor in [1 - b, 1 + b] on all channels."""
    contrast: float = Field(0.2, ge=0, lt=1)
    saturation: float = Field(0.3, ge=0, lt=1)
    colour_shift: float = Field(0.04, ge=0, lt=1)
    """Independent offset of each channel, in units of the full range."""


def distort(
    crops: Tensor,
    settings: AugmentSettings,
    rng: np.random.Generator,
    place: Array | None = None,
    whole: int = 0,
) -> Tensor:
    """Distort the colours of crops (N, 3, S, S), each on its own, keeping shape, memory format and
    device.

    Where the crops are a part of `whole` ones, `place` (N,) gives their positions: each is
    distorted as it would be among all of them.
    """
    n, device = whole if place is not None else len(crops), crops.device
    rows = slice(None) if place is None else place

    def factor(reach: float) -> Tensor:
        # Drawn for the whole batch: a process's part gets what it would get in one process.
        drawn = rng.uniform(1 - reach, 1 + reach, (n, 1, 1, 1)).astype(np.float32)
        return torch.from_numpy(drawn[rows]).to(device)

    mean = torch.tensor(FILL_MEAN, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    shift = rng.uniform(-settings.colour_shift, settings.colour_shift, (n, 3, 1, 1))
    brightness, contrast = factor(settings.brightness), factor(settings.contrast)
    saturation = factor(settings.saturation)
    # All three are linear in the pixel: out = b * (c * (s * x + (1 - s) * grey) + (1 - c) * level),
    # grey a dot product.
    # BT.601's weights of red, green and blue.
    weights = torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)
    pixels = crops + mean
    grey = (pixels * weights).sum(1, keepdim=True)
    level = grey.mean((2, 3), keepdim=True)
    mixed = pixels * saturation + grey * (1 - saturation)
    mixed = (mixed * contrast + level * (1 - contrast)) * brightness
    mixed = mixed + torch.from_numpy(shift[rows].astype(np.float32)).to(device)
    return mixed.clamp_(0, 1).sub_(mean)
