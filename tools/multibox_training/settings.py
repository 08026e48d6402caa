"""Everything that tools/train_multibox.py decides, and nothing else."""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from detector.models.storage import StoredAs
from detector.proposals.multibox.loss import LossSettings
from detector.proposals.multibox.network import HeadSettings
from detector.settings import Settings
from detector.training.augment import AugmentSettings
from detector.training.checkpoint import fingerprint_of
from detector.training.classifier_settings import OptimiserSettings
from detector.training.pseudo_boxes import PseudoSettings
from detector.training.region_settings import DataSource
from detector.training.view_bank import ViewBankSettings
from detector.training.views import ViewSettings


class MultiBoxSource(DataSource):
    """One data set, or a folder of images that nobody annotated."""

    unlabelled: bool = False
    """The path is a folder of images, whatever lies in folders below it included."""
    pseudo: PseudoSettings | None = None
    """Whoever labels these images too; by saying so one says that not all of their objects are
    annotated.
    """

    @model_validator(mode="after")
    def _has_no_classes(self) -> MultiBoxSource:
        if self.rename != "none":
            raise ValueError("a MultiBox has no classes to rename: leave out rename")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_silence(handler(self))


class TrunkSettings(Settings):
    """The network below the heads, and what it starts from."""

    architecture: str = "googlenet"
    """Any form of GoogLeNet, or bn_inception."""
    options: dict[str, Any] = {}
    input_size: int = Field(224, ge=64, le=1024)
    weights: str | None = None
    """What a region classifier starts from; None starts at random."""
    after: str = "4e"
    """The heads stand on this module's map; 4e's is twice as fine as 5b's."""


class MultiBoxTrainingConfig(Settings):
    """The whole run."""

    data: tuple[MultiBoxSource, ...]
    trunk: TrunkSettings = TrunkSettings()
    heads: HeadSettings = HeadSettings()
    loss: LossSettings = LossSettings()
    views: ViewSettings = ViewSettings()
    augment: AugmentSettings = AugmentSettings()
    pseudo: PseudoSettings | None = None
    """Labels all images that are not annotated in full; a source may have its own."""
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

    @model_validator(mode="after")
    def _no_setting_of_a_classifier(self) -> MultiBoxTrainingConfig:
        for name in ("label_smoothing", "auxiliary_weight", "validate_every"):
            if getattr(self.optimiser, name) != OptimiserSettings.model_fields[name].default:
                raise ValueError(f"optimiser.{name} changes nothing of a MultiBox: leave it out")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_silence(handler(self))

    def pseudo_of(self, source: MultiBoxSource) -> PseudoSettings | None:
        return source.pseudo or self.pseudo


def _without_silence(found: dict[str, Any]) -> dict[str, Any]:
    """Settings without those of pseudo-labels that are not in use: runs without them are bound to
    the same settings as before there were any.
    """
    off = {"pseudo": None, "unlabelled": False}
    return {k: v for k, v in found.items() if k not in off or v != off[k]}


NOT_OF_THE_WEIGHTS: Any = {
    "stored_as": True, "licence": True,
    "optimiser": {"save_every", "validate_every", "max_bad_steps", "accumulate"},
}  # fmt: skip
"""Settings that a run may change when it goes on, or when it is finished: of the file that is
written afterwards, of what is told and saved, and of how the work is divided.
"""


FORM = "3:"
"""Begins the fingerprints of a run and of its maps; those of the first form, without it, knew the
trunk by its path only, and a run's nothing of images, boxes and priors; those of the second knew
images by their names and sizes.
"""


def run_fingerprint(
    settings: MultiBoxTrainingConfig, pseudo: str, learnt_from: str, trunk: str
) -> str:
    """What a checkpoint is bound to: the settings, the digests of the pseudo boxes and of all that
    is learnt from, and the hash of a trunk that is not in it.
    """
    beside = {"learnt_from": learnt_from, "trunk_below": trunk}
    return FORM + fingerprint_of({**run_settings(settings, pseudo), **beside})


def map_fingerprint(settings: MultiBoxTrainingConfig, pseudo: str, views: str, trunk: str) -> str:
    """What kept maps are bound to: as a run, but to the digest of their views alone."""
    beside = {"kept": views, "trunk_below": trunk}
    return FORM + fingerprint_of({**map_settings(settings, pseudo), **beside})


def run_settings(settings: MultiBoxTrainingConfig, pseudo: str = "") -> dict[str, Any]:
    """All that the weights depend on; `pseudo` is the digest of the pseudo boxes, if any."""
    chosen = settings.model_dump(mode="json", exclude=NOT_OF_THE_WEIGHTS)
    return {**chosen, **_bound_to(settings, pseudo)}


def map_settings(settings: MultiBoxTrainingConfig, pseudo: str = "") -> dict[str, Any]:
    """All that kept maps depend on: runs that differ in heads or rate share them. Of pseudo-labels
    it is the boxes themselves, and not what they weigh.
    """
    rooms = {"data", "trunk", "views", "augment", "bank"}
    seed = settings.optimiser.seed
    found = settings.model_dump(mode="json", include=rooms)
    found["data"] = [{k: v for k, v in one.items() if k != "pseudo"} for one in found["data"]]
    return {**found, "seed": seed, **_bound_to(settings, pseudo)}


def _bound_to(settings: MultiBoxTrainingConfig, pseudo: str) -> dict[str, Any]:
    """What the settings do not tell. Until flip=false was obeyed, such runs had mirrored views and
    priors; what they left is of other settings.
    """
    found = {"pseudo_boxes": pseudo} if pseudo else {}
    return found if settings.augment.flip else {**found, "mirrored": "never"}
