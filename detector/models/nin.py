"""Network in network (Lin, Chen and Yan, arXiv 1312.4400), the source of GoogLeNet's 1x1 layers.

The authors' ImageNet network: each spatial convolution is followed by two 1x1 layers, and an
average over the map replaces the fully connected layers.
"""

import torch
from torch import Tensor, nn

from detector.models.inception import initialise
from detector.models.input_normalisation import CENTRED, Normalisation
from detector.models.layers import ConvReLU, MaxPool

# outputs, kernel, stride, padding of the spatial convolution; the 1x1 layers are as wide.
LAYERS = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1))
FEATURES = 1024


class NetworkInNetwork(nn.Module):
    """Crops (N, 3, S, S) to logits (N, num_outputs); S is 224, at least 40.

    Departs from the paper: its last 1x1 layer has a ReLU before the average. Without it the layer
    commutes with the average, and is the linear classifier that the heads of a region need.
    """

    def __init__(
        self, num_outputs: int, *, dropout: float = 0.5, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.normalisation: Normalisation = CENTRED
        self.layers = nn.Sequential()
        channels = 3
        for width, kernel, stride, padding in LAYERS:
            self.layers.extend(
                [
                    ConvReLU(channels, width, kernel, norm=False, stride=stride, padding=padding),
                    ConvReLU(width, width, 1, norm=False),
                    ConvReLU(width, width, 1, norm=False),
                    MaxPool(stride=2, ceil=True),
                ]
            )
            channels = width
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Sequential(
            ConvReLU(channels, FEATURES, 3, norm=False, padding=1),
            ConvReLU(FEATURES, FEATURES, 1, norm=False),
        )
        self.classifier = nn.Linear(FEATURES, num_outputs)
        initialise(self, generator)

    def features(self, x: Tensor) -> Tensor:
        """Average over the last map, the input of the linear layer: (N, 1024)."""
        last: Tensor = self.last(self.dropout(self.layers(x)))
        return last.mean((2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
