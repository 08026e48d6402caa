"""Input normalisation: one convention for all crops, and its conversion for each network.

Crops leave `detector.crops` as float32 RGB `(N, 3, S, S)` with values `pixel / 255 - FILL_MEAN`, so
that pixels outside the image are exactly 0. A network that was trained on other inputs declares
them by a `Normalisation`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from detector.structures import FILL_MEAN

Triple = tuple[float, float, float]


class Normalisation(NamedTuple):
    """Input on which a network was trained: `(pixel / 255 - mean) / std`, RGB."""

    mean: Triple = FILL_MEAN
    std: Triple = (1.0, 1.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """True where crops need no conversion."""
        return self == CENTRED

    def scale_and_shift(self) -> tuple[Triple, Triple]:
        """Scale and shift of each channel: `scale * crop + shift` is the network's input."""
        scale = (1 / self.std[0], 1 / self.std[1], 1 / self.std[2])
        gap = [(fill - mean) for fill, mean in zip(FILL_MEAN, self.mean, strict=True)]
        return scale, (gap[0] * scale[0], gap[1] * scale[1], gap[2] * scale[2])

    def __call__(self, crops: Tensor) -> Tensor:
        """Convert centred crops (N, 3, S, S) to the input of the network."""
        if self.is_identity:
            return crops
        scale, shift = (
            torch.tensor(values, dtype=crops.dtype, device=crops.device).view(1, 3, 1, 1)
            for values in self.scale_and_shift()
        )
        return torch.addcmul(shift, crops, scale)


def is_usable(normalisation: Normalisation) -> bool:
    """True where the conversion is finite in every number format."""
    return all(abs(mean) <= MAX_MEAN for mean in normalisation.mean) and all(
        MIN_STD <= std <= MAX_STD for std in normalisation.std
    )


# Networks that take 0 to 255 have deviations of 1/255. Beyond these limits an image vanishes in
# rounding, or float16 overflows.
MIN_STD, MAX_STD = 1e-4, 1e4
MAX_MEAN = 1e4
CENTRED = Normalisation()
# torchvision's Inception networks: `transform_input=True` turns ImageNet-normalised input into
# this.
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# torchvision's other networks (AlexNet, VGG, ResNet, DenseNet).
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
