"""M classifiers, one opinion: the mean of their softmax (arXiv 1409.4842, sections 7 and 8)."""

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
from detector.models.normalisation import CENTRED, Normalisation, is_possible
from detector.models.split import SharedTrunk, Top, Trunk
from detector.structures import Array


class CropSpec(NamedTuple):
    """How a region becomes a crop: its side, and the share of it that is context on each side."""

    size: int
    context: float = CONTEXT


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
    context: float = CONTEXT
    trunk: SharedTrunk | None = None
    temperature: float = 1.0
    """Its logits are divided by it before the softmax (aggregate.py)."""

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
        if not is_possible(self.normalisation):
            raise SettingsError(
                f"a member's normalisation is {self.normalisation}; no picture is brought to that"
            )

    @property
    def spec(self) -> CropSpec:
        return CropSpec(self.input_size, self.context)


class Ensemble:
    """Crops of N regions, one tensor for each kind of crop, to class probabilities (N, K+1).

    Members may differ in architecture, input size and context; those alike share their crops, and
    what they have of a common trunk runs once. The batches have one fixed, padded shape, so a
    region's row is the same whatever its neighbours and whatever the number of `workers` (threads
    on a CPU, each with its own batch).

    Heads run on the features of the same pass. What becomes of all that the members say is in
    aggregate.py; `temperatures` may be set to others, one for each member.
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
        self.num_outputs = self._network_outputs + max(len(one.heads.added) for one in members)
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
            _group(self.members, places, precision, device, size, workers)
            for places in _together(self.members, precision)
        ]

    @property
    def crop_specs(self) -> tuple[CropSpec, ...]:
        """The kinds of crops that `__call__` needs, each once, in ascending order."""
        return tuple(sorted({member.spec for member in self.members}))

    def __call__(self, crops: Mapping[CropSpec, Tensor]) -> Tensor:
        """{spec: (N, 3, S, S)} to (N, K+1) float32 on the CPU; the last column is background."""
        return self.judge(crops).scores

    def judge(
        self, crops: Mapping[CropSpec, Tensor], log_odds: Array | None = None
    ) -> AggregatedScores:
        """{spec: (N, 3, S, S)} to scores and, where there are heads for it, moves of regions.

        log_odds  (N,) added to those of "an object" in the networks' softmax (size_prior.py)
        """
        return aggregate(self.ask(crops), self.temperatures, log_odds)

    def ask(self, crops: Mapping[CropSpec, Tensor]) -> tuple[MemberOutput, ...]:
        """{spec: (N, 3, S, S)} to what each member says of the N regions."""
        self._check(crops)
        outputs = self._network_outputs
        made = self._in_order(group.judge(crops, outputs) for group in self.groups)
        return tuple(
            MemberOutput(*found.values.split([outputs, *found.heads], 1)) for found in made
        )

    def features(self, crops: Mapping[CropSpec, Tensor]) -> list[Tensor]:
        """{spec: (N, 3, S, S)} to (N, F) of each member: what its last layer and its heads see."""
        self._check(crops)
        made = self._in_order(group.describe(crops) for group in self.groups)
        return [found.values for found in made]

    def _in_order(self, groups: Iterable[list[_Found]]) -> list[_Found]:
        """What all groups found, in the order of the members."""
        return sorted((one for group in groups for one in group), key=lambda one: one.member)

    def _check(self, crops: Mapping[CropSpec, Tensor]) -> None:
        for spec in self.crop_specs:
            size = spec.size
            if spec not in crops or tuple(crops[spec].shape[1:]) != (3, size, size):
                raise ValueError(f"crops of shape (N, 3, {size}, {size}) are needed under {spec}")


class _Found(NamedTuple):
    """What one member says: (N, columns), and how many columns each kind of head has of them."""

    member: int
    values: Tensor
    heads: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Group:
    """Members that see the same crops and, where there are several, share a trunk.

    trunk  what runs first: a trunk, or nothing (the identity) before a member of its own
    """

    places: tuple[int, ...]
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
    ) -> list[_Found]:
        """What `function` finds of the crops, a tensor (N, width) for each member."""
        values = self.batches(crops[self.spec], lambda batch: torch.cat(function(batch), 1))
        parts = values.split(list(widths), 1)
        return [_Found(*row) for row in zip(self.places, parts, self.head_widths, strict=True)]

    def judge(self, crops: Mapping[CropSpec, Tensor], outputs: int) -> list[_Found]:
        """Of each member (N, K+1) logits, with the heads' columns beside them, of one pass."""
        return self.run(crops, self.outputs, [outputs + sum(one) for one in self.head_widths])

    def describe(self, crops: Mapping[CropSpec, Tensor]) -> list[_Found]:
        """Of each member (N, F) features."""
        widths = [_of(network).classifier.in_features for network in self.networks]
        return self.run(crops, self.features, widths)

    @property
    def head_widths(self) -> list[tuple[int, int, int]]:
        return [(0, 0, 0) if one is None else one.widths for one in self.heads]

    def outputs(self, crops: Tensor) -> list[Tensor]:
        maps = self.trunk(crops)
        return [
            network(maps) if heads is None else _with_heads(network, heads, maps)
            for network, heads in zip(self.networks, self.heads, strict=True)
        ]

    def features(self, crops: Tensor) -> list[Tensor]:
        maps = self.trunk(crops)
        return [_of(network).features(maps) for network in self.networks]


def _together(members: Sequence[Member], precision: Precision) -> list[tuple[int, ...]]:
    """Places of members that can run as one: all that have a trunk in common, cut alike."""
    groups: dict[object, list[int]] = {}
    for place, member in enumerate(members):
        key: object = place
        trunk = member.trunk
        if trunk is not None and precision != "int8" and members[trunk.member].spec == member.spec:
            key = trunk
            owner = groups.pop(trunk.member, None)
            if owner is not None:
                groups[key] = owner
        groups.setdefault(key, []).append(place)
    return [tuple(places) for places in groups.values()]


def _group(
    members: Sequence[Member],
    places: tuple[int, ...],
    precision: Precision,
    device: torch.device | str,
    batch_size: int,
    workers: int,
) -> _Group:
    first = members[places[0]]

    def prepared(model: nn.Module, member: Member) -> nn.Module:
        model = copy.deepcopy(model).to(device)
        return prepare_for_inference(
            model, precision, member.normalisation, member.activation_ranges
        )

    cuts = [one.after for one in (members[place].trunk for place in places) if one is not None]
    if len(places) == 1:
        runs = prepared(first.model, first)
        trunk: Callable[[Tensor], Tensor] = _unchanged
        networks: tuple[nn.Module, ...] = (runs,)
    else:
        runs = prepared(Trunk(first.model, cuts[0]), first)
        trunk = runs
        shared = Member(first.model, first.input_size)
        networks = tuple(prepared(Top(members[one].model, cuts[0]), shared) for one in places)
    heads = tuple(
        HeadLayers(members[one].heads).to(device).eval() if members[one].heads else None
        for one in places
    )
    batches = FixedBatches(runs, batch_size=batch_size, workers=workers)
    return _Group(places, first.spec, batches, trunk, networks, heads)


def _unchanged(crops: Tensor) -> Tensor:
    return crops


def _with_heads(network: nn.Module, heads: HeadLayers, inputs: Tensor) -> Tensor:
    features = _of(network).features(inputs)
    return torch.cat([_of(network).classifier(features), heads(features)], 1)


def _of(network: nn.Module) -> Any:
    return network


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
