"""One network to train, at its start, with its examples: crops of regions, or maps of a bank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor, nn

from detector.datasets import Dataset
from detector.hardware import choose_precision
from detector.models.inference.prepare import Precision, prepare_for_inference
from detector.models.input_normalisation import CENTRED
from detector.models.split import Top, Trunk, map_shape
from detector.progress.bar import progress
from detector.training.engine.checkpoint import hash_of
from detector.training.engine.context import RunContext
from detector.training.engine.distributed import Group
from detector.training.engine.network import build_network
from detector.training.engine.state import TrainingState, freeze, gather_statistics
from detector.training.engine.watch import HeldOutWatch
from detector.training.regions.bank import RegionBank, choose_rows, filled
from detector.training.regions.box_loss import LAYER, WithDeltas, add_layer, regression_of_start
from detector.training.regions.crops import DeviceCrops, RegionCrops, fit_in_memory
from detector.training.regions.sampling import RegionPool
from detector.training.regions.settings import (
    RegionTrainingConfig,
    bank_fingerprint,
    run_fingerprint,
)
from detector.training.regions.step import RegionStep, Target
from detector.training.regions.teacher import Teacher, build_teacher
from detector.training.regions.watching import held_out_loss

if TYPE_CHECKING:
    from detector.training.regions.data import RegionData


class Example(NamedTuple):
    """One step's part of this process; `replay` says which regions they are, as JSON."""

    inputs: Tensor
    target: Target
    replay: Callable[[], Mapping[str, object]]


@dataclass(eq=False)
class Examples:
    """The batches of a training, each a function of (seed, step) alone.

    source  makes what the network takes: crops, or a bank's maps
    boxes   box deltas are learnt, too
    flip    False if crops are never mirrored
    taught  the bank of a teacher's logits, where they were computed in advance
    """

    pool: RegionPool
    source: RegionCrops | DeviceCrops | RegionBank
    seed: int
    group: Group
    boxes: bool = False
    flip: bool = True
    taught: RegionBank | None = None

    def __call__(self, step: int) -> Example:
        batch = self.pool.draw(self.seed, step).part(self.group.rank, self.group.world_size)
        made = self.source(batch, step)
        deltas = logits = None
        if self.boxes:
            source = self.source
            mirrored = source.mirrored[batch.rows] if isinstance(source, RegionBank) else batch.flip
            deltas = torch.from_numpy(self.pool.deltas(batch.rows, mirrored & self.flip))
        if self.taught is not None:
            logits = self.taught.cache.read(batch.rows).flatten(1)
        labels, place = (torch.from_numpy(part) for part in (batch.labels, batch.place))
        target = Target(made.allowed_classes, labels, made.read, deltas, logits, place)
        return Example(made.inputs, target, batch.replay)


@dataclass(eq=False)
class Member:
    """A network with its examples, ready for its first step or its checkpoint.

    whole  the network to be saved
    state  of the part of it that is trained: all of it, where there is no bank
    below  the tensors of the frozen trunk, where there is one
    watch  looks at held-out images, if the settings ask for them and there are enough
    crops  reads the images; knows which are broken
    bank   the maps that it learns from
    """

    whole: nn.Module
    state: TrainingState
    step: RegionStep
    examples: Examples
    crops: RegionCrops | DeviceCrops
    bank: RegionBank | None
    below: Mapping[str, Tensor]
    watch: HeldOutWatch | None = None

    def averaged(self) -> dict[str, Tensor]:
        """The whole network's tensors, averages in place of what was trained."""
        return {**self.below, **self.state.averaged()}


def check_networks(
    settings: RegionTrainingConfig, classes: tuple[str, ...], context: RunContext
) -> None:
    """Raise an error for a faulty network, start or teacher before hours of proposals."""
    network = build_network(settings.member, len(classes) + 1, context.data_root)
    freeze(network, settings.member.freeze)
    if settings.bank is not None:
        Trunk(network, settings.bank.after)
    if settings.teacher is not None:
        build_teacher(settings.teacher, classes, context.data_root, torch.device("cpu"), "float32")


def build_member(settings: RegionTrainingConfig, data: RegionData, context: RunContext) -> Member:
    """The network at its start, with its crops or, if there is a bank, its cached maps.

    Exits once the run is asked to stop while maps are computed; those are kept.
    """
    network = whole = start_network(settings, data.dataset, context)
    pool, crops = data.pool, None
    bank = trunk = teacher = taught = None
    below: dict[str, Tensor] = {}
    if settings.bank is None:
        # The layer draws its start before a teacher is built, whose making draws numbers, too.
        _add_box_layer(settings, network, data.dataset, context)
        crops = _crops(settings, data, context)
        teacher = _teacher(settings, data.dataset, context)
    else:
        trunk, network = Trunk(whole, settings.bank.after), Top(whole, settings.bank.after)
        bank = open_bank(settings, trunk, data, context)
        pool, crops, below = bank.pool, bank.crops, dict(trunk.state_dict())
        if (teacher := _teacher(settings, data.dataset, context)) is not None:
            taught = _teacher_bank(bank, teacher, len(data.dataset.classes), context)
            # An image may have failed between the two passes.
            bank.read &= taught.read
        _add_box_layer(settings, network, data.dataset, context)
    names = [name for name, _ in network.named_parameters()]
    # With a bank, layers that are to be frozen may all lie below, in its trunk.
    freeze(network, [p for p in settings.member.freeze if any(n.startswith(p) for n in names)])
    gather_statistics(network)
    fingerprint = run_fingerprint(
        settings, teacher.fingerprint if teacher else "", pool.digest(),
        hash_of(trunk) if trunk else "",
    )  # fmt: skip
    optimiser = settings.optimiser
    examples = Examples(
        pool, bank or crops, optimiser.seed_of_draws, context.group,
        boxes=settings.box_loss is not None, flip=settings.augment.flip, taught=taught,
    )  # fmt: skip
    step = step_of(settings, network, pool, teacher if taught is None else None, context)
    state = TrainingState(network, optimiser, fingerprint, optimiser.steps)
    watch = None
    if data.held_pool is not None:
        measure = held_out_loss(
            settings, data, network, step, bank, trunk and prepared_trunk(settings, trunk), context
        )
        watch = HeldOutWatch(state, measure, optimiser.validate_every, optimiser.patience)
    return Member(whole, state, step, examples, crops, bank, below, watch)


def start_network(
    settings: RegionTrainingConfig, dataset: Dataset, context: RunContext
) -> nn.Module:
    """The whole network at its start, the same in all processes."""
    torch.manual_seed(settings.optimiser.seed)
    network = build_network(settings.member, len(dataset.classes) + 1, context.data_root)
    network = network.to(context.device).to(memory_format=torch.channels_last)
    context.group.broadcast_weights(network)
    return network


def open_bank(
    settings: RegionTrainingConfig, trunk: Trunk, data: RegionData, context: RunContext
) -> RegionBank:
    """The bank of a trunk; its missing maps are computed."""
    bank, member = settings.bank, settings.member
    assert bank is not None
    partial = np.array([sample.annotated is not None for sample in data.dataset.samples])
    found = RegionBank(
        context.bank or context.out / "bank",
        data.pool.restricted(choose_rows(data.pool, partial, bank)),
        RegionCrops(data.dataset, member.input_size, settings.augment, bank.seed, member.context),
        map_shape(trunk, member.input_size),
        bank_fingerprint(settings, trunk),
    )
    return filled(found, prepared_trunk(settings, trunk), context, "maps of the trunk")


def prepared_trunk(settings: RegionTrainingConfig, trunk: Trunk) -> nn.Module:
    """The trunk as the maps of a bank are computed."""
    assert settings.bank is not None
    return prepare_for_inference(trunk, settings.bank.precision, trunk.normalisation)


def _teacher_bank(
    bank: RegionBank, teacher: Teacher, classes: int, context: RunContext
) -> RegionBank:
    # The crops are fixed, so a teacher runs once for each, as the trunk does.
    shape, name = (classes + 1, 1, 1), teacher.fingerprint
    found = RegionBank(
        bank.folder / f"teacher-{name}", bank.pool, bank.crops, shape, bank.fingerprint + name
    )
    return filled(
        found, nn.Sequential(teacher, nn.Unflatten(1, shape)), context, "asking the teacher"
    )


def _teacher(
    settings: RegionTrainingConfig, dataset: Dataset, context: RunContext
) -> Teacher | None:
    if settings.teacher is None:
        return None
    # In the format of what it teaches: half precision where that is fast.
    precision: Precision = "float32"
    if settings.bank is not None:
        precision = settings.bank.precision
    elif choose_precision(settings.optimiser.precision, context.device) == torch.bfloat16:
        precision = "bfloat16"
    return build_teacher(
        settings.teacher, dataset.classes, context.data_root, context.device, precision
    )


def _add_box_layer(
    settings: RegionTrainingConfig, network: nn.Module, dataset: Dataset, context: RunContext
) -> None:
    if settings.box_loss is not None:
        start = regression_of_start(settings.member, dataset.classes, context.data_root)
        add_layer(network, len(dataset.classes), start)
        # Random where the start has none.
        context.group.broadcast_weights(network.get_submodule(LAYER))


def _crops(
    settings: RegionTrainingConfig, data: RegionData, context: RunContext
) -> RegionCrops | DeviceCrops:
    dataset, member, sizes = data.dataset, settings.member, data.pool.sizes
    how = (settings.augment, settings.optimiser.seed_of_draws, member.context)
    quiet = context.quiet or not context.group.is_main
    if not fit_in_memory(sizes, context.device):
        if context.device.type == "cuda" and not quiet:
            typer.echo("  crops by the processor: the images do not fit the device", err=True)
        return RegionCrops(dataset, member.input_size, *how)
    crops = DeviceCrops(dataset, sizes, member.input_size, *how, device=context.device)
    if not quiet:
        typer.echo("  crops by the device: all images lie in its memory", err=True)
    for _ in progress(crops.load(context.threads), "images to the device", len(dataset), quiet):
        pass
    return crops


def step_of(
    settings: RegionTrainingConfig, network: nn.Module, pool: RegionPool,
    teacher: Teacher | None, context: RunContext,
) -> RegionStep:  # fmt: skip
    optimiser, sampling = settings.optimiser, settings.sampling
    forward: Any = network if settings.box_loss is None else WithDeltas(network).__call__
    return RegionStep(
        torch.compile(forward) if context.compiled else forward,
        context.device,
        choose_precision(optimiser.precision, context.device),
        pool.batch_size(),
        normalise=getattr(network, "normalisation", CENTRED),
        hard_share=sampling.hard_share,
        drawn=sampling.drawn_per_batch,
        all_reduce=context.group.all_reduce,
        accumulate=optimiser.accumulate,
        label_smoothing=optimiser.label_smoothing,
        teacher=teacher,
        weight=settings.teacher.weight if settings.teacher else 0.0,
        temperature=settings.teacher.temperature if settings.teacher else 1.0,
        box_weight=settings.box_loss.weight if settings.box_loss else 0.0,
    )
