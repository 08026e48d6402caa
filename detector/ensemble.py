"""M classifiers, one opinion: the mean of their softmax (arXiv 1409.4842, sections 7 and 8)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from detector.errors import SettingsError
from detector.heads import NO_HEADS, Heads
from detector.heads.linear import HeadLayers
from detector.models.inference import FixedBatches, Precision, prepare_for_inference
from detector.models.normalisation import CENTRED, Normalisation


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network: crops (N, 3, input_size, input_size) to logits (N, K+1)."""

    model: nn.Module
    input_size: int
    normalisation: Normalisation = CENTRED
    activation_ranges: Mapping[str, float] | None = None
    """Needed for 8-bit inference only (models/quantised.py)."""
    heads: Heads = NO_HEADS
    """Linear heads on its features, that are to be used."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What an ensemble says of N regions.

    scores  (N, K+1) float32 on the CPU; the last column is background
    deltas  (N, K, 4): how each class moves a region (heads/bbox_regression.py); None: it does not
    """

    scores: Tensor
    deltas: Tensor | None = None


class Ensemble:
    """Crops of N regions, one tensor for each input size, to class probabilities (N, K+1).

    Members may differ in architecture and input size; those of equal size share their crops. The
    batches have one fixed, padded shape, so a region's row is the same whatever its neighbours and
    whatever the number of `workers` (threads on a CPU, each with its own batch).

    Heads run on the features of the same pass. The SVMs' scores take the softmax's place, and
    background is then 1 less the best. An added class gets a column before background; the softmax
    is not renormalised for it, so the other classes' scores stay as they are.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        if not members:
            raise SettingsError("an ensemble needs at least one member")
        outputs = {_outputs(member.model) for member in members}
        if len(outputs) > 1:
            raise SettingsError(f"members disagree on the number of classes: {sorted(outputs)}")
        self.members = tuple(members)
        self._network_outputs = outputs.pop()
        _check_heads(self.members)
        self.num_outputs = self._network_outputs + max(len(one.heads.added) for one in members)
        on_cpu = torch.device(device).type == "cpu"
        self.runners = [
            FixedBatches(
                prepare_for_inference(
                    copy.deepcopy(member.model).to(device),
                    precision,
                    member.normalisation,
                    member.activation_ranges,
                ),
                batch_size=batch_size or (8 if on_cpu else 128),
                workers=workers or (torch.get_num_threads() if on_cpu else 1),
            )
            for member in members
        ]

        self.heads = [
            HeadLayers(member.heads).to(device).eval() if member.heads else None
            for member in members
        ]

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The crop sides that `__call__` needs, ascending, each once."""
        return tuple(sorted({member.input_size for member in self.members}))

    def __call__(self, crops: Mapping[int, Tensor]) -> Tensor:
        """{S: (N, 3, S, S)} to (N, K+1) float32 on the CPU; the last column is background."""
        return self.judge(crops).scores

    def judge(self, crops: Mapping[int, Tensor]) -> Judgement:
        """{S: (N, 3, S, S)} to scores and, where there are heads for it, moves of the regions."""
        self._check(crops)
        softmax, svm, added, deltas = _Mean(), _Mean(), _Mean(), _Mean()
        for member, run, heads in zip(self.members, self.runners, self.heads, strict=True):
            function = None if heads is None else partial(_with_heads, run.model, heads)
            widths = [self._network_outputs, *(heads.widths if heads else (0, 0, 0))]
            parts = run(crops[member.input_size], function).split(widths, 1)
            softmax.add(parts[0].softmax(-1))
            for mean, part in zip((svm, added, deltas), parts[1:], strict=False):
                mean.add(part)
        scores = softmax.value()
        assert scores is not None
        replaced, extra, moves = svm.value(), added.value(), deltas.value()
        if replaced is not None:
            scores = torch.cat([replaced, 1 - replaced.amax(1, keepdim=True)], 1)
        if extra is not None:
            scores = torch.cat([scores[:, :-1], extra, scores[:, -1:]], 1)
        return Judgement(scores, None if moves is None else self._for_all_classes(moves))

    def features(self, crops: Mapping[int, Tensor]) -> list[Tensor]:
        """{S: (N, 3, S, S)} to (N, F) of each member: what its last layer and its heads see."""
        self._check(crops)
        return [
            run(crops[member.input_size], cast("Any", run.model).features)
            for member, run in zip(self.members, self.runners, strict=True)
        ]

    def _check(self, crops: Mapping[int, Tensor]) -> None:
        for size in self.input_sizes:
            if size not in crops or tuple(crops[size].shape[1:]) != (3, size, size):
                raise ValueError(
                    f"crops of shape (N, 3, {size}, {size}) are needed under key {size}"
                )

    def _for_all_classes(self, moves: Tensor) -> Tensor:
        """(N, 4 K) of the networks' classes to (N, K, 4); added classes move nothing."""
        moves = moves.unflatten(1, (self._network_outputs - 1, 4))
        nothing = moves.new_zeros(len(moves), self.num_outputs - self._network_outputs, 4)
        return torch.cat([moves, nothing], 1)


class _Mean:
    """The mean of what is added; of nothing, or of tensors without columns, None."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, values: Tensor) -> None:
        if values.shape[1]:
            self.total = values if self.total is None else self.total + values
            self.count += 1

    def value(self) -> Tensor | None:
        return None if self.total is None else self.total / self.count


def _with_heads(network: nn.Module, heads: HeadLayers, crops: Tensor) -> Tensor:
    """(N, K+1) logits with the heads' columns beside them, of one pass."""
    parts: Any = network
    features = parts.features(crops)
    return torch.cat([parts.classifier(features), heads(features)], 1)


def _check_heads(members: Sequence[Member]) -> None:
    """Means are taken over members: of a head, all of them have one or none has."""
    for kind in ("svm", "regression"):
        having = [getattr(member.heads, kind) is not None for member in members]
        if any(having) and not all(having):
            raise SettingsError(f"member {having.index(False)} has no {kind} head, others have one")
    added = {len(member.heads.added) for member in members} - {0}
    if len(added) > 1:
        raise SettingsError(f"members disagree on the number of added classes: {sorted(added)}")


def _outputs(model: nn.Module) -> int:
    classifier = getattr(model, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        raise SettingsError(f"{type(model).__name__} has no linear layer named classifier")
    return classifier.out_features
