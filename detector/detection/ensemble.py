"""The ensemble of M classifiers: the mean of their softmax (arXiv 1409.4842, sections 7 and 8)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.crops.warp import CONTEXT, MOST_CONTEXT
from detector.detection.aggregate import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    AggregatedScores,
    MemberOutput,
    aggregate,
)
from detector.errors import SettingsError
from detector.heads import NO_HEADS, Heads
from detector.heads.linear import HeadLayers
from detector.models.inference.prepare import FixedBatches, Precision, prepare_for_inference
from detector.models.normalisation import CENTRED, Normalisation, is_usable
from detector.models.split import SharedTrunk, Top, Trunk
from detector.structures import Array


class CropSpec(NamedTuple):
    """The geometry of a crop: its side S in pixels, and the share of it that is context on each
    side.
    """

    size: int
    context: float = CONTEXT


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network: crops (N, 3, input_size, input_size) to logits (N, K+1)."""

    model: nn.Module
    input_size: int
    normalisation: Normalisation = CENTRED
    activation_ranges: Mapping[str, float] | None = None
    """Largest activations of the layers, for 8-bit inference (models/inference/int8.py)."""
    heads: Heads = NO_HEADS
    """Linear heads on its features that are in use."""
    context: float = CONTEXT
    trunk: SharedTrunk | None = None
    temperature: float = 1.0
    """The divisor of its logits before the softmax (aggregate.py)."""

    def __post_init__(self) -> None:
        if not LEAST_TEMPERATURE <= self.temperature <= MOST_TEMPERATURE:
            raise SettingsError(
                f"a member's temperature is {self.temperature}; expected"
                f" {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}, and 1 leaves the softmax as it is"
            )
        if not 0 <= self.context <= MOST_CONTEXT:
            raise SettingsError(
                f"a member's context is {self.context}; expected 0 to {MOST_CONTEXT:g}, the share"
                " of the crop's side around the region"
            )
        if not is_usable(self.normalisation):
            raise SettingsError(
                f"a member's normalisation is {self.normalisation}; no picture is brought to that"
            )

    @property
    def spec(self) -> CropSpec:
        return CropSpec(self.input_size, self.context)


class Ensemble:
    """M networks that map crops of N regions, one tensor for each kind of crop, to class
    probabilities (N, K+1).

    Members may differ in architecture, input size and context; members alike share their crops, and
    a common trunk runs once. Batches have one fixed, padded shape, so that a region's row does not
    depend on its neighbours nor on the number of `workers` (threads on a CPU, each with its own
    batch).

    Heads run on the features of the same pass. aggregate.py combines the members' outputs;
    `temperatures` may be replaced, one for each member. Raises SettingsError for members that do
    not fit each other.
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
        self.temperatures = tuple(member.temperature for member in members)
        self.precision = precision
        self._network_outputs = outputs.pop()
        _check_heads(self.members)
        self.num_outputs = self._network_outputs + max(
            len(member.heads.added) for member in members
        )
        on_cpu = torch.device(device).type == "cpu"
        size = (8 if on_cpu else 128) if batch_size is None else batch_size
        if workers is None:
            workers = torch.get_num_threads() if on_cpu else 1
        if size < 1 or workers < 1:
            raise SettingsError(
                f"batch_size is {size} and workers {workers}; both must be at least 1,"
                " and None is the usual number"
            )
        self.groups = [
            _group(self.members, positions, precision, device, size, workers)
            for positions in _together(self.members, precision)
        ]

    @property
    def crop_specs(self) -> tuple[CropSpec, ...]:
        """The distinct kinds of crops that the members take, in ascending order."""
        return tuple(sorted({member.spec for member in self.members}))

    def __call__(self, crops: Mapping[CropSpec, Tensor]) -> Tensor:
        """Class probabilities (N, K+1) float32 on the CPU of crops {spec: (N, 3, S, S)}; the last
        column is background.
        """
        return self.predict(crops).scores

    def predict(
        self, crops: Mapping[CropSpec, Tensor], log_odds: Array | None = None
    ) -> AggregatedScores:
        """The aggregated scores of crops {spec: (N, 3, S, S)} and, with regression heads, their
        deltas.

        log_odds  (N,) added to those of "an object" in the networks' softmax (size_prior.py)
        """
        return aggregate(self.forward(crops), self.temperatures, log_odds)

    def forward(self, crops: Mapping[CropSpec, Tensor]) -> tuple[MemberOutput, ...]:
        """Each member's raw outputs for crops {spec: (N, 3, S, S)}."""
        self._check(crops)
        outputs = self._network_outputs
        in_order = self._in_order(group.forward(crops, outputs) for group in self.groups)
        return tuple(
            MemberOutput(*columns.values.split([outputs, *columns.heads], 1))
            for columns in in_order
        )

    def features(self, crops: Mapping[CropSpec, Tensor]) -> list[Tensor]:
        """Each member's features (N, F) of crops {spec: (N, 3, S, S)}: the inputs of its last layer
        and its heads.
        """
        self._check(crops)
        in_order = self._in_order(group.extract(crops) for group in self.groups)
        return [columns.values for columns in in_order]

    def _in_order(self, groups: Iterable[list[_Columns]]) -> list[_Columns]:
        """The columns of all groups, in the order of the members."""
        return sorted(
            (columns for group in groups for columns in group), key=lambda columns: columns.member
        )

    def _check(self, crops: Mapping[CropSpec, Tensor]) -> None:
        for spec in self.crop_specs:
            size = spec.size
            if spec not in crops or tuple(crops[spec].shape[1:]) != (3, size, size):
                raise ValueError(f"crops of shape (N, 3, {size}, {size}) are needed under {spec}")


class _Columns(NamedTuple):
    """One member's output (N, columns), and how many of the columns each kind of head has."""

    member: int
    values: Tensor
    heads: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Group:
    """Members that take the same crops and, where there are several, share a trunk.

    positions  of the members in the ensemble
    trunk      the shared layers; the identity where there is one member
    """

    positions: tuple[int, ...]
    spec: CropSpec
    batches: FixedBatches
    trunk: Callable[[Tensor], Tensor]
    networks: tuple[nn.Module, ...]
    heads: tuple[HeadLayers | None, ...]

    def run(
        self,
        crops: Mapping[CropSpec, Tensor],
        function: Callable[[Tensor], list[Tensor]],
        widths: Sequence[int],
    ) -> list[_Columns]:
        """Run `function` over the crops; it returns a tensor (N, width) for each member."""
        values = self.batches(crops[self.spec], lambda batch: torch.cat(function(batch), 1))
        parts = values.split(list(widths), 1)
        return [_Columns(*row) for row in zip(self.positions, parts, self.head_widths, strict=True)]

    def forward(self, crops: Mapping[CropSpec, Tensor], outputs: int) -> list[_Columns]:
        """Each member's logits (N, K+1) with the columns of its heads beside them, in one pass."""
        return self.run(crops, self.outputs, [outputs + sum(widths) for widths in self.head_widths])

    def extract(self, crops: Mapping[CropSpec, Tensor]) -> list[_Columns]:
        """Each member's features (N, F)."""
        widths = [_untyped(network).classifier.in_features for network in self.networks]
        return self.run(crops, self.features, widths)

    @property
    def head_widths(self) -> list[tuple[int, int, int]]:
        return [(0, 0, 0) if heads is None else heads.widths for heads in self.heads]

    def outputs(self, crops: Tensor) -> list[Tensor]:
        maps = self.trunk(crops)
        return [
            network(maps) if heads is None else _with_heads(network, heads, maps)
            for network, heads in zip(self.networks, self.heads, strict=True)
        ]

    def features(self, crops: Tensor) -> list[Tensor]:
        maps = self.trunk(crops)
        return [_untyped(network).features(maps) for network in self.networks]


def _together(members: Sequence[Member], precision: Precision) -> list[tuple[int, ...]]:
    """Group the positions of members that can run as one: those with a common trunk, cut alike."""
    groups: dict[object, list[int]] = {}
    for position, member in enumerate(members):
        key: object = position
        trunk = member.trunk
        if trunk is not None and precision != "int8" and members[trunk.member].spec == member.spec:
            key = trunk
            owner = groups.pop(trunk.member, None)
            if owner is not None:
                groups[key] = owner
        groups.setdefault(key, []).append(position)
    return [tuple(positions) for positions in groups.values()]


def _group(
    members: Sequence[Member],
    positions: tuple[int, ...],
    precision: Precision,
    device: torch.device | str,
    batch_size: int,
    workers: int,
) -> _Group:
    first = members[positions[0]]

    def prepared(model: nn.Module, member: Member) -> nn.Module:
        model = copy.deepcopy(model).to(device)
        return prepare_for_inference(
            model, precision, member.normalisation, member.activation_ranges
        )

    trunks = [members[position].trunk for position in positions]
    cuts = [trunk.after for trunk in trunks if trunk is not None]
    if len(positions) == 1:
        runs = prepared(first.model, first)
        trunk: Callable[[Tensor], Tensor] = _unchanged
        networks: tuple[nn.Module, ...] = (runs,)
    else:
        runs = prepared(Trunk(first.model, cuts[0]), first)
        trunk = runs
        shared = Member(first.model, first.input_size)
        networks = tuple(prepared(Top(members[i].model, cuts[0]), shared) for i in positions)
    heads = tuple(
        HeadLayers(members[i].heads).to(device).eval() if members[i].heads else None
        for i in positions
    )
    batches = FixedBatches(runs, batch_size=batch_size, workers=workers)
    return _Group(positions, first.spec, batches, trunk, networks, heads)


def _unchanged(crops: Tensor) -> Tensor:
    return crops


def _with_heads(network: nn.Module, heads: HeadLayers, inputs: Tensor) -> Tensor:
    features = _untyped(network).features(inputs)
    return torch.cat([_untyped(network).classifier(features), heads(features)], 1)


def _untyped(network: nn.Module) -> Any:
    """The network without its static type, for attributes that nn.Module does not declare."""
    return network


def _check_heads(members: Sequence[Member]) -> None:
    """Raise SettingsError unless all members or none have a head of each kind: scores are means
    over the members.
    """
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
