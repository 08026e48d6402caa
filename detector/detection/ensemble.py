"""The ensemble of M classifiers: the mean of their softmax (arXiv 1409.4842, sections 7 and 8)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.crops.warp import CONTEXT, MAX_CONTEXT
from detector.detection.aggregate import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    MemberOutput,
    class_scores,
    likely,
    repeating_first,
)
from detector.errors import SettingsError
from detector.heads import NO_HEADS, Heads
from detector.heads.linear import HeadLayers
from detector.models.inference.prepare import (
    FixedBatches,
    Precision,
    Prepared,
    prepare_for_inference,
)
from detector.models.input_normalisation import CENTRED, Normalisation, is_usable
from detector.models.split import SharedTrunk, Top, Trunk


class CropSpec(NamedTuple):
    """The geometry of a crop: its side S in pixels, and the share of it that is context on each
    side.
    """

    size: int
    context: float = CONTEXT


# Another way to run networks than torch's. It gets those of a group as one module, crops
# (N, 3, S, S) to (N, C), with S and the group's number, and gives a function of a batch.
Engine = Callable[[nn.Module, int, int], Callable[[Tensor], Tensor]]


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network: crops (N, 3, input_size, input_size) to logits (N, K+1)."""

    model: nn.Module
    input_size: int
    normalisation: Normalisation = CENTRED
    # Largest activations of the layers, for 8-bit inference (models/inference/int8.py).
    activation_ranges: Mapping[str, float] | None = None
    heads: Heads = NO_HEADS  # those in use
    context: float = CONTEXT
    trunk: SharedTrunk | None = None
    temperature: float = 1.0  # divides its logits before the softmax (aggregate.py)

    def __post_init__(self) -> None:
        if not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise SettingsError(
                f"a member's temperature is {self.temperature}; expected"
                f" {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, and 1 leaves the softmax as it is"
            )
        if not 0 <= self.context <= MAX_CONTEXT:
            raise SettingsError(
                f"a member's context is {self.context}; expected 0 to {MAX_CONTEXT:g}, the share"
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

    Members may differ in architecture, input size and context; those of one size and context share
    their crops, and a common trunk runs once. Batches have one fixed, padded shape, so that a
    region's row depends neither on its neighbours nor on the number of `workers` (threads on a CPU,
    each with its own batch).

    Heads run on the features of the same pass; aggregate.py combines the members' outputs. Raises
    SettingsError for members that do not fit each other.

    engine       runs the networks in place of torch (engines.py), and does not give features
    engine_name  with its version, where that is not torch
    at_once      crops that the workers compute at a time
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        workers: int | None = None,
        engine: Engine | None = None,
        engine_name: str = "",
    ) -> None:
        if not members:
            raise SettingsError("an ensemble needs at least one member")
        outputs = {_outputs(member.model) for member in members}
        if len(outputs) > 1:
            raise SettingsError(f"members disagree on the number of classes: {sorted(outputs)}")
        self.members = tuple(members)
        self.temperatures = tuple(member.temperature for member in members)
        self.precision, self.engine_name = precision, engine_name
        _check_heads(self.members)
        self.num_outputs = outputs.pop() + max(len(member.heads.added) for member in members)
        on_cpu = torch.device(device).type == "cpu"
        # On a CPU the maps of 8 crops stay in a core's cache (models/inference/prepare.py).
        size = (8 if on_cpu else 128) if batch_size is None else batch_size
        if workers is None:
            workers = torch.get_num_threads() if on_cpu else 1
        if size < 1 or workers < 1:
            raise SettingsError(
                f"batch_size is {size} and workers {workers}; both must be at least 1,"
                " and None is the usual number"
            )
        self.at_once = size * workers  # crops
        self.groups = [
            _group(self.members, positions, precision, device, size, workers, plain=bool(engine))
            for positions in _together(self.members, precision)
        ]
        if engine is not None:
            for number, group in enumerate(self.groups):
                run = engine(GroupNetwork(group), group.spec.size, number)
                self.groups[number] = replace(group, run=run)

    @property
    def arithmetic(self) -> str:
        """The number format and, where it is not torch, the engine: both decide the last bits."""
        return self.precision + (f", {self.engine_name}" if self.engine_name else "")

    @property
    def crop_specs(self) -> tuple[CropSpec, ...]:
        """The distinct kinds of crops that the members take, in ascending order."""
        return tuple(sorted({member.spec for member in self.members}))

    def __call__(self, crops: Mapping[CropSpec, Tensor]) -> Tensor:
        """Class probabilities (N, K+1) float32 on the CPU of crops {spec: (N, 3, S, S)}; the last
        column is background.
        """
        return class_scores(self.forward(crops), self.temperatures)

    def forward(self, crops: Mapping[CropSpec, Tensor]) -> tuple[MemberOutput, ...]:
        """Each member's raw outputs for crops {spec: (N, 3, S, S)}."""
        return self.split(self._run(crops, _Top.outputs))

    def cascade(
        self, crops: Mapping[CropSpec, Tensor], temperatures: Sequence[float], threshold: float
    ) -> tuple[MemberOutput, ...]:
        """The outputs as of `forward`, but members after the first count only for regions to which
        it gives a class at least `threshold`. For the others they repeat its outputs, so that the
        mean is its own.
        """
        lead = next(group for group in self.groups if group.tops[0].position == 0)
        (values,) = self._run(crops, _Top.outputs, [lead])
        widths = list(lead.tops[0].widths)
        first = MemberOutput(*values[:, : sum(widths)].split(widths, 1))
        seen = likely(first, temperatures[0], threshold)
        chosen = {spec: batch[seen.to(batch.device)] for spec, batch in crops.items()}
        others = [group for group in self.groups if group is not lead]
        columns = {lead: values}
        for group, some in zip(others, self._run(chosen, _Top.outputs, others), strict=True):
            columns[group] = some.new_zeros(len(seen), some.shape[1])
            columns[group][seen] = some
        outputs = self.split([columns[group] for group in self.groups])
        return repeating_first(outputs, seen, temperatures)

    def split(self, columns: Sequence[Tensor]) -> tuple[MemberOutput, ...]:
        """Each member's raw outputs, from the columns (N, C) of each group of them."""
        outputs = self._of_members(columns, lambda top: sum(top.widths))
        return tuple(MemberOutput(*values.split(list(top.widths), 1)) for top, values in outputs)

    def features(self, crops: Mapping[CropSpec, Tensor]) -> list[Tensor]:
        """Each member's features (N, F) of crops {spec: (N, 3, S, S)}: the inputs of its last layer
        and its heads.
        """
        columns = self._run(crops, _Top.features)
        outputs = self._of_members(columns, lambda top: top.network.classifier.in_features)
        return [values for _, values in outputs]

    def _run(
        self, crops: Mapping[CropSpec, Tensor], function: Callable[[_Top, Tensor], Tensor],
        groups: Sequence[_Group] | None = None,
    ) -> list[Tensor]:  # fmt: skip
        """Apply `function` to the members: the columns (N, C) of each group."""
        for spec in self.crop_specs:
            size = spec.size
            if spec not in crops or tuple(crops[spec].shape[1:]) != (3, size, size):
                raise ValueError(f"crops of shape (N, 3, {size}, {size}) are needed under {spec}")
        return [
            group.batches(crops[group.spec], partial(group.columns, function))
            for group in (self.groups if groups is None else groups)
        ]

    def _of_members(
        self, columns: Sequence[Tensor], width: Callable[[_Top], int]
    ) -> list[tuple[_Top, Tensor]]:
        """Split the columns of the groups: pairs of a top and (N, `width`), in their order."""
        found: list[tuple[_Top, Tensor]] = []
        for group, values in zip(self.groups, columns, strict=True):
            parts = values.split([width(top) for top in group.tops], 1)
            found += zip(group.tops, parts, strict=True)
        return sorted(found, key=lambda pair: pair[0].position)


@dataclass(frozen=True, eq=False)
class _Top:
    """One member without the layers that it shares.

    position  in the ensemble
    network   the layers above the shared ones, or all; has `features` and `classifier`, which
              nn.Module does not declare
    widths    columns of its logits, and of each kind of head
    """

    position: int
    network: Any
    heads: HeadLayers | None
    widths: tuple[int, ...]

    def features(self, maps: Tensor) -> Tensor:
        return self.network.features(maps)

    def outputs(self, maps: Tensor) -> Tensor:
        """Logits with the columns of the heads beside them, in one pass."""
        if self.heads is None:
            return self.network(maps)
        features = self.features(maps)
        return torch.cat([self.network.classifier(features), self.heads(features)], 1)


@dataclass(frozen=True, eq=False)
class _Group:
    """Members that take the same crops and, where there are several, share a trunk.

    run  their outputs by another engine
    """

    spec: CropSpec
    batches: FixedBatches
    trunk: nn.Module
    tops: tuple[_Top, ...]
    run: Callable[[Tensor], Tensor] | None = None

    def columns(self, function: Callable[[_Top, Tensor], Tensor], crops: Tensor) -> Tensor:
        if self.run is not None and function is _Top.outputs:
            return self.run(crops)
        maps = self.trunk(crops)
        return torch.cat([function(top, maps) for top in self.tops], 1)


class GroupNetwork(nn.Module):
    """The networks of a group as one: crops (N, 3, S, S) to the columns (N, C) of its members."""

    def __init__(self, group: _Group) -> None:
        super().__init__()
        self.trunk, self.tops = group.trunk, group.tops
        self.networks = nn.ModuleList(top.network for top in group.tops)
        self.heads = nn.ModuleList(top.heads for top in group.tops if top.heads is not None)

    def forward(self, crops: Tensor) -> Tensor:
        maps = self.trunk(crops)
        return torch.cat([top.outputs(maps) for top in self.tops], 1)


def _together(members: Sequence[Member], precision: Precision) -> list[tuple[int, ...]]:
    """Group the positions of members that run as one: those with a common trunk, cut alike."""
    groups: dict[object, list[int]] = {}
    for position, member in enumerate(members):
        key: object = position
        trunk = member.trunk
        owner = None if trunk is None else members[trunk.member]
        # The trunk runs once: on the same crops, brought to the same inputs. int8.py quantises
        # whole networks, no trunks.
        if trunk and owner and precision != "int8" and (owner.spec, owner.normalisation) == (
            member.spec, member.normalisation,
        ):  # fmt: skip
            key = trunk
            # The owner joins the first cut of its trunk; members cut elsewhere run without it.
            if trunk.member in groups:
                groups[key] = groups.pop(trunk.member)
        groups.setdefault(key, []).append(position)
    return [tuple(positions) for positions in groups.values()]


def _group(
    members: Sequence[Member],
    positions: tuple[int, ...],
    precision: Precision,
    device: torch.device | str,
    batch_size: int,
    workers: int,
    *,
    plain: bool = False,
) -> _Group:
    first = members[positions[0]]

    def prepared(model: nn.Module, member: Member) -> nn.Module:
        model = copy.deepcopy(model).to(device)  # `to` moves the parameters in place
        if plain:  # an engine has its own preparations
            return Prepared(model.eval().requires_grad_(False), member.normalisation.__call__)
        return prepare_for_inference(
            model, precision, member.normalisation, member.activation_ranges
        )

    if len(positions) == 1:
        runs = prepared(first.model, first)
        trunk: nn.Module = nn.Identity()
        networks = [runs]
    else:
        after = next(cut.after for i in positions if (cut := members[i].trunk) is not None)
        runs = trunk = prepared(Trunk(first.model, after), first)
        shared = Member(first.model, first.input_size)  # maps are not normalised again
        networks = [prepared(Top(members[i].model, after), shared) for i in positions]
    tops = []
    for position, network in zip(positions, networks, strict=True):
        member = members[position]
        heads = HeadLayers(member.heads).to(device).eval() if member.heads else None
        widths = (_outputs(member.model), *(heads.widths if heads else (0, 0, 0, 0)))
        tops.append(_Top(position, network, heads, widths))
    batches = FixedBatches(runs, batch_size=batch_size, workers=workers)
    return _Group(first.spec, batches, trunk, tuple(tops))


def _check_heads(members: Sequence[Member]) -> None:
    # Scores are means over the members, so all or none of them have a head of each kind. Added
    # classes are an exception: their mean is over the members that have one.
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
