"""The early report of a region training: what there is to learn from, and what is amiss."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np

from detector.boxes import reachable
from detector.datasets import Dataset
from detector.datasets.image_files import is_deep, is_turned
from detector.errors import ImageError
from detector.evaluation.coverage import coverage
from detector.images.decoding import decode, read_bytes
from detector.images.levels import REMARK
from detector.progress.messages import pluralise
from detector.proposals.engines import ProposalConfig
from detector.structures import Array, Proposals
from detector.training.regions.settings import RegionTrainingConfig

# Of the images of over 8 bits, evenly spaced: those of one camera are alike.
DEEP_LOOKED_AT = 20
# Of the objects: below this, what no proposal reaches is what the detector will miss.
FEW_REACHED = 0.75


def report(
    dataset: Dataset,
    proposals: Mapping[str, Proposals],
    pool: Mapping[str, int],
    settings: RegionTrainingConfig,
) -> Iterator[str]:
    """The lines of the early report; `pool` is what RegionPool.describe returns."""
    counts = np.zeros(len(dataset.classes), int)
    for sample in dataset.samples:
        np.add.at(counts, sample.annotations.labels, 1)
    yield f"{dataset.name}: {pluralise(len(dataset), 'image')}, {pluralise(counts.sum(), 'object')}"
    yield "  " + ", ".join(f"{name} {n}" for name, n in zip(dataset.classes, counts, strict=True))
    yield "  " + ", ".join(f"{n} {what}" for what, n in pool.items())
    yield from _reach(dataset, proposals, settings)
    yield from (f"  note: {note}" for note in dataset.notes())
    yield from (f"  left out: {line}" for line in dataset.dropped_by_file())
    missing = [name for name, n in zip(dataset.classes, counts, strict=True) if n == 0]
    if missing:
        yield f"  warning: no objects of {', '.join(missing)}"
    yield from _turned(dataset)
    yield from _dark(dataset)
    if settings.member.weights is None:
        yield "  no --start: the network begins at random, and needs far longer"


def _reach(
    dataset: Dataset, proposals: Mapping[str, Proposals], settings: RegionTrainingConfig
) -> Iterator[str]:
    # Without the annotated boxes, which the pool has and a finished detector has not.
    limit = settings.sampling.max_proposals
    reach = coverage(dataset, proposals, [None] if limit is None else [limit, None])
    best, reached = reach.overlaps, (reach.overlaps >= 0.5).sum(0)
    bare = sum(len(proposals[sample.image_id]) <= 1 for sample in dataset.samples)
    yield (
        f"  proposals reach {reached[0]} of {pluralise(len(best), 'object')} at IoU 0.5"
        f" ({reach.taken[0]:.0f} proposals an image)"
    )
    if bare:
        yield f"  warning: {pluralise(bare, 'image')} without a proposal but the whole image"
    few = reached[0] < FEW_REACHED * len(best)
    if few:
        yield "  warning: what no proposal reaches is not found, however long the training"
    if not (few or bare):
        return
    cures = list(_cures(dataset, proposals, settings.proposals, best[:, -1] < 0.5))
    if limit is not None and reached[-1] > reached[0]:
        cures.append(f"sampling.max_proposals over {limit} (all reach {reached[-1]})")
    if cures:
        yield f"  to reach more, --set {'; --set '.join(cures)}"


def _cures(
    dataset: Dataset, proposals: Mapping[str, Proposals], search: ProposalConfig, missed: Array
) -> Iterator[str]:
    """Suggest search settings that would reach the `missed` (G,) objects."""
    if search.engine not in ("selective-search", "both"):
        return
    from detector.proposals.selective_search import SelectiveSearchSettings

    used = {name: field.default for name, field in SelectiveSearchSettings.model_fields.items()}
    used |= search.options
    least, longest = used["min_box_side"], used["longest_side"]
    boxes = [sample.annotations.boxes[sample.annotations.real] for sample in dataset.samples]
    images = np.array([proposals[sample.image_id].size for sample in dataset.samples], np.float64)
    narrow = (images * np.minimum(1, (longest or np.inf) / images.max(1))[:, None]).min(1) < least
    sizes = np.repeat(images, [len(one) for one in boxes], axis=0)[missed]
    corners = np.concatenate(boxes)[missed].astype(np.float64)
    small = ~reachable(corners[:, 2:] - corners[:, :2], sizes, least, longest)
    if least > 1 and (small.any() or narrow.any()):
        under = [
            pluralise(n, what) for n, what in ((small.sum(), "object"), (narrow.sum(), "image"))
        ]
        yield (
            f"proposals.options.min_box_side=1 (a proposal has no side under {least};"
            f" {' and '.join(one for one in under if not one.startswith('0'))} too small for that)"
        )
    if not missed.any():
        return
    if used["superpixel_scale"] > 1:
        yield "proposals.options.superpixel_scale=1 (smaller superpixels)"
    if longest is not None and (sizes.max(1) > longest).any():
        yield f"proposals.options.longest_side={2 * longest} (images are searched at {longest})"


def _turned(dataset: Dataset) -> Iterator[str]:
    # A declared size tells whether boxes are of the raw or of the upright image.
    unsized = [
        one
        for one in dataset.samples
        if len(one.annotations) and not (one.size and one.size_declared)
    ]
    turned = sum(is_turned(sample.path) for sample in unsized)
    if turned:
        yield (
            f"  warning: {turned} of {pluralise(len(unsized), 'image')} with objects are turned by"
            " EXIF, and nothing tells the frame of their boxes. They are read as of the upright"
            " image; where they are of the raw one, turn the pixels and drop the EXIF tag"
        )


def _dark(dataset: Dataset) -> Iterator[str]:
    deep = [sample.path for sample in dataset.samples if is_deep(sample.path)]
    looked_at = deep[:: max(1, -(-len(deep) // DEEP_LOOKED_AT))]
    said: list[str] = []
    for path in looked_at:
        with suppress(ImageError):
            remarks = decode(read_bytes(path), path.name).warnings
            said += [f"{path.name}: {one}" for one in remarks if one.startswith(REMARK)]
    if said:
        yield (
            f"  warning: {len(said)} of {len(looked_at)} images of over 8 bits keep few levels,"
            f" such as {said[0]}"
        )
