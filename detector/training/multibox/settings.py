"""Settings of a MultiBox training."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from detector.datasets.sources import DataSource
from detector.models.weights.storage import StoredAs
from detector.proposals.multibox.loss import LossSettings
from detector.proposals.multibox.network import HeadSettings
from detector.settings import Settings
from detector.training.augment import AugmentSettings
from detector.training.classifier.settings import OptimiserSettings
from detector.training.engine.checkpoint import fingerprint_of
from detector.training.multibox.examples import ViewBankSettings
from detector.training.multibox.views import ViewSettings


class MultiBoxSource(DataSource):
    """One data set, of which only the boxes count."""

    @model_validator(mode="after")
    def _has_no_classes(self) -> MultiBoxSource:
        if self.rename != "none":
            raise ValueError("a MultiBox has no classes to rename: leave out rename")
        return self


class TrunkSettings(Settings):
    """The network below the heads, and its start."""

    architecture: str = "googlenet"
    """Any form of GoogLeNet, or bn_inception."""
    options: dict[str, Any] = {}
    input_size: int = Field(224, ge=64, le=1024)
    weights: str | None = None
    """A start such as a region classifier's; None starts at random."""
    after: str = "4e"
    """The heads stand on this module's map; 4e's is twice as fine as 5b's."""


class MultiBoxTrainingConfig(Settings):
    """All settings of a run."""

    data: tuple[MultiBoxSource, ...]
    trunk: TrunkSettings = TrunkSettings()
    heads: HeadSettings = HeadSettings()
    loss: LossSettings = LossSettings()
    views: ViewSettings = ViewSettings()
    augment: AugmentSettings = AugmentSettings()
    bank: ViewBankSettings | None = None
    """With it the trunk stays as it is, and its maps of a fixed set of views are kept."""
    optimiser: OptimiserSettings = OptimiserSettings(
        method="adamw", epochs=20, batch=32, rate=0.001, warmup=0.5, momentum=0.9,
        square_decay=0.999, weight_decay=0.01, decay_vectors=False, clip=20.0,
        average_decay=0.998, save_every=200,
    )  # fmt: skip
    stored_as: StoredAs = "float16"
    licence: str = "not stated"
    """Licence of the trained weights; goes into their file."""

    @model_validator(mode="after")
    def _no_setting_of_a_classifier(self) -> MultiBoxTrainingConfig:
        for name in ("label_smoothing", "auxiliary_weight", "validate_every"):
            if getattr(self.optimiser, name) != OptimiserSettings.model_fields[name].default:
                raise ValueError(f"optimiser.{name} changes nothing of a MultiBox: leave it out")
        return self


# Settings that a run may change when it goes on, or when it is finished: of the file that is
# written afterwards, of what is told and saved, and of how the work is divided.
NOT_OF_THE_WEIGHTS: Any = {
    "stored_as": True, "licence": True,
    "optimiser": {"save_every", "validate_every", "max_bad_steps", "accumulate"},
}  # fmt: skip


def run_fingerprint(settings: MultiBoxTrainingConfig, learnt_from: str, trunk: str) -> str:
    """The hash that binds a checkpoint: settings that the weights depend on, the digest of the
    data, and the hash of a frozen trunk.
    """
    chosen = settings.model_dump(mode="json", exclude=NOT_OF_THE_WEIGHTS)
    return fingerprint_of({**chosen, "learnt_from": learnt_from, "trunk_below": trunk})


def map_fingerprint(settings: MultiBoxTrainingConfig, views: str, trunk: str) -> str:
    """The hash that binds cached maps; runs that differ in heads or rate share them."""
    rooms = {"data", "trunk", "views", "augment", "bank"}
    chosen = settings.model_dump(mode="json", include=rooms)
    beside = {"seed": settings.optimiser.seed, "kept": views, "trunk_below": trunk}
    return fingerprint_of({**chosen, **beside})
