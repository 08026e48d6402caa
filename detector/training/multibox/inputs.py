"""Inputs of a MultiBox training: images, priors, the network at its start, crops or cached maps."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import typer
from torch import nn

from detector.datasets import Dataset, Sample
from detector.datasets.dataset import Dropped
from detector.datasets.sources import apply_settings, read_source
from detector.errors import DatasetError
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.models.split import Trunk, map_shape
from detector.progress.bar import progress
from detector.progress.messages import pluralise
from detector.proposals.multibox.network import MultiBoxNetwork
from detector.proposals.multibox.priors import Priors, free_priors, grid_priors
from detector.proposals.multibox.weights import on_trunk
from detector.structures import Array
from detector.training.classifier.patch_batches import Stream
from detector.training.engine.checkpoint import digest_of, hash_of
from detector.training.engine.context import RunContext
from detector.training.engine.feature_cache import FeatureCache, through
from detector.training.engine.network import MemberConfig, build_network
from detector.training.multibox.examples import CachedExamples, DrawnExamples, FixedViews
from detector.training.multibox.settings import MultiBoxTrainingConfig, map_fingerprint
from detector.training.multibox.views import Views, object_fractions


@dataclass(eq=False)
class TrainingSetup:
    """The examples and the network of one training.

    whole     the network to be saved
    network   the trained part of it: the heads where there is a bank
    examples  a step -> this process's part of its batch
    below     the hash of what is not trained, where there is a bank
    """

    priors: Priors
    whole: MultiBoxNetwork
    network: nn.Module
    examples: DrawnExamples | CachedExamples
    views: Views
    below: str = ""

    @property
    def count(self) -> int:
        """Views in an epoch."""
        return self.examples.stream.count

    def digest(self) -> str:
        """A hash of the images, their annotations, and the priors."""
        views, images = self.views, range(len(self.views.dataset))
        priors = np.concatenate([self.priors.boxes, self.priors.deviation])
        return digest_of(
            [views.digest()],
            np.array([views.complete(image) for image in images]),
            np.round(priors, 5) + 0.0,  # the last bits, and signs of 0, differ between machines
        )


def build_setup(
    settings: MultiBoxTrainingConfig, dataset: Dataset, context: RunContext
) -> TrainingSetup:
    """The network at its start, with its crops or, if there is a bank, its cached maps.

    Exits once `context.stop` becomes true while maps are computed; those are kept.
    """
    optimiser, trunk_settings, group = settings.optimiser, settings.trunk, context.group
    views = Views(
        dataset,
        trunk_settings.input_size,
        settings.views,
        settings.augment,
        optimiser.seed,
        quiet=context.quiet,
    )
    priors = priors_of(settings, views)
    torch.manual_seed(optimiser.seed)
    member = MemberConfig(
        architecture=trunk_settings.architecture,
        options=trunk_settings.options,
        weights=trunk_settings.weights,
    )
    trunk = Trunk(  # which cuts the last layer off, so its width of 1 means nothing
        build_network(member, 1, context.data_root), trunk_settings.after, pool_behind=False
    )
    whole = on_trunk(trunk, trunk_settings.input_size, priors, settings.heads)
    whole = whole.to(context.device).to(memory_format=torch.channels_last)
    group.broadcast_weights(whole)

    def stream(count: int) -> Stream:
        return Stream(count, optimiser.seed, optimiser.batch, group.rank, group.world_size)

    if settings.bank is None:
        examples = DrawnExamples(views, stream(len(dataset)))
        return TrainingSetup(priors, whole, whole, examples, views)
    fixed, numbers = FixedViews.of(views, settings.bank), hash_of(trunk)
    fingerprint = map_fingerprint(settings, fixed.digest(), numbers)
    maps = _cache_maps(settings, fingerprint, fixed, trunk, context)
    cached = CachedExamples(fixed, maps, stream(len(fixed)))
    return TrainingSetup(priors, whole, whole.heads, cached, views, numbers)


def _cache_maps(
    settings: MultiBoxTrainingConfig,
    fingerprint: str,
    fixed: FixedViews,
    trunk: nn.Module,
    context: RunContext,
) -> FeatureCache:
    if not len(fixed):
        raise DatasetError(f"{fixed.views.dataset.name}: none of its images can be read")
    cache = FeatureCache(
        context.bank or context.out / "bank", fixed.counts,
        map_shape(trunk, settings.trunk.input_size), fingerprint,
    )  # fmt: skip
    network = FixedBatches(
        prepare_for_inference(trunk, "float32", trunk.normalisation),  # type: ignore[arg-type]
        batch_size=8 if context.device.type == "cpu" else 64, workers=context.threads,
    )  # fmt: skip
    images = len(fixed.counts)
    # Together, since an image has only a few views.
    described = through(network, fixed.crops, images, threads=context.threads, together=8)
    filling = cache.fill(described)
    context.run_on_main(progress(filling, "maps", images, context.quiet))
    cache.require_complete()
    return cache


def priors_of(settings: MultiBoxTrainingConfig, views: Views) -> Priors:
    """Priors by k-means over all boxes of the data and, if views are mirrored, their mirror images
    (Szegedy et al., arXiv 1412.1441).
    """
    parts: list[Array] = []
    for image, sample in enumerate(views.dataset.samples):
        if len(sample.annotations) and (sample.size or views.readable(image)):
            size = sample.size or views.images.read(sample.path).shape[:2]
            parts.append(object_fractions(sample, (size[0], size[1])))
    boxes = np.concatenate(parts) if parts else np.zeros((0, 4))
    if settings.augment.flip:
        mirrored = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
        boxes = np.concatenate([boxes, mirrored])
    if settings.heads.priors == "grids":
        return grid_priors(boxes, seed=settings.optimiser.seed)
    return free_priors(boxes, settings.heads.priors, seed=settings.optimiser.seed)


def report(setup: TrainingSetup, settings: MultiBoxTrainingConfig) -> None:
    """Report on stderr what will be learnt from and what was left out, before the training."""
    dataset = setup.views.dataset
    objects = sum(len(sample.annotations) for sample in dataset.samples)
    empty = sum(not len(sample.annotations) for sample in dataset.samples)
    typer.echo(
        f"{dataset.name}: {pluralise(len(dataset), 'image')} ({empty} without objects),"
        f" {pluralise(objects, 'object')}; {pluralise(setup.count, 'view')} an epoch,"
        f" {pluralise(len(setup.priors), 'prior')}",
        err=True,
    )
    for note in dataset.notes():
        typer.echo(f"  note: {note}", err=True)
    for line in dataset.dropped_by_file():
        typer.echo(f"  left out: {line}", err=True)


def load_images(settings: MultiBoxTrainingConfig, root: Path) -> Dataset:
    """All images under one class, "object", so that classes of different sets need not agree."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    names = []
    for position, source in enumerate(settings.data):
        raw = read_source(source, root)
        difficult = {sample.image_id: sample.annotations.difficult for sample in raw.samples}
        filtered = apply_settings(source, raw, root)
        samples += [
            _as_objects(sample, position, difficult[sample.image_id]) for sample in filtered.samples
        ]
        dropped += filtered.dropped
        names.append(filtered.name)
    return Dataset("+".join(names), ("object",), tuple(samples), tuple(dropped))


def _as_objects(sample: Sample, position: int, difficult: Array) -> Sample:
    """All objects of one class, without those that a blacklist or a cap set aside beside the
    `difficult` ones of the files.

    An image is not annotated in full where something was set aside, or where it gives positives
    only: R-CNN takes no background there, so no prediction in it counts as false.
    """
    # Sources mark what they set aside as difficult; what a file calls so is an object here.
    set_aside = sample.annotations.difficult & ~difficult
    objects = sample.annotations[~set_aside]
    in_full = not (sample.positives_only or set_aside.any())
    in_full = in_full and sample.annotated is None
    return replace(
        sample,
        image_id=f"{position}/{sample.image_id}",  # two sets may use the same ids
        annotations=replace(objects, labels=np.zeros(len(objects), np.int64)),
        annotated=None if in_full else sample.annotated or frozenset(),
    )
