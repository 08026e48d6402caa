"""The regions of a search in the order of a pre-scorer, and only the best of them
(heads/prescorer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from detector import boxes as box_ops
from detector.crops.warp import crop_batch
from detector.detection.bundle import Bundle
from detector.heads.prescorer import Prescorer
from detector.models.inference.prepare import (
    FixedBatches,
    Precision,
    fastest_precision,
    prepare_for_inference,
)
from detector.models.split import ImageMap, map_shape
from detector.proposals.cache.stored import describe
from detector.proposals.merge import Proposer, whole_image
from detector.settings import Settings
from detector.structures import Array, Proposals

# Of regions that overlap more than this, all but the best come after the others.
ALIKE = 0.8


class PrescoredSettings(Settings):
    """Settings that determine the boxes and their order."""

    engine: Literal["prescored"] = "prescored"
    keep: int
    scorer: dict[str, Any]
    proposer: dict[str, Any]


@dataclass(frozen=True, eq=False)
class WholeImages:
    """Images (H, W, 3) to the maps (C, h, w) that a pre-scorer sees.

    batches   the network: images (1, 3, side, side) to maps
    about     all that decides the maps, for caches
    """

    batches: FixedBatches
    side: int
    channels: int
    about: Mapping[str, Any]

    @staticmethod
    def of(
        bundle: Bundle, side: int, precision: Precision, device: torch.device, threads: int
    ) -> WholeImages:
        """Those of a bundle's first member. Raises SettingsError where it cannot be cut."""
        model, entry = ImageMap(bundle.models[0]), bundle.manifest.members[0]
        if precision == "int8":  # of whole networks only
            precision = fastest_precision(device)
        about = {
            "network": entry.sha256, "side": side, "precision": precision, "device": device.type,
        }  # fmt: skip
        channels = map_shape(model, 64)[0]
        run = prepare_for_inference(model.to(device), precision, entry.normalisation)
        # One at a time: images come one by one.
        return WholeImages(FixedBatches(run, batch_size=1, workers=threads), side, channels, about)

    def __call__(
        self, image: Array, function: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The map, or a function of it, which is computed by the same one thread."""
        whole = whole_image((image.shape[0], image.shape[1]))
        warped = crop_batch(image, whole, self.side, context=0, device=self.batches.device)

        def of_crop(crop: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.batches.model(crop)[0]
            return (found if function is None else function(found.cpu()))[None]

        return self.batches(warped, of_crop)[0]


@dataclass(frozen=True, eq=False)
class RegionScorer:
    """A pre-scorer, by the hash of its file, with the maps that it sees."""

    network: Prescorer
    maps: WholeImages
    sha256: str

    def __call__(self, image: Array, boxes: Array) -> Array:
        """Logits (N,) of regions (N, 4) of an image, best ranked first."""
        fractions, ranks = inputs(boxes, image.shape[:2])
        logits: Array = self.maps(image, lambda map: self.network(map, fractions, ranks)).numpy()
        return logits


def inputs(boxes: Array, size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, 4) of an image of `size` (H, W), best ranked first, as a pre-scorer takes them:
    in fractions of the sides, and their ranks.
    """
    height, width = size
    fractions = boxes / np.array([width, height, width, height], np.float32)
    return torch.from_numpy(fractions), torch.arange(len(boxes), dtype=torch.float32)


def in_order(boxes: Array, logits: Array) -> Array:
    """Indices (N,) of regions from the best to the worst; those like a better one come last."""
    first = box_ops.nms(boxes, logits, ALIKE)
    alike = np.setdiff1d(np.arange(len(boxes)), first)
    order = np.concatenate([first, alike[np.argsort(-logits[alike], kind="stable")]])
    return order.astype(np.int64)


class Prescored:
    """Image (H, W, 3) uint8 RGB -> the best `keep` regions of another proposer."""

    def __init__(self, proposer: Proposer, scorer: RegionScorer, keep: int) -> None:
        self.proposer, self.scorer, self.keep = proposer, scorer, keep

    @property
    def settings(self) -> PrescoredSettings:
        about = {"sha256": self.scorer.sha256, **self.scorer.maps.about}
        return PrescoredSettings(keep=self.keep, scorer=about, proposer=describe(self.proposer))

    def __call__(self, image: Array) -> Proposals:
        found = self.proposer(image)
        if len(found) <= self.keep:
            return found
        order = in_order(found.boxes, self.scorer(image, found.boxes))
        return Proposals(found.boxes[order[: self.keep]], found.size)
