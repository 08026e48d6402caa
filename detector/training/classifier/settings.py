"""Settings of a classifier's training. The named recipes are values of these (recipes.py)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from detector.models.traits import traits_of
from detector.settings import Settings
from detector.training.augment import AugmentSettings
from detector.training.classifier.patches import PatchSettings
from detector.training.engine.optimisers import DescentSettings

# Input sizes, from and to, of the auxiliary heads as published: GoogLeNet's has a layer on a map of
# 4 x 4, v2's and v3's a 5x5 convolution behind a pool.
AUXILIARY_SIDES = {
    "googlenet": (224, 224), "bn_googlenet": (224, 224),
    "inception_v2": (299, 1024), "inception_v3": (299, 1024),
}  # fmt: skip


class ImageSource(Settings):
    """The labelled images; their layout is recognised."""

    path: str | None = None
    validate_on: str | None = None
    """Another place for the validation images; None is the set's own `val`, if it has one."""
    images: int | None = Field(None, ge=1)
    """A fixed, evenly spaced subset of the training images."""


class NetworkSettings(Settings):
    """The network, its start, and its input."""

    architecture: str = "bn_googlenet"
    options: dict[str, Any] = {}
    input_size: int = Field(224, ge=32, le=1024)
    weights: str | None = None
    """Known outside weights or our own file; None starts at random."""
    pixel_scale: float = Field(1.0, gt=0)
    """Crops are multiplied by this while training: 255 for GoogLeNet v1, whose response
    normalisation was made for pixels of 0..255. The first layer takes it over when it is saved.
    """
    frozen_norm: bool = False
    """Keep the statistics of batch normalisation. Otherwise each process has those of its own part
    of a batch, and results depend on the number of processes.
    """

    @model_validator(mode="after")
    def _last_map_is_not_empty(self) -> NetworkSettings:
        min_side = traits_of(self.architecture).min_side
        if self.input_size < min_side:
            raise ValueError(f"{self.architecture} needs an input_size of {min_side} or more")
        return self

    @model_validator(mode="after")
    def _grid_fits_auxiliary_heads(self) -> NetworkSettings:
        low, high = AUXILIARY_SIDES.get(self.architecture, (32, 1024))
        published = self.options.get("auxiliary") and not self.options.get("adaptive_auxiliary")
        if published and not low <= self.input_size <= high:
            any_size = "adaptive_auxiliary=true or network.options." if high > low else ""
            raise ValueError(
                f"the auxiliary heads of {self.architecture} need an input_size of {low}"
                + (" or more" if high > low else "")
                + f"; or set network.options.{any_size}auxiliary=false"
            )
        return self


class OptimiserSettings(DescentSettings):
    """Optimiser and schedule. Lengths are in epochs, and may be fractions."""

    epochs: float = Field(100.0, gt=0)
    batch: int = Field(256, ge=1)
    """Images a step, over all processes and accumulated parts."""
    auxiliary_weight: float = Field(0.3, ge=0)
    """Weight of each auxiliary head's loss, where the network has them."""
    validate_every: float = Field(1.0, gt=0, allow_inf_nan=True)
    """Epochs."""


class ClassifierTrainingConfig(Settings):
    """All settings of a run."""

    recipe: str = "modern"
    data: ImageSource = ImageSource()
    network: NetworkSettings = NetworkSettings()
    patches: PatchSettings = PatchSettings()
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()

    def of_member(self, number: int) -> ClassifierTrainingConfig:
        """The settings of one member of an ensemble: the same start and rates, other patches in
        another order (arXiv 1409.4842, section 7).
        """
        return self.model_copy(update={"optimiser": self.optimiser.of_member(number)})
