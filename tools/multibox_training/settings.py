"""Everything that tools/train_multibox.py decides, and nothing else."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from detector.build import DataSource
from detector.models.storage import StoredAs
from detector.proposals.multibox.loss import LossSettings
from detector.proposals.multibox.network import HeadSettings
from detector.training.augment import AugmentSettings
from detector.training.classifier_settings import OptimiserSettings
from detector.training.view_bank import ViewBankSettings
from detector.training.views import ViewSettings


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrunkSettings(_Settings):
    """The network below the heads, and what it starts from."""

    architecture: str = "googlenet"
    """Any form of GoogLeNet, or bn_inception."""
    options: dict[str, Any] = {}
    input_size: int = Field(224, ge=64, le=1024)
    weights: str | None = None
    """What a region classifier starts from; None starts at random."""
    after: str = "4e"
    """The heads stand on this module's map; 4e's is twice as fine as 5b's."""


class MultiBoxTrainingConfig(_Settings):
    """The whole run."""

    data: tuple[DataSource, ...]
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
    """Of the trained weights; goes into their file."""


def map_settings(settings: MultiBoxTrainingConfig) -> dict[str, Any]:
    """All that kept maps depend on: runs that differ in heads or rate share them."""
    rooms = {"data", "trunk", "views", "augment", "bank"}
    seed = settings.optimiser.seed
    return {**settings.model_dump(mode="json", include=rooms), "seed": seed}
