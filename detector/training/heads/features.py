"""Features of regions, with a cache on disk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detector.crops.warp import crop_batch
from detector.detection.detector import Detector
from detector.evaluation.scoring.store import DAMAGE
from detector.files import write_atomically
from detector.images.decoding import content_hash, read_bytes, read_image
from detector.proposals.cache.stored import describe, settings_hash
from detector.structures import Array


def describe_regions(
    detector: Detector, image: Array, boxes: Array, mirrored: Array | None = None
) -> list[Array]:
    """Features (N, F) float32 of boxes (N, 4) for each member of the ensemble.

    mirrored  (N,) bool: crops to be flipped first
    """
    parts: list[list[torch.Tensor]] = []
    for first in range(0, max(len(boxes), 1), detector.chunk):
        rows = slice(first, first + detector.chunk)
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


def feature_settings(detector: Detector, members: Sequence[str], precision: str) -> dict[str, Any]:
    """All settings that decide the features; `members` are the hashes of the networks' weights."""
    return {
        "members": list(members),
        "proposals": describe(detector.propose_regions),
        "max_proposals": detector.settings.max_proposals,
        "context": [spec.context for spec in detector.ensemble.crop_specs],
        "device": detector.device.type,
        "precision": precision,
    }


class FeatureStore:
    """A cache with one file per image, named by the hash of its bytes, in a folder named by the
    hash of the settings.

    Features are stored as float16, whose relative error is below a thousandth. A damaged file, or
    one with other boxes, counts as missing.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder) / settings_hash(settings)[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, content: str, boxes: Array) -> list[Array] | None:
        """Features (N, F) float32 of these boxes (N, 4) for each member, or None."""
        try:
            data = io.BytesIO(self._path(content).read_bytes())
            with np.load(data, allow_pickle=False) as file:
                stored = file["boxes"]
                features = [file[f"member{i}"] for i in range(len(file.files) - 1)]
        except DAMAGE:
            return None
        if not np.array_equal(stored, np.asarray(boxes, np.float32)):
            return None
        if any(part.ndim != 2 or len(part) != len(boxes) for part in features):
            return None
        return [part.astype(np.float32) for part in features]

    def put(self, content: str, boxes: Array, features: Sequence[Array]) -> None:
        data = io.BytesIO()
        named: dict[str, Any] = {
            f"member{i}": part.astype(np.float16) for i, part in enumerate(features)
        }
        np.savez(data, boxes=np.asarray(boxes, np.float32), **named)
        write_atomically(self._path(content), data.getvalue())

    def _path(self, content: str) -> Path:
        return self.folder / f"{content}.npz"


def cached_features(
    store: FeatureStore, detector: Detector, path: Path, boxes: Array
) -> list[Array]:
    """Features of regions of the image at `path`, from the cache or computed into it; the numbers
    are the same either way.
    """
    content = content_hash(read_bytes(path))
    features = store.get(content, boxes)
    if features is None:
        store.put(content, boxes, describe_regions(detector, read_image(path), boxes))
        features = store.get(content, boxes)
    assert features is not None
    return features
