"""Class scores of every region of a data set; the networks run once and their outputs are cached.

Suppression, thresholds and protocols, the prior of sizes, temperatures and fewer regions can then
be tried in seconds, and an interrupted run resumes where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector.datasets import Dataset, Sample
from detector.detection.aggregate import RegionOutputs, RegionScores
from detector.detection.bundle import BundleManifest
from detector.detection.detector import Detector
from detector.detection.forward import Job
from detector.errors import ImageError
from detector.evaluation.scoring.store import RegionStore, parts_of
from detector.images.decoding import content_hash, decode, read_bytes, read_image
from detector.progress.bar import Pace, progress
from detector.proposals.cache.stored import ProposalStore, describe, settings_hash
from detector.proposals.gather import StoredProposals, gather
from detector.structures import Proposals

# Paths of images -> each with its proposals, or with the error that its image gives.
Proposing = Callable[[Sequence[Path]], Iterator[tuple[Path, Proposals | ImageError]]]


def proposing_with(detector: Detector, cache: ProposalStore | None = None) -> Proposing:
    """The detector's own proposals, looked up and stored in `cache`."""
    return lambda paths: gather(paths, detector.search, cache, threads=detector.threads)


def proposing_from(stored: StoredProposals) -> Proposing:
    """The stored proposals of a file. Raises ProposalError for an image without any."""
    return proposing_by(lambda path, data, size: stored.of(content_hash(data), size, str(path)))


def proposing_by(regions_of: Callable[[Path, bytes, tuple[int, int]], Proposals]) -> Proposing:
    """The regions that a function gives for an image's path, its file and its (H, W)."""

    def propose(paths: Sequence[Path]) -> Iterator[tuple[Path, Proposals | ImageError]]:
        for path in paths:
            try:
                data = read_bytes(path)
                size = decode(data, str(path)).size
            except ImageError as error:
                yield path, error
                continue
            yield path, regions_of(path, data, size)

    return propose


def region_store(
    folder: str | Path, detector: Detector, manifest: BundleManifest, proposals: str | None = None
) -> RegionStore:
    """The cache of the members' outputs, addressed by all that decides them.

    manifest   of the detector's bundle
    proposals  hash of the settings of the regions, if the detector's own proposer did not make them
    """
    members, settings = len(detector.ensemble.members), detector.settings
    heads = manifest.heads_in_use(svm=settings.svm, regression=settings.regression, members=members)
    arithmetic = detector.ensemble.arithmetic
    if settings.cascade is not None:
        # What later members see, and repeat of the first, hangs on all of it.
        decides = {
            "threshold": settings.cascade, "temperatures": detector.temperatures,
            "first": manifest.members[0].model_dump(mode="json"),
            "heads": [head.sha256 for head in heads],
        }  # fmt: skip
        arithmetic += f", cascade {settings_hash(decides)}"
    parts = parts_of(
        manifest, members, heads,
        proposals=proposals or settings_hash(describe(detector.search)),
        precision=arithmetic, device=detector.device.type,
    )  # fmt: skip
    return RegionStore(folder, parts)


def score_dataset(
    detector: Detector,
    dataset: Dataset,
    store: RegionStore,
    proposing: Proposing | None = None,
    **how: Any,
) -> Iterator[tuple[Sample, RegionScores | ImageError]]:
    """Each image with its scored regions or its error: the outputs of `forward_dataset`, aggregated
    by the detector's temperatures and prior.
    """
    for sample, found in forward_dataset(detector, dataset, store, proposing, **how):
        yield sample, found if isinstance(found, ImageError) else detector.aggregate(found)


def forward_dataset(
    detector: Detector,
    dataset: Dataset,
    store: RegionStore,
    proposing: Proposing | None = None,
    *,
    label: str = "",
    quiet: bool = True,
    stop: object = None,
    named_by: Callable[[Sample], bytes] | None = None,
) -> Iterator[tuple[Sample, RegionOutputs | ImageError]]:
    """Each image with the members' outputs for its regions, or its error: first the cached images,
    then the rest.

    proposing  where the regions come from; by default the detector's own proposer
    label      of the progress that is shown unless `quiet`
    stop       once it is true no new image begins; those under way are still finished and stored
    named_by   what names an image's file in the store, by its hash; by default the file's content
    """
    pace = Pace()
    outputs = _forwarded(
        detector, dataset, store, proposing or proposing_with(detector), stop,
        named_by or (lambda sample: read_bytes(sample.path)), pace,
    )  # fmt: skip
    return progress(outputs, label, len(dataset), quiet, pace=pace)


def _forwarded(
    detector: Detector, dataset: Dataset, store: RegionStore, proposing: Proposing, stop: object,
    named_by: Callable[[Sample], bytes], pace: Pace,
) -> Iterator[tuple[Sample, RegionOutputs | ImageError]]:  # fmt: skip
    missing: list[tuple[Sample, str]] = []
    for sample in dataset.samples:
        try:
            content = content_hash(named_by(sample))
        except ImageError as error:
            yield sample, error
            continue
        regions = store.get(content, detector.limit)
        if regions is None:
            missing.append((sample, content))
        else:
            yield sample, regions
    # All cached images came first, so that a bar's pace is that of the networks.
    pace.begin()
    # Batches run across images; results come in the order of the images.
    failed: list[tuple[Sample, ImageError]] = []

    def jobs() -> Iterator[Job]:
        made = proposing([sample.path for sample, _ in missing])
        for (sample, content), (path, found) in zip(missing, made, strict=True):
            if stop:
                return
            try:
                if isinstance(found, ImageError):
                    raise found
                image = read_image(path)
            except ImageError as error:
                failed.append((sample, error))
                continue
            yield Job(image, found, tag=(sample, content, len(found)))

    for classified in detector.stream(jobs()):
        sample, content, total = classified.tag
        store.put(content, classified, total=total)
        yield sample, classified
    yield from failed  # they are in no batch


# Most training images that a bundle remembers, evenly spaced: enough to recognise its own data.
TRAINED_ON = 1000


def picture_hashes(dataset: Dataset) -> tuple[str, ...]:
    """Short content hashes that recognise the images of a training wherever they lie, of at most
    TRAINED_ON of them; unreadable ones are skipped.
    """
    found = set()
    for sample in dataset.subset(min(TRAINED_ON, len(dataset))).samples:
        with suppress(ImageError):
            found.add(_short_hash(sample.path))
    return tuple(sorted(found))


def trained_on(manifest: BundleManifest, dataset: Dataset) -> int:
    """The number of these images that the bundle is known to have learnt from."""
    known, count = set(manifest.provenance.pictures), 0
    if known:
        for sample in dataset.samples:
            with suppress(ImageError):
                count += _short_hash(sample.path) in known
    return count


def _short_hash(path: Path) -> str:
    return content_hash(read_bytes(path))[:16]
