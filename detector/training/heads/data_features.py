"""Features for heads from the images of a data set, cached on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detector.datasets import Dataset, Sample
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import DatasetError, ImageError
from detector.hardware import use_device, use_threads
from detector.heads.regions import DescribedImage
from detector.models.inference.prepare import fastest_precision
from detector.progress.bar import progress
from detector.progress.messages import say_error
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.gather import gather
from detector.structures import Proposals
from detector.training.heads.features import FeatureStore, cached_features, feature_settings


def load(
    bundle: Path, members: int | None, max_proposals: int | None, device: str, precision: str,
    threads: int | None, quiet: bool,
) -> Detector:  # fmt: skip
    """Load the bundle without its own SVMs and regression, which are to be fitted."""
    threads = use_threads(threads)
    settings: dict[str, Any] = {"svm": False, "regression": False}
    if max_proposals is not None:
        settings["max_proposals"] = max_proposals or None
    return load_detector(
        bundle,
        device=use_device(device),
        precision=precision,
        members=members,
        settings=settings,
        threads=threads,
        announce=None if quiet else lambda text: print(text, file=sys.stderr),
    )


def proposals_of(
    dataset: Dataset, detector: Detector, cache: Path | None, quiet: bool
) -> list[tuple[Sample, Proposals]]:
    """Each readable image with its proposals; the others are reported on stderr. Raises
    DatasetError if there is none.
    """
    pairs = []
    paths = [sample.path for sample in dataset.samples]
    propose = detector.propose_regions
    with nullcontext() if cache is None else ProposalStore(cache, "rw") as store:
        results = gather(paths, propose, store, threads=detector.threads)
        watched = progress(results, "proposals", len(paths), quiet)
        for sample, (_, result) in zip(dataset.samples, watched, strict=True):
            if isinstance(result, ImageError):
                say_error(result)
            else:
                pairs.append((sample, result[: detector.settings.max_proposals]))
    if not pairs:
        raise DatasetError(f"{dataset.name}: none of its images can be read")
    return pairs


def feature_store(
    folder: Path, detector: Detector, members: list[str], precision: str
) -> FeatureStore:
    """The feature cache for these settings; `members` are the networks' hashes."""
    if precision == "auto":
        precision = fastest_precision(detector.device)
    return FeatureStore(folder, feature_settings(detector, members, precision))


class DataFeatures:
    """Images with the features of their regions; they can be iterated repeatedly."""

    def __init__(
        self, samples: list[tuple[Sample, Proposals]], detector: Detector, store: FeatureStore,
        quiet: bool,
    ) -> None:  # fmt: skip
        self.samples, self.detector, self.store, self.quiet = samples, detector, store, quiet
        self.members = len(detector.ensemble.members)

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member."""
        label = label if self.members == 1 else f"member {member}: {label}"
        for sample, proposals in progress(self.samples, label, quiet=self.quiet):
            boxes = DescribedImage.regions(sample.annotations, proposals.boxes)
            features = cached_features(self.store, self.detector, sample.path, boxes)[member]
            yield DescribedImage(boxes, features, sample.annotations, sample.background_of)
