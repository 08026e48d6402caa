"""Everything that a region training learns from: images, their proposals, and regions of both."""

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import typer

from detector.datasets import Dataset
from detector.datasets.sources import build_dataset
from detector.detection.size_prior import SizePrior
from detector.errors import DatasetError, ImageError
from detector.heads.svm_and_regression import need_every_class
from detector.progress.bar import progress
from detector.progress.messages import pluralise
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.engines import ProposalConfig, build_engine
from detector.proposals.gather import gather
from detector.structures import Proposals
from detector.training.engine.context import RunContext
from detector.training.regions.held_out import held_out
from detector.training.regions.member import check_networks
from detector.training.regions.report import report
from detector.training.regions.sampling import RegionPool, need_objects
from detector.training.regions.settings import RegionTrainingConfig
from detector.training.regions.size_counts import countable, prior_of


class RegionData(NamedTuple):
    """Everything to learn from, independent of the network.

    dataset    the images that can be read
    pool       all their regions
    prior      object odds by size among the proposals, if the settings ask for it
    unread     number of unreadable images
    held       held-out images, if the settings ask for them and there are enough
    held_pool  their regions, if the settings ask for looks at them
    """

    dataset: Dataset
    pool: RegionPool
    prior: SizePrior | None
    unread: int
    held: Dataset | None = None
    held_pool: RegionPool | None = None


def load_regions(
    settings: RegionTrainingConfig, context: RunContext, reported: bool = False
) -> RegionData:
    """The images with their regions, and an early report of both unless `reported` already.

    Exits once the run is asked to stop; proposals made so far are kept.
    """
    dataset = build_dataset(settings.data, settings.classes, context.data_root)
    need_objects(dataset)
    if not reported:
        if settings.heads.svm:
            need_every_class((sample.annotations for sample in dataset.samples), dataset.classes)
        check_networks(settings, dataset.classes, context)
    proposals = _proposals(settings.proposals, dataset, context, reported)
    unread = len(dataset) - len(proposals)
    dataset = dataset.subset(list(proposals))
    held = held_out(dataset, settings.held_out) if settings.held_out else None
    if held is not None:
        apart = {sample.image_id for sample in held.samples}
        # Before the pool is made: no region of theirs is learnt from.
        dataset = dataset.subset([s.image_id for s in dataset.samples if s.image_id not in apart])
    pool, held_pool = RegionPool(dataset, proposals, settings.sampling), None
    if held is not None and settings.optimiser.validate_every:
        held_pool = RegionPool(held, proposals, settings.sampling)
    if context.group.is_main and not context.quiet and not reported:
        for line in report(dataset, proposals, pool.describe(), settings):
            typer.echo(line, err=True)
        if settings.held_out:
            typer.echo(f"  {_describe_held_out(held)}", err=True)
    prior = None
    if settings.sampling.size_prior:
        # Odds are those among the regions that the finished detector will score.
        judged, whole = settings.detect_with or settings.proposals, countable(dataset)
        if judged != settings.proposals and len(whole):
            proposals = _proposals(judged, whole, context, True)
        prior = prior_of(dataset, proposals, settings.sampling, settings.thresholds.max_proposals)
    return RegionData(dataset, pool, prior, unread, held, held_pool)


def _describe_held_out(held: Dataset | None) -> str:
    if held is None:
        return "held out: none; there are too few images to fit a temperature and a threshold on"
    objects = sum(int(sample.annotations.real.sum()) for sample in held.samples)
    return (
        f"held out: {pluralise(len(held), 'image')} with {pluralise(objects, 'object')}, on which"
        " temperature and threshold are fitted at the end; --set held_out=0 learns from them"
    )


def _proposals(
    wanted: ProposalConfig, dataset: Dataset, context: RunContext, reported: bool
) -> dict[str, Proposals]:
    """Proposals by image id, from the cache or computed into it, without the unreadable images. The
    main process computes, the others read.
    """
    # With few threads, images are searched in parallel instead of each with several.
    single_thread = {"threads": 1} if context.bounded else {}
    proposer = build_engine(wanted.engine, {**single_thread, **wanted.options})
    paths = [sample.path for sample in dataset.samples]
    results: list[Proposals | ImageError] = []

    def gathered() -> Generator[int, None, None]:
        with (
            ProposalStore(context.cache or context.out / "proposals.sqlite", "rw") as store,
            closing(gather(paths, proposer, store, threads=context.threads)) as found,
        ):
            for _, result in progress(found, "proposals", len(paths), context.quiet):
                results.append(result)
                yield len(results)

    context.run_on_main(gathered())
    if not context.group.is_main:  # now that all are stored
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
