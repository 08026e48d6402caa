"""Settings of `inception-rcnn fit` and `fit heads`, as --set names them."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from detector.seeds import Seed
from detector.settings import Seconds, Settings


class FitHeadsSettings(Settings):
    """The fit of SVMs and box regression."""

    svm: bool = True
    """Fit SVMs."""
    regression: bool = True
    """Fit box regression."""
    images: int | None = Field(None, ge=1)
    """Only so many images, evenly spaced."""
    max_proposals: PositiveInt | Literal["bundle"] | None = "bundle"
    """Most regions of one image; bundle is the bundle's own number, null is all."""
    ensemble: PositiveInt | Literal["all"] = 1
    """Members of the bundle that get heads."""
    cache: Path | None = None
    """Folder of features and proposals; null is OUT.features."""
    data_root: Path = Path()
    """With --bank: where that training's data paths begin."""
    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    seed: Seed = 0
    """Seed of what is drawn."""
    strict: bool = False
    """Exit code 1 if an image cannot be read; else a warning."""

    @property
    def members(self) -> int | None:
        """Members of the bundle in use; None is all."""
        return None if self.ensemble == "all" else self.ensemble

    @property
    def proposal_limit(self) -> int | None:
        """As the loaders take it: 0 is all regions, None the bundle's own number."""
        return None if self.max_proposals == "bundle" else self.max_proposals or 0  # null: all


class FitClassesSettings(Settings):
    """The fit of new classes from a few boxes."""

    boxes: int = Field(100, ge=5)
    """Most boxes of a class that are used."""
    crops: int | None = Field(None, ge=100)
    """Most regions that are classified, about; null is 4,000, or what `budget` allows."""
    budget: Seconds | None = None
    """Time for all of it, such as 90s or 10m; the speed of this machine decides on the regions."""
    max_proposals: PositiveInt | None = None
    """Most regions of one image, here and in the new bundle; null is the bundle's own number."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; null is all cores."""
    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    seed: Seed = 0
    """Seed of what is drawn."""
    strict: bool = False
    """Exit code 1 if an image cannot be read; else a warning."""
