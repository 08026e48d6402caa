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

from detector.detection.size_prior import SizePrior, with_prior
from detector.errors import DetectorError
from detector.heads.bbox_regression import apply_deltas
from detector.structures import Array, Proposals

# Beyond them every class is equally likely, or one is certain and float32 ends.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


class MemberOutput(NamedTuple):
    """One member's outputs for N regions; heads that it does not have are (N, 0).

    logits  (N, K+1) float32, background last
    svm     (N, K) scores of the SVMs
    added   (N, A) scores of added classes
    deltas  (N, 4 K) box regression of each of the network's classes (heads/bbox_regression.py)
    added_deltas  (N, 4 A) that of added classes
    """

    logits: Tensor
    svm: Tensor
    added: Tensor
    deltas: Tensor
    added_deltas: Tensor

    def rows(self, selection: slice) -> MemberOutput:
        """The outputs for some of the regions."""
        return MemberOutput(*(part[selection] for part in self))


@dataclass(frozen=True, eq=False)
class RegionOutputs:
    """The regions of one image, and each member's outputs for them."""

    proposals: Proposals
    outputs: tuple[MemberOutput, ...]


@dataclass(frozen=True, eq=False)
class RegionScores:
    """The class scores of the regions of one image.

    scores  (N, K+1) float32; the last column is background
    boxes   (N, 4) as proposed or, where classes move their regions, (N, K, 4)
    """

    proposals: Proposals
    scores: Array
    boxes: Array


def aggregate(
    found: RegionOutputs,
    temperatures: Sequence[float],
    prior: SizePrior | None = None,
    tile: int | None = None,
) -> RegionScores:
    """Combine the members' outputs, each at its temperature, with the prior of sizes; `tile` is the
    side of the windows in which regions were looked for.

    Raises DetectorError for scores that are not finite.
    """
    boxes, size = found.proposals.boxes, found.proposals.size
    log_odds = None if prior is None else prior(boxes, size, tile)
    scores = class_scores(found.outputs, temperatures, log_odds)
    deltas = mean_deltas(found.outputs, scores.shape[1] - 1)
    if not all(part is None or bool(torch.isfinite(part).all()) for part in (scores, deltas)):
        raise DetectorError(
            "the networks' scores are not finite: weights or normalisation of this detector are too"
            " large for its precision; use another bundle"
        )
    if deltas is not None:
        boxes = apply_deltas(boxes, deltas.numpy(), size)
    return RegionScores(found.proposals, scores.numpy(), boxes)


def class_scores(
    outputs: Sequence[MemberOutput], temperatures: Sequence[float], log_odds: Array | None = None
) -> Tensor:
    """Class scores (N, K+1) float32 of N regions; the last column is background.

    SVMs replace the softmax; background is then 1 minus the best. An added class gets a column
    before background; the softmax is not renormalised for it, so the other classes' scores stay as
    they are. A head's mean is over the members that have it.
    """
    scores = softmax_of([output.logits for output in outputs], temperatures, log_odds)
    svm = _mean([output.svm for output in outputs])
    added = _mean([output.added for output in outputs])
    if svm is not None:
        # SVMs know no background; its column keeps the shape, and suppression drops it.
        scores = torch.cat([svm, 1 - svm.amax(1, keepdim=True)], 1)
    if added is not None:
        scores = torch.cat([scores[:, :-1], added, scores[:, -1:]], 1)
    return scores


def likely(first: MemberOutput, temperature: float, threshold: float) -> Tensor:
    """True (N,) for regions to which the first member gives a class at least `threshold`."""
    return (class_scores([first], [temperature])[:, :-1] >= threshold).any(1)


def repeating_first(
    outputs: Sequence[MemberOutput], seen: Tensor, temperatures: Sequence[float]
) -> tuple[MemberOutput, ...]:
    """The members' outputs with those of the first in all rows that the others have not `seen`
    (N,), so that their mean is its own.
    """
    first, *others = outputs
    changed = []
    for output, temperature in zip(others, temperatures[1:], strict=True):
        scale = temperature / temperatures[0]  # the softmax divides it away
        theirs = first._replace(logits=scale * first.logits)
        pairs = zip(output, theirs, strict=True)
        # A head that only one of them has stays as it is.
        rows = (torch.where(seen[:, None], a, b) if a.shape == b.shape else a for a, b in pairs)
        changed.append(MemberOutput(*rows))
    return first, *changed


def softmax_of(
    logits: Sequence[Tensor], temperatures: Sequence[float], log_odds: Array | None = None
) -> Tensor:
    """The mean softmax (N, K+1) float32 of the members' logits (N, K+1) at their temperatures,
    corrected by the prior's log-odds (N,) if given.
    """
    # Section 7 of arXiv 1409.4842 averages probabilities, not logits.
    pairs = zip(logits, temperatures, strict=True)
    scores = _mean([(member / temperature).softmax(-1) for member, temperature in pairs])
    assert scores is not None
    return scores if log_odds is None else torch.from_numpy(with_prior(scores.numpy(), log_odds))


def mean_deltas(outputs: Sequence[MemberOutput], classes: int) -> Tensor | None:
    """The mean deltas (N, K, 4) of all classes, or None where none moves its regions."""
    deltas = _mean([output.deltas for output in outputs])
    added = _mean([output.added_deltas for output in outputs])
    parts = [part for part in (deltas, added) if part is not None]
    if not parts:
        return None
    # Either the networks' classes or the added ones may have none; zeros leave boxes as they are.
    width = 4 * classes - sum(part.shape[1] for part in parts)
    unmoved = parts[0].new_zeros(parts[0].shape[0], width)  # not len: exports leave N open
    every = [unmoved, *parts] if deltas is None else [*parts, unmoved]
    return torch.cat(every, 1).unflatten(1, (classes, 4))


def _mean(parts: Sequence[Tensor]) -> Tensor | None:
    """Mean of the tensors (N, C) with C > 0, or None."""
    present = [part for part in parts if part.shape[1]]
    if not present:
        return None
    # In sequence, not torch.stack(...).mean(): the order of the additions decides the last bit.
    total = present[0]
    for part in present[1:]:
        total = total + part
    return total / len(present)
