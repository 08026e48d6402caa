"""The class scores of every region of a data set, kept on disk: what costs minutes is done once.

Suppression, thresholds and protocols can then be tried in seconds, and a run that was interrupted
goes on where it stopped.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets import Dataset, Sample
from detector.errors import ImageError
from detector.files import write_atomically
from detector.images import content_hash, decode, read_bytes, read_image
from detector.pipeline import Detector
from detector.proposals.gather import StoredProposals, gather
from detector.proposals.stored import ProposalStore, describe, settings_hash
from detector.structures import Array, Proposals

# Paths of images -> each with its proposals, or with the error that its image gives.
Proposing = Callable[[Sequence[Path]], Iterator[tuple[Path, Proposals | ImageError]]]


@dataclass(frozen=True, eq=False)
class ScoredRegions:
    """The regions of one image and their class scores (N, K+1), background last.

    class_boxes  (N, K, 4) where each class moves the regions; None: they are where proposed
    """

    proposals: Proposals
    scores: Array
    class_boxes: Array | None = None

    @property
    def boxes(self) -> Array:
        """What the scores stand for: (N, 4) or (N, K, 4)."""
        return self.proposals.boxes if self.class_boxes is None else self.class_boxes


class ScoreStore:
    """One file an image, named by the hash of the image's bytes, in a folder of the settings' hash.

    A file that is damaged counts as missing. Any number of processes may write at once.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder) / settings_hash(settings)[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, content: str) -> ScoredRegions | None:
        """The scored regions of the image with this content hash, or None."""
        try:
            data = io.BytesIO(self._path(content).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                height, width = file["size"].tolist()
                proposals = Proposals(file["boxes"], (height, width))
                scores = file["scores"]
                class_boxes = file.get("class_boxes")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        if scores.ndim != 2 or len(scores) != len(proposals):
            return None
        wanted = (len(scores), scores.shape[1] - 1, 4)
        if class_boxes is not None and class_boxes.shape != wanted:
            return None
        return ScoredRegions(proposals, scores, class_boxes)

    def put(self, content: str, regions: ScoredRegions) -> None:
        data = io.BytesIO()
        proposals = regions.proposals
        size = np.array(proposals.size)
        own: dict[str, Any] = {}
        if regions.class_boxes is not None:
            own["class_boxes"] = regions.class_boxes
        np.savez_compressed(data, boxes=proposals.boxes, size=size, scores=regions.scores, **own)
        write_atomically(self._path(content), data.getvalue())

    def _path(self, content: str) -> Path:
        return self.folder / f"{content}.npz"


def proposing_with(detector: Detector, cache: ProposalStore | None = None) -> Proposing:
    """The detector's own proposals, looked up and stored in `cache`."""
    return lambda paths: gather(paths, detector.propose_regions, cache, threads=detector.threads)


def proposing_from(stored: StoredProposals) -> Proposing:
    """The proposals of a file, whoever made them; an image without any is a ProposalError."""

    def look_up(paths: Sequence[Path]) -> Iterator[tuple[Path, Proposals | ImageError]]:
        for path in paths:
            try:
                data = read_bytes(path)
                size = decode(data, str(path)).size
            except ImageError as error:
                yield path, error
                continue
            yield path, stored.of(content_hash(data), size, str(path))

    return look_up


def scoring_settings(
    detector: Detector,
    members: Sequence[str],
    precision: str,
    proposals: Mapping[str, Any] | None = None,
    heads: Sequence[str] = (),
) -> dict[str, Any]:
    """All that decides a region's scores.

    members    the hashes of the networks' weights
    proposals  how the regions were made, where it was not by the detector's own proposer
    heads      the hashes of the heads in use; without any the settings are as if there were none
    """
    in_use: dict[str, Any] = {"heads": list(heads)} if heads else {}
    if detector.prior is not None:
        in_use["prior"] = detector.prior.model_dump(mode="json")
    return {
        "members": list(members),
        "proposals": proposals or describe(detector.propose_regions),
        "max_proposals": detector.settings.max_proposals,
        "context": [spec.context for spec in detector.ensemble.crop_specs],
        "device": detector.device.type,
        "precision": precision,
        **in_use,
    }


def score_dataset(
    detector: Detector,
    dataset: Dataset,
    store: ScoreStore,
    proposing: Proposing | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Sample, ScoredRegions | ImageError]]:
    """Each image with its scored regions or its error: first those in the store, then the rest.

    proposing    where the regions come from; by default the detector's own proposer
    should_stop  asked before each new image; the images under way are still finished and stored
    """
    missing: list[tuple[Sample, str]] = []
    for sample in dataset.samples:
        try:
            content = content_hash(read_bytes(sample.path))
        except ImageError as error:
            yield sample, error
            continue
        regions = store.get(content)
        if regions is None:
            missing.append((sample, content))
        else:
            yield sample, regions
    proposing = proposing or proposing_with(detector)
    yield from _score_missing(detector, missing, store, proposing, should_stop)


def _score_missing(
    detector: Detector,
    missing: list[tuple[Sample, str]],
    store: ScoreStore,
    proposing: Proposing,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[Sample, ScoredRegions | ImageError]]:
    """The network's batches run across images; results come in the order of the images."""
    under_way: deque[tuple[Sample, str, Proposals]] = deque()
    failed: list[tuple[Sample, ImageError]] = []

    def pairs() -> Iterator[tuple[Array, Proposals]]:
        made = proposing([sample.path for sample, _ in missing])
        for (sample, content), (path, found) in zip(missing, made, strict=True):
            if should_stop():
                return
            try:
                if isinstance(found, ImageError):
                    raise found
                image = read_image(path)
            except ImageError as error:
                failed.append((sample, error))
                continue
            kept = found[: detector.settings.max_proposals]
            under_way.append((sample, content, kept))
            yield image, kept

    for judged in detector.judge_many(pairs()):
        sample, content, kept = under_way.popleft()
        own = judged.boxes if judged.boxes.ndim == 3 else None
        regions = ScoredRegions(kept, judged.scores, own)
        store.put(content, regions)
        yield sample, regions
    yield from failed
