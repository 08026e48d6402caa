"""Features for heads from the images of a data set, cached on disk."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from detector.crops.warp import crop_batch
from detector.datasets import Dataset, Sample
from detector.detection.detector import Detector
from detector.detection.load import load_detector
from detector.errors import DatasetError, ImageError
from detector.hardware import use_device, use_threads
from detector.heads.region_features import DescribedImage
from detector.images.decoding import content_hash, read_bytes, read_image
from detector.models.inference.prepare import fastest_precision
from detector.progress.bar import progress
from detector.progress.messages import say_error
from detector.proposals.cache.stored import ProposalStore
from detector.proposals.gather import gather
from detector.structures import Array, Proposals
from detector.training.engine.checkpoint import digest_of, fingerprint_of
from detector.training.engine.feature_cache import FeatureCache


def load(
    bundle: Path, members: int | None, max_proposals: int | None, device: str, precision: str,
    threads: int | None,
) -> Detector:  # fmt: skip
    """Load the bundle without its own SVMs and regression, which are to be fitted."""
    threads = use_threads(threads)
    settings: dict[str, Any] = {"svm": False, "regression": False, "prescore": None}
    if max_proposals is not None:
        settings["max_proposals"] = max_proposals or None  # 0 is all of them
    return load_detector(
        bundle,
        device=use_device(device),
        precision=precision,
        members=members,
        settings=settings,
        threads=threads,
    )


def proposals_of(
    dataset: Dataset, detector: Detector, cache: Path | None, quiet: bool
) -> list[tuple[Sample, Proposals]]:
    """Each readable image with its proposals; the others are reported on stderr. Raises
    DatasetError if there is none.
    """
    pairs = []
    paths = [sample.path for sample in dataset.samples]
    propose = detector.search
    with nullcontext() if cache is None else ProposalStore(cache, "rw") as store:
        results = gather(paths, propose, store, threads=detector.threads)
        watched = progress(results, "proposals", len(paths), quiet)
        for sample, (_, result) in zip(dataset.samples, watched, strict=True):
            if isinstance(result, ImageError):
                say_error(result)
            else:
                pairs.append((sample, result[: detector.limit]))
    if not pairs:
        raise DatasetError(f"{dataset.name}: none of its images can be read")
    return pairs


def describe_regions(
    detector: Detector, image: Array, boxes: Array, mirrored: Array | None = None
) -> list[Array]:
    """Features (N, F) float32 of boxes (N, 4) for each member of the ensemble.

    mirrored  (N,) bool: crops to be flipped first
    """
    parts: list[list[torch.Tensor]] = []
    size = detector.batches.chunk.size
    # At least one chunk: without boxes the features are (0, F), too.
    for first in range(0, max(len(boxes), 1), size):
        rows = slice(first, first + size)
        crops = {}
        for spec in detector.ensemble.crop_specs:
            spec_crops = crop_batch(
                image, boxes[rows], spec.size, context=spec.context,
                device=detector.device, threads=detector.threads,
            )  # fmt: skip
            if mirrored is not None:
                flip = torch.from_numpy(mirrored[rows])
                spec_crops[flip] = spec_crops[flip].flip(-1)
            crops[spec] = spec_crops
        parts.append(detector.ensemble.features(crops))
    return [torch.cat(member).numpy() for member in zip(*parts, strict=True)]


class DataFeatures:
    """Images with the features of their regions; they can be iterated repeatedly."""

    def __init__(
        self, samples: list[tuple[Sample, Proposals]], detector: Detector, folder: Path,
        networks: Sequence[str], precision: str, quiet: bool,
    ) -> None:  # fmt: skip
        """Compute the features into a folder of `folder` that is named by all they depend on.

        networks  hashes of the members' weights
        """
        self.samples, self.detector, self.quiet = samples, detector, quiet
        self.members = len(networks)
        self.boxes = [
            DescribedImage.regions(sample.annotations, proposals.boxes)
            for sample, proposals in samples
        ]
        self.first = np.cumsum([0, *map(len, self.boxes)])
        last = [member.model.get_submodule("classifier") for member in detector.ensemble.members]
        self.ends = np.cumsum([0, *(cast("nn.Linear", layer).in_features for layer in last)])
        if precision == "auto":
            precision = fastest_precision(detector.device)
        content = [content_hash(read_bytes(sample.path)) for sample, _ in samples]
        # Another device or number format gives other digits.
        fingerprint = fingerprint_of(
            {
                "networks": list(networks), "device": detector.device.type, "precision": precision,
                "context": [spec.context for spec in detector.ensemble.crop_specs],
                "regions": digest_of(content, *self.boxes),
            }
        )  # fmt: skip
        shape = (int(self.ends[-1]), 1, 1)  # all members' vectors, as a map of one cell
        self.cache = FeatureCache(folder / fingerprint, np.diff(self.first), shape, fingerprint)
        filling = self.cache.fill(self._described)
        for _ in progress(filling, "features", len(samples), quiet):
            pass

    def _described(self, first: int) -> Generator[torch.Tensor]:
        """Yield the features (N, F, 1, 1) of each image's regions, all members side by side."""
        for (sample, _), boxes in zip(self.samples[first:], self.boxes[first:], strict=True):
            image = read_image(sample.path)
            features = np.concatenate(describe_regions(self.detector, image, boxes), 1)
            yield torch.from_numpy(features)[:, :, None, None]

    def images(self, member: int, label: str) -> Iterable[DescribedImage]:
        """All images, with the features of one member."""
        label = label if self.members == 1 else f"member {member}: {label}"
        columns = slice(*self.ends[member : member + 2])
        for number, (sample, _) in enumerate(progress(self.samples, label, quiet=self.quiet)):
            rows = np.arange(*self.first[number : number + 2])
            features = self.cache.read(rows).flatten(1).numpy()[:, columns]
            yield DescribedImage(
                self.boxes[number], features, sample.annotations, sample.background_of
            )
