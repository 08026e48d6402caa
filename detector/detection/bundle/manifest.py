"""The manifest of a bundle, `bundle.json`: members, heads, thresholds, provenance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from detector.crops.warp import CONTEXT, MAX_CONTEXT
from detector.detection.aggregate import MAX_TEMPERATURE, MIN_TEMPERATURE
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.errors import SettingsError
from detector.heads.prescorer import PrescorerManifest
from detector.heads.stored import ExamplesManifest, HeadManifest
from detector.models.input_normalisation import (
    CENTRED,
    MAX_MEAN,
    MAX_STD,
    MIN_STD,
    Normalisation,
    Triple,
    is_usable,
)
from detector.models.split import SharedTrunk
from detector.models.weights.storage import StoredAs
from detector.settings import Settings, TensorFile


class MemberManifest(Settings):
    """One network. `save_bundle` fills in `file`, `bytes` and `sha256`."""

    architecture: str
    options: dict[str, bool | int | float | str] = {}
    input_size: int = Field(default=224, ge=16, le=2048)
    context: float = Field(default=CONTEXT, ge=0, le=MAX_CONTEXT)
    """Share of the crop's side that lies around the region, on each side (R-CNN's 16 of 227)."""
    mean: Triple = CENTRED.mean
    std: Triple = CENTRED.std
    activation_ranges: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = {}
    """For 8-bit inference (models/inference/int8.py); empty if not measured."""
    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    """Its softmax is that of logits / temperature (inception-rcnn fit temperature)."""
    stored_as: StoredAs = "float16"
    trunk: SharedTrunk | None = None
    """Its file then holds only what is above the trunk of another member before it."""
    file: TensorFile = ""
    bytes: int = Field(default=0, ge=0)
    sha256: str = ""

    @field_validator("mean", "std")
    @classmethod
    def _of_pixels(cls, values: Triple, info: ValidationInfo) -> Triple:
        # One field at a time: the other one is the default here, which is usable.
        if not is_usable(Normalisation(**{str(info.field_name): values})):
            raise ValueError(
                f"every std must be {MIN_STD:g} to {MAX_STD:g} and every mean at most"
                f" {MAX_MEAN:g}, of pixels in 0 to 1"
            )
        return values

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, self.std)


class Provenance(Settings):
    """The origin of the weights, and their licence."""

    training_data: str
    licence: str
    started_from: str = "random initialisation"
    recipe: dict[str, Any] = {}
    pictures: tuple[str, ...] = Field(default=(), max_length=10_000)
    """Prefixes of the hashes of training images (evaluation/scoring/regions.py)."""
    unfinished: str = ""
    """The step at which an unfinished training was stopped, such as "step 18 of 500"."""


class BundleManifest(Settings):
    """Everything in a bundle except its tensors. Background is not named: it is index K of the
    outputs.

    Classes added by a head come after the networks' own.
    """

    format_version: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1, max_length=100_000)
    members: tuple[MemberManifest, ...] = Field(min_length=1, max_length=1000)
    proposals: dict[str, Any] = {}
    thresholds: DetectionSettings = DetectionSettings()
    """Those of the bundle, which a caller may override."""
    prior: SizePrior | None = None
    """Correction of the scores by region size (size_prior.py); None leaves them as they are."""
    provenance: Provenance
    metrics: dict[str, float] = {}
    heads: tuple[HeadManifest, ...] = Field(default=(), max_length=10_000)
    prescorer: PrescorerManifest | None = None

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes) or not all(name.strip() for name in classes):
            raise ValueError("class names must be distinct and not empty")
        return classes

    @model_validator(mode="after")
    def _trunks_fit(self) -> BundleManifest:
        for number, member in enumerate(self.members):
            if member.trunk is None:
                continue
            if not 0 <= member.trunk.member < number:
                raise ValueError(
                    f"member {number} takes the trunk of a member that is not before it"
                )
            owner = self.members[member.trunk.member]
            if owner.trunk is not None or (owner.architecture, owner.options) != (
                member.architecture, member.options,
            ):  # fmt: skip
                raise ValueError(f"member {number} and the owner of its trunk must be built alike")
        return self

    @model_validator(mode="after")
    def _prescorer_is_there(self) -> BundleManifest:
        if self.thresholds.prescore is not None and self.prescorer is None:
            raise ValueError("its thresholds name a pre-scorer, which it does not have")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> BundleManifest:
        added = tuple(head.name for head in self.heads if head.kind == "class")
        # Not [-len(added):], which is all of them where no class is added.
        if (
            len(added) >= len(self.classes)
            or self.classes[len(self.classes) - len(added) :] != added
        ):
            raise ValueError(f"the last classes must be those of the heads, {', '.join(added)}")
        slots = [(head.kind, head.member) for head in self.heads if head.kind != "class"]
        if len(set(slots)) < len(slots):
            raise ValueError("a member has at most one head of each kind")
        if any(head.member >= len(self.members) for head in self.heads):
            raise ValueError(f"there is a head of a member that is not among {len(self.members)}")
        return self

    @property
    def files(self) -> list[MemberManifest | HeadManifest | ExamplesManifest | PrescorerManifest]:
        """All that have a file."""
        others = [self.prescorer, *(head.examples for head in self.heads)]
        return [*self.members, *self.heads, *(one for one in others if one is not None)]

    @property
    def added_classes(self) -> tuple[str, ...]:
        """The classes that heads add to those of the networks."""
        return self.classes[len(self.network_classes) :]

    @property
    def network_classes(self) -> tuple[str, ...]:
        """The classes of the networks, without the added ones."""
        added = sum(head.kind == "class" for head in self.heads)
        return self.classes[: len(self.classes) - added]

    def heads_in_use(
        self, *, svm: bool, regression: bool, members: int | None = None
    ) -> tuple[HeadManifest, ...]:
        """The heads of added classes and of the requested kinds. Raises SettingsError where a
        member lacks a requested kind.

        members  how many of the first networks are in use; None is all
        """
        kinds = {"class"} | ({"svm"} if svm else set()) | ({"regression"} if regression else set())
        count = members or len(self.members)
        chosen = tuple(h for h in self.heads if h.kind in kinds and h.member < count)
        for kind in sorted(kinds - {"class"}):
            without = set(range(count)) - {head.member for head in chosen if head.kind == kind}
            if without:
                raise SettingsError(
                    f"the bundle has no {kind} head for member {min(without)};"
                    " fit one with inception-rcnn fit heads, or leave it off"
                )
        return chosen
