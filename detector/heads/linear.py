"""What a fitted head is: a few rows of weights on the features (N, F) that the last layer sees.

Departs from the paper: R-CNN's SVMs saw fc7, its regression the pool5 maps. An Inception network
has no fully connected layer before its classifier, and its maps are too large for a linear fit
from little data; both see the average over the last map, 1024 numbers in GoogLeNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.structures import Array


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Margins of K classes, and what makes a score in [0, 1] of each.

    weight  (K, F) float32 on the features as they come (their scaling is folded in)
    bias    (K,)
    slope   (K,) above 0, and
    offset  (K,): score = sigmoid(slope * margin + offset), which keeps a class's order
    """

    weight: Array
    bias: Array
    slope: Array
    offset: Array

    def margins(self, features: Array) -> Array:
        """(N, F) to (N, K): above 0 on the side of the objects."""
        margins: Array = features @ self.weight.T + self.bias
        return margins


@dataclass(frozen=True, eq=False)
class BoxRegression:
    """How far each of K classes moves a region: (dx, dy, log dw, log dh) of one class after the
    other.

    weight  (4 K, F) float32 on the features as they come; zeros for a class that moves nothing
    bias    (4 K,)
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads of one network that are in use; by default none."""

    svm: LinearScores | None = None
    """Scores of the network's classes, in place of its softmax."""
    regression: BoxRegression | None = None
    added: tuple[LinearScores, ...] = ()
    """Classes that the network does not know, one row each."""

    def __bool__(self) -> bool:
        return bool(self.svm or self.regression or self.added)


NO_HEADS = Heads()


class HeadLayers(nn.Module):
    """Heads as layers: features (N, F) to the columns of all heads side by side.

    In order: scores of the SVMs (K), scores of added classes, regression (4 K); none where there
    is no such head. They run inside the network's own batches of one fixed shape, so that a
    region's result does not depend on its company.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        scores = ([heads.svm] if heads.svm else []) + list(heads.added)
        self.scores = nn.ModuleList(_layer(one.weight, one.bias) for one in scores)
        for layer, one in zip(self.scores, scores, strict=True):
            layer.register_buffer("slope", _tensor(one.slope))
            layer.register_buffer("offset", _tensor(one.offset))
        self.regression = None
        if heads.regression is not None:
            self.regression = _layer(heads.regression.weight, heads.regression.bias)
        self.widths = (
            len(heads.svm.bias) if heads.svm else 0,
            len(heads.added),
            len(heads.regression.bias) if heads.regression else 0,
        )
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        columns = [
            torch.sigmoid(layer(features) * layer.get_buffer("slope") + layer.get_buffer("offset"))
            for layer in self.scores
        ]
        if self.regression is not None:
            columns.append(self.regression(features))
        return torch.cat(columns, 1)


def _layer(weight: Array, bias: Array) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = _tensor(weight), _tensor(bias)
    return layer


def _tensor(values: Array) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
