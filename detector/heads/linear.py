"""Fitted heads: rows of weights on the features (N, F), the input of the last layer.

Departs from the paper: R-CNN's SVMs used fc7, its regression the pool5 maps. An Inception network
has no fully connected layer before its classifier, and its maps are too large for a linear fit on
little data; both use the average over the last map, 1024 numbers in GoogLeNet.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from detector.structures import Array


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Linear margins of K classes with a calibrated score in [0, 1] of each.

    weight  (K, F) float32 on unscaled features (the scaling is folded in)
    bias    (K,)
    slope   (K,) above 0, so that scores keep the order of margins
    offset  (K,): score = sigmoid(slope * margin + offset)
    """

    weight: Array
    bias: Array
    slope: Array
    offset: Array

    def margins(self, features: Array) -> Array:
        """Margins (N, K) of features (N, F): positive on the side of the objects."""
        return features @ self.weight.T + self.bias

    def scores(self, features: Array) -> Array:
        """Scores (N, K) in [0, 1] of features (N, F)."""
        # exp overflows beyond 709.
        logits = np.clip(self.slope * self.margins(features) + self.offset, -700, 700)
        return 1 / (1 + np.exp(-logits))


@dataclass(frozen=True, eq=False)
class ClassHead(LinearScores):
    """The scores of one class that was added to a network, and its box regression.

    box_weight  (4, F) float32 on unscaled features
    box_bias    (4,)
    """

    box_weight: Array
    box_bias: Array


@dataclass(frozen=True, eq=False)
class BoxRegression:
    """Box deltas of K classes: (dx, dy, log dw, log dh) of one class after the other.

    weight  (4 K, F) float32 on unscaled features; zeros for a class without a regression
    bias    (4 K,)
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads of one network; by default none.

    svm    scores of the network's own classes, which replace its softmax
    added  new classes that the network was not trained on, one row each
    """

    svm: LinearScores | None = None
    regression: BoxRegression | None = None
    added: tuple[ClassHead, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.svm or self.regression or self.added)


NO_HEADS = Heads()


class HeadLayers(nn.Module):
    """Heads as layers: features (N, F) to the concatenated columns of all heads.

    In order: scores of the SVMs (K), scores of A added classes, regression (4 K), that of added
    classes (4 A), each only where there is such a head. They run inside the network's batches of
    one fixed shape, so that the result of a region does not depend on the others.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        scores = ([heads.svm] if heads.svm else []) + list(heads.added)
        self.scores = nn.ModuleList(_layer(head.weight, head.bias) for head in scores)
        for layer, head in zip(self.scores, scores, strict=True):
            layer.register_buffer("slope", _tensor(head.slope))
            layer.register_buffer("offset", _tensor(head.offset))
        moves = [] if heads.regression is None else [heads.regression]
        moves += [BoxRegression(head.box_weight, head.box_bias) for head in heads.added]
        self.moves = nn.ModuleList(_layer(head.weight, head.bias) for head in moves)
        self.widths = (
            len(heads.svm.bias) if heads.svm else 0,
            len(heads.added),
            len(heads.regression.bias) if heads.regression else 0,
            4 * len(heads.added),
        )
        self.requires_grad_(False)  # fitted, not trained

    def forward(self, features: Tensor) -> Tensor:
        # One column a class: each score is a probability of its own, not a share of a softmax.
        columns = [
            torch.sigmoid(layer(features) * layer.get_buffer("slope") + layer.get_buffer("offset"))
            for layer in self.scores
        ]
        return torch.cat([*columns, *(layer(features) for layer in self.moves)], 1)


def _layer(weight: Array, bias: Array) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = _tensor(weight), _tensor(bias)
    return layer


def _tensor(values: Array) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
