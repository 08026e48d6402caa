"""What the members of an ensemble say of N regions, and how that becomes one opinion.

A member's softmax is softmax(logits / T): T above 1 makes a network less sure and never changes
which class is its best (Guo et al. 2017, "On Calibration of Modern Neural Networks"). In order:

    softmax(logits / T) of each member, their mean, the prior of sizes, the heads

The prior's log-odds are counted in data, not said by a network. So they come after T, undivided,
and T is fitted with the prior in its place (temperature.py). Heads have scores of their own, which
neither touches.

Everything here is computed for each region by itself, so that numbers kept on disk, of more regions
or of fewer, become the same scores bit for bit.
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
    """What one member says of N regions; of heads that it has not, (N, 0).

    logits  (N, K+1) float32, background last
    svm     (N, K) scores of the SVMs
    added   (N, A) scores of added classes
    deltas  (N, 4 K): how each of the network's classes moves a region (heads/bbox_regression.py)
    """

    logits: Tensor
    svm: Tensor
    added: Tensor
    deltas: Tensor

    def rows(self, chosen: slice) -> MemberOutput:
        """Of some of the regions."""
        return MemberOutput(*(part[chosen] for part in self))


@dataclass(frozen=True, eq=False)
class AggregatedScores:
    """What an ensemble says of N regions.

    scores  (N, K+1) float32 on the CPU; the last column is background
    deltas  (N, K, 4): how each class moves a region; None: it does not
    """

    scores: Tensor
    deltas: Tensor | None = None


def aggregate(
    outputs: Sequence[MemberOutput], temperatures: Sequence[float], log_odds: Array | None = None
) -> AggregatedScores:
    """One opinion of what each member says; a temperature for each.

    log_odds  (N,) added to those of "an object" in the mean of the softmax (size_prior.py)

    SVMs take the softmax's place, and background is then 1 less the best. An added class gets a
    column before background; the softmax is not renormalised for it, so the other classes' scores
    stay as they are. A mean is over the members that have the head.
    """
    scores = softmax_of([one.logits for one in outputs], temperatures, log_odds)
    classes = scores.shape[1] - 1
    svm, added, deltas = (_mean([one[head] for one in outputs]) for head in (1, 2, 3))
    if svm is not None:
        scores = torch.cat([svm, 1 - svm.amax(1, keepdim=True)], 1)
    if added is not None:
        scores = torch.cat([scores[:, :-1], added, scores[:, -1:]], 1)
    if deltas is None:
        return AggregatedScores(scores)
    deltas = deltas.unflatten(1, (classes, 4))
    still = deltas.new_zeros(len(deltas), scores.shape[1] - 1 - classes, 4)  # added classes
    return AggregatedScores(scores, torch.cat([deltas, still], 1))


def softmax_of(
    logits: Sequence[Tensor], temperatures: Sequence[float], log_odds: Array | None = None
) -> Tensor:
    """Logits (N, K+1) of each member to class probabilities (N, K+1) float32: the mean of their
    softmax at their temperatures, with the prior's log-odds (N,) where there are some.
    """
    pairs = zip(logits, temperatures, strict=True)
    scores = _mean([(one / temperature).softmax(-1) for one, temperature in pairs])
    assert scores is not None
    return scores if log_odds is None else torch.from_numpy(with_prior(scores.numpy(), log_odds))


def _mean(parts: Sequence[Tensor]) -> Tensor | None:
    """The mean of those that have columns; of none, None."""
    having = [part for part in parts if part.shape[1]]
    if not having:
        return None
    total = having[0]
    for part in having[1:]:
        total = total + part
    return total / len(having)
