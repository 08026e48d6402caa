"""Who draws pseudo boxes: a trained detector, or selective search with its calibrated ranking.

Either is a proposer whose scores lie in [0, 1], and whose `settings` are all that decides its
boxes: the proposal cache keeps them under that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from detector.bundle import MANIFEST
from detector.errors import BundleError, SettingsError
from detector.images import content_hash
from detector.loading import load_detector
from detector.models.inference import fastest_precision
from detector.proposals.calibration import Calibration
from detector.proposals.engines import warm_up
from detector.proposals.multibox.predict import SHIPPED
from detector.proposals.multibox.weights import load_multibox
from detector.proposals.selective_search import SelectiveSearch, SelectiveSearchSettings
from detector.proposals.selective_search.learned_ranking import other_weights
from detector.settings import Settings
from detector.structures import Array, Proposals
from detector.training.pseudo_boxes import SELECTIVE_SEARCH

if TYPE_CHECKING:
    import torch

LEAST_KEPT = 0.1
"""Boxes are cached down to this score, so that another `min_score` above it costs nothing."""


class DetectingSettings(Settings):
    """All that decides a detector's boxes; `bundle` is the SHA-256 of its bundle.json, which names
    the weights by theirs.
    """

    bundle: str
    device: str
    precision: str
    min_score: float


class RankingSettings(Settings):
    """All that decides the boxes of selective search and their chances."""

    search: SelectiveSearchSettings
    calibration: Calibration
    min_score: float


class Detecting:
    """Image (H, W, 3) uint8 RGB -> a detector's boxes of all its classes, best first."""

    def __init__(
        self,
        bundle: Path,
        min_score: float,
        device: torch.device,
        threads: int,
        announce: Callable[[str], None] | None,
    ) -> None:
        if not (bundle / MANIFEST).is_file():
            raise BundleError(
                f"pseudo.from: {bundle}: no {MANIFEST} in it; give the folder of a trained"
                f" detector, or {SELECTIVE_SEARCH}"
            )
        self.settings = DetectingSettings(
            bundle=content_hash((bundle / MANIFEST).read_bytes()), device=device.type,
            precision=fastest_precision(device), min_score=min_score,
        )  # fmt: skip
        self.detector = load_detector(
            bundle, device=device, precision=self.settings.precision, threads=threads,
            settings={"score_threshold": min_score}, announce=announce,
        )  # fmt: skip

    @property
    def beside_settings(self) -> dict[str, str | int]:
        """What decides the regions that are judged, beside the settings."""
        return getattr(self.detector.propose_regions, "beside_settings", {})

    def __call__(self, image: Array) -> Proposals:
        found = self.detector(image)
        return Proposals(found.boxes, (image.shape[0], image.shape[1]), found.scores)


class Ranking:
    """Image (H, W, 3) uint8 RGB -> selective search's boxes and the chance that each covers an
    object, by the calibration that comes with the shipped MultiBox.
    """

    def __init__(
        self, min_score: float, threads: int, announce: Callable[[str], None] | None
    ) -> None:
        known = load_multibox(SHIPPED).header.calibration if SHIPPED.is_file() else {}
        if SELECTIVE_SEARCH not in known:
            raise SettingsError(
                f"pseudo.from: {SELECTIVE_SEARCH} needs its calibration, and no calibrated weights"
                " come with this package; give the folder of a trained detector"
            )
        warm_up(SELECTIVE_SEARCH, announce)
        self.search = SelectiveSearch(threads=threads)
        self.calibration = known[SELECTIVE_SEARCH]
        self.settings = RankingSettings(
            search=self.search.settings, calibration=self.calibration, min_score=min_score
        )

    @property
    def beside_settings(self) -> dict[str, str]:
        """What decides the scores beside the settings."""
        return other_weights()

    def __call__(self, image: Array) -> Proposals:
        found = self.search.scored(image)
        assert found.scores is not None
        chances = self.calibration(found.scores)
        kept = chances >= self.settings.min_score
        return Proposals(found.boxes[kept], found.size, chances[kept])


def build_source(
    name: str,
    root: Path,
    min_score: float,
    device: torch.device,
    threads: int,
    announce: Callable[[str], None] | None = None,
) -> Detecting | Ranking:
    """By its name in the settings; a bundle's path is relative to `root`."""
    least = min(min_score, LEAST_KEPT)
    if name == SELECTIVE_SEARCH:
        return Ranking(least, threads, announce)
    return Detecting(root / name, least, device, threads, announce)
