"""Aggregation of the members' outputs for N regions into class scores and box deltas.

A member's softmax is softmax(logits / T): T above 1 makes a network less sure and never changes
its best class (Guo et al. 2017, "On Calibration of Modern Neural Networks"). In order:

    softmax(logits / T) of each member, their mean, the prior of sizes, the heads

The prior's log-odds are counted in data, not predicted by a network. So they are added after T,
undivided, and T is fitted with the prior applied (temperature.py). Neither changes the scores of
heads.

Each region is computed by itself, so that cached outputs of more or fewer regions give the same
scores bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from detector.detection.size_prior import with_prior
from detector.structures import Array

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0
"""Beyond them every class is equally likely, or one is certain and float32 ends."""


class MemberOutput(NamedTuple):
    """One member's outputs for N regions; heads that it does not have are (N, 0).

    logits  (N, K+1) float32, background last
    svm     (N, K) scores of the SVMs
    added   (N, A) scores of added classes
    deltas  (N, 4 K) box regression of each of the network's classes (heads/bbox_regression.py)
    """

    logits: Tensor
    svm: Tensor
    added: Tensor
    deltas: Tensor

    def rows(self, selection: slice) -> MemberOutput:
        """The outputs for some of the regions."""
        return MemberOutput(*(part[selection] for part in self))


@dataclass(frozen=True, eq=False)
class AggregatedScores:
    """An ensemble's scores for N regions.

    scores  (N, K+1) float32 on the CPU; the last column is background
    deltas  (N, K, 4) box regression of each class; None without regression heads
    """

    scores: Tensor
    deltas: Tensor | None = None


def aggregate(
    outputs: Sequence[MemberOutput], temperatures: Sequence[float], log_odds: Array | None = None
) -> AggregatedScores:
    """Combine the members' outputs, each at its temperature.

    log_odds  (N,) added to those of "an object" in the mean of the softmax (size_prior.py)

    SVMs replace the softmax; background is then 1 minus the best. An added class gets a column
    before background; the softmax is not renormalised for it, so the other classes' scores stay as
    they are. A head's mean is over the members that have it.
    """
    scores = softmax_of([output.logits for output in outputs], temperatures, log_odds)
    classes = scores.shape[1] - 1
    svm, added, deltas = (_mean([output[head] for output in outputs]) for head in (1, 2, 3))
    if svm is not None:
        scores = torch.cat([svm, 1 - svm.amax(1, keepdim=True)], 1)
    if added is not None:
        scores = torch.cat([scores[:, :-1], added, scores[:, -1:]], 1)
    if deltas is None:
        return AggregatedScores(scores)
    deltas = deltas.unflatten(1, (classes, 4))
    unmoved = deltas.new_zeros(len(deltas), scores.shape[1] - 1 - classes, 4)  # of added classes
    return AggregatedScores(scores, torch.cat([deltas, unmoved], 1))


def softmax_of(
    logits: Sequence[Tensor], temperatures: Sequence[float], log_odds: Array | None = None
) -> Tensor:
    """The mean softmax (N, K+1) float32 of the members' logits (N, K+1) at their temperatures,
    corrected by the prior's log-odds (N,) if given.
    """
    pairs = zip(logits, temperatures, strict=True)
    scores = _mean([(member / temperature).softmax(-1) for member, temperature in pairs])
    assert scores is not None
    return scores if log_odds is None else torch.from_numpy(with_prior(scores.numpy(), log_odds))


def _mean(parts: Sequence[Tensor]) -> Tensor | None:
    """The mean of the tensors with columns; None if there is none."""
    present = [part for part in parts if part.shape[1]]
    if not present:
        return None
    # In sequence, not torch.stack(...).mean(): the order of the additions decides the last bit.
    total = present[0]
    for part in present[1:]:
        total = total + part
    return total / len(present)
