"""Inputs of a region classifier's training: images, proposals, regions, crops or cached maps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import typer

from detector.datasets.sources import build_dataset
from detector.errors import DatasetError, ImageError
from detector.hardware import choose_precision
from detector.heads.fit import need_every_class
from detector.models.inference.prepare import FixedBatches, Precision, prepare_for_inference
from detector.models.split import Top, Trunk, map_shape
from detector.progress.bar import progress
from detector.progress.messages import pluralise
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.engines import ProposalConfig, build_engine
from detector.proposals.gather import gather
from detector.structures import Array
from detector.training.engine.bank_settings import BankSettings
from detector.training.engine.batches import InputBatch, RegionCrops
from detector.training.engine.checkpoint import hash_of
from detector.training.engine.context import RunContext
from detector.training.engine.feature_bank import (
    BankBuilder,
    FeatureBank,
    choose_rows,
    mirrored_rows,
)
from detector.training.engine.network import build_network
from detector.training.engine.state import freeze
from detector.training.engine.trunk_cache import Shape
from detector.training.regions.box_loss import LAYER, add_layer
from detector.training.regions.device_crops import DeviceCrops, fit_in_memory
from detector.training.regions.held_out import held_out
from detector.training.regions.report import report
from detector.training.regions.run import bank_fingerprint, regression_of_start
from detector.training.regions.sampling import RegionBatch, RegionPool, need_objects
from detector.training.regions.settings import RegionTrainingConfig
from detector.training.regions.size_counts import countable, prior_of
from detector.training.regions.teacher import build_teacher

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detector.datasets import Dataset
    from detector.detection.size_prior import SizePrior
    from detector.structures import Proposals


@dataclass(eq=False)
class TrainingSetup:
    """The network and the examples of one member.

    whole           the network to be saved
    network         the part of it that is trained (all of it, where there is no bank)
    make            (batch, step) -> what the network takes
    crops           reads the images; knows which are broken
    below           the state of the frozen trunk, where there is a bank; and its hash
    mirrored        (rows of the pool,) the mirrored regions of a bank; None: as a batch says
    teacher         crops -> a teacher's logits (N, K+1), where one teaches and there is no bank
    teacher_logits  a batch -> the teacher's logits (N, K+1) of it, from the bank
    """

    dataset: Dataset
    whole: nn.Module
    network: nn.Module
    pool: RegionPool
    make: Callable[[RegionBatch, int], InputBatch]
    crops: RegionCrops | DeviceCrops
    below: dict[str, Any]
    mirrored: Array | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    teacher_logits: Callable[[RegionBatch], Tensor] | None = None
    teacher_fingerprint: str = ""
    below_hash: str = ""

    def deltas(self, batch: RegionBatch, flip: bool) -> Tensor:
        """Box deltas (N, 4) from the regions of a batch to their objects, as the network sees them.

        flip  False if crops are never mirrored
        """
        import torch

        mirrored = batch.flip if self.mirrored is None else self.mirrored[batch.rows]
        return torch.from_numpy(self.pool.deltas(batch.rows, mirrored & flip))


class RegionData(NamedTuple):
    """Everything to learn from, independent of the network.

    dataset  the images that can be read
    pool     all their regions
    prior    object odds by size among the proposals, if the settings ask for it
    unread   number of unreadable images
    held     held-out images, if the settings ask for them and there are enough
    """

    dataset: Dataset
    pool: RegionPool
    prior: SizePrior | None
    unread: int
    held: Dataset | None = None


def load_regions(
    settings: RegionTrainingConfig,
    context: RunContext,
    reported: bool = False,
) -> RegionData:
    """The images with their regions, and an early report of both unless `reported` already.

    Exits once `context.stop` becomes true; proposals made so far are kept.
    """
    dataset = build_dataset(settings.data, settings.classes, context.data_root)
    need_objects(dataset)
    if settings.heads.svm and not reported:
        need_every_class((sample.annotations for sample in dataset.samples), dataset.classes)
    if not reported:
        _check_networks(settings, dataset.classes, context)
    proposals = _proposals(settings.proposals, dataset, context, reported)
    unread = len(dataset) - len(proposals)
    dataset = dataset.subset(list(proposals))
    held = held_out(dataset, settings.held_out) if settings.held_out else None
    if held is not None:
        apart = {sample.image_id for sample in held.samples}
        dataset = dataset.subset([s.image_id for s in dataset.samples if s.image_id not in apart])
    pool = RegionPool(dataset, proposals, settings.sampling)
    if context.group.is_main and not context.quiet and not reported:
        for line in report(dataset, proposals, pool.describe(), settings):
            typer.echo(line, err=True)
        if settings.held_out:
            typer.echo(f"  {_describe_held_out(held)}", err=True)
    prior = None
    if settings.sampling.size_prior:
        judged, whole = settings.detect_with or settings.proposals, countable(dataset)
        if judged != settings.proposals and len(whole):
            proposals = _proposals(judged, whole, context, True)
        prior = prior_of(dataset, proposals, settings.sampling, settings.thresholds.max_proposals)
    return RegionData(dataset, pool, prior, unread, held)


def _describe_held_out(held: Dataset | None) -> str:
    if held is None:
        return "held out: none; there are too few images to fit a temperature and a threshold on"
    objects = sum(int(sample.annotations.real.sum()) for sample in held.samples)
    return (
        f"held out: {pluralise(len(held), 'image')} with {pluralise(objects, 'object')}, on which"
        " temperature and threshold are fitted at the end; --set held_out=0 learns from them"
    )


def _check_networks(
    settings: RegionTrainingConfig, classes: tuple[str, ...], context: RunContext
) -> None:
    """Raise an error for a faulty network, start or teacher before hours of proposals."""
    import torch

    network = build_network(settings.member, len(classes) + 1, context.data_root)
    freeze(network, settings.member.freeze)
    if settings.bank is not None:
        Trunk(network, settings.bank.after)
    if settings.teacher is not None:
        build_teacher(settings.teacher, classes, context.data_root, torch.device("cpu"), "float32")


def build_setup(
    settings: RegionTrainingConfig,
    dataset: Dataset,
    pool: RegionPool,
    context: RunContext,
) -> TrainingSetup:
    """The network at its start, with its crops or, if there is a bank, its cached maps.

    Exits once `context.stop` becomes true while maps are computed; those are kept.
    """
    import torch

    torch.manual_seed(settings.optimiser.seed)
    whole = build_network(settings.member, len(dataset.classes) + 1, context.data_root)
    whole = whole.to(context.device).to(memory_format=torch.channels_last)
    context.group.broadcast_weights(whole)
    if settings.bank is None:
        return _from_crops(settings, whole, dataset, pool, context)
    return _from_bank(settings, settings.bank, whole, dataset, pool, context)


def _from_crops(
    settings: RegionTrainingConfig,
    network: nn.Module,
    dataset: Dataset,
    pool: RegionPool,
    context: RunContext,
) -> TrainingSetup:
    """The setup that trains all of the network on new crops in each step."""
    import torch

    _add_box_layer(settings, network, dataset.classes, context)
    made = _crops(settings, dataset, pool, context)
    teacher = None
    if settings.teacher is not None:
        half = choose_precision(settings.optimiser.precision, context.device) == torch.bfloat16
        precision: Precision = "bfloat16" if half else "float32"
        teacher = build_teacher(
            settings.teacher, dataset.classes, context.data_root, context.device, precision
        )
    return TrainingSetup(
        dataset, network, network, pool, made, made, {},
        teacher=teacher, teacher_fingerprint=teacher.fingerprint if teacher else "",
    )  # fmt: skip


def _from_bank(
    settings: RegionTrainingConfig,
    bank_settings: BankSettings,
    whole: nn.Module,
    dataset: Dataset,
    pool: RegionPool,
    context: RunContext,
) -> TrainingSetup:
    """The setup that trains the layers above a frozen trunk, on maps computed once; a teacher runs
    once, too.
    """
    from torch.nn import Sequential, Unflatten

    member, device = settings.member, context.device
    crops = RegionCrops(
        dataset, member.input_size, settings.augment, bank_settings.seed, member.context
    )
    rows = choose_rows(
        pool, np.array([s.annotated is not None for s in dataset.samples]), bank_settings
    )
    trunk, top = Trunk(whole, bank_settings.after), Top(whole, bank_settings.after)
    folder, fingerprint = context.bank or context.out / "bank", bank_fingerprint(settings, trunk)

    def cache(
        where: Path, network: nn.Module, shape: Shape, belongs: str, what: str
    ) -> FeatureBank:
        batches = FixedBatches(
            network, batch_size=8 if device.type == "cpu" else 64, workers=context.threads
        )
        builder = BankBuilder(where, pool, rows, crops, batches, shape, belongs, context.threads)
        finished = progress(builder.build(), what, builder.images(), context.quiet)
        context.run_on_main(finished)
        return builder.open()

    runs = prepare_for_inference(trunk, bank_settings.precision, trunk.normalisation)
    shape = map_shape(trunk, member.input_size)
    bank = cache(folder, runs, shape, fingerprint, "maps of the trunk")
    teacher_logits, name = None, ""
    if settings.teacher is not None:
        classes = dataset.classes
        teacher = build_teacher(
            settings.teacher, classes, context.data_root, device, bank_settings.precision
        )
        shape, name = (len(classes) + 1, 1, 1), teacher.fingerprint
        flat_teacher = Sequential(teacher, Unflatten(1, shape))
        teacher_bank = cache(
            folder / f"teacher-{name}",
            flat_teacher,
            shape,
            fingerprint + name,
            "asking the teacher",
        )

        bank = replace(bank, read=bank.read & teacher_bank.read)

        def teacher_logits(batch: RegionBatch) -> Tensor:
            return teacher_bank.maps.read(batch.rows).flatten(1)

    below = dict(trunk.state_dict())
    _add_box_layer(settings, top, dataset.classes, context)
    part = pool.restricted(bank.rows)
    mirrored = mirrored_rows(part.image, bank_settings.seed)
    return TrainingSetup(
        dataset, whole, top, part, bank, crops, below, mirrored,
        teacher_logits=teacher_logits, teacher_fingerprint=name, below_hash=hash_of(trunk),
    )  # fmt: skip


def _add_box_layer(
    settings: RegionTrainingConfig,
    network: nn.Module,
    classes: tuple[str, ...],
    context: RunContext,
) -> None:
    """Add the box layer if boxes are learnt, as the start has it if it does."""
    if settings.box_loss is not None:
        start = regression_of_start(settings.member, classes, context.data_root)
        add_layer(network, len(classes), start)
        context.group.broadcast_weights(network.get_submodule(LAYER))


def _crops(
    settings: RegionTrainingConfig,
    dataset: Dataset,
    pool: RegionPool,
    context: RunContext,
) -> RegionCrops | DeviceCrops:
    """The source of crops: the GPU if all images fit its memory, else the CPU."""
    member, seed, augment = settings.member, settings.optimiser.seed_of_draws, settings.augment
    quiet = context.quiet or not context.group.is_main
    if not fit_in_memory(pool.sizes, context.device):
        if context.device.type == "cuda" and not quiet:
            typer.echo("  crops by the processor: the images do not fit the device", err=True)
        return RegionCrops(dataset, member.input_size, augment, seed, member.context)
    crops = DeviceCrops(
        dataset, pool.sizes, member.input_size, augment, seed, member.context, device=context.device
    )
    if not quiet:
        typer.echo("  crops by the device: all images lie in its memory", err=True)
    for _ in progress(crops.load(context.threads), "images to the device", len(dataset), quiet):
        pass
    return crops


def _proposals(
    wanted: ProposalConfig,
    dataset: Dataset,
    context: RunContext,
    reported: bool,
) -> dict[str, Proposals]:
    """Proposals by image id, from the cache or computed into it, without the unreadable images. The
    main process computes, the others read.
    """
    single_thread = (
        {"threads": 1} if context.bounded else {}
    )  # images are searched in parallel instead
    proposer = build_engine(wanted.engine, {**single_thread, **wanted.options})
    paths = [sample.path for sample in dataset.samples]
    results: list[Proposals | ImageError] = []

    def gathered() -> Generator[int, None, None]:
        with (
            ProposalStore(context.cache or context.out / "proposals.sqlite", "rw") as store,
            closing(gather(paths, proposer, store, threads=context.threads)) as gathered_results,
        ):
            for _, result in progress(gathered_results, "proposals", len(paths), context.quiet):
                results.append(result)
                yield len(results)

    context.run_on_main(gathered())
    if not context.group.is_main:
        for _ in gathered():
            pass
    by_image: dict[str, Proposals] = {}
    for sample, result in zip(dataset.samples, results, strict=True):
        if not isinstance(result, ImageError):
            by_image[sample.image_id] = result
        elif context.group.is_main and not reported:
            typer.echo(f"left out: {result}", err=True)
    if not by_image:
        raise DatasetError(f"{dataset.name}: none of its images can be read")
    return by_image
