"""Settings of a bank of feature maps (feature_bank.py)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detector.seeds import Seed
from detector.settings import Settings


class BankSettings(Settings):
    """Which regions of a data set are kept, and where the network is cut."""

    after: str = "4e"
    """The trunk ends behind this module (and the pool that follows it)."""
    positives_per_object: int = Field(6, ge=1)
    """The annotated box, and other regions of the object by lot."""
    background_per_image: int = Field(16, ge=0)
    """Half of them near an object (sampling.near_iou), where there are so many."""
    partial_share: float = Field(0.4, ge=0, le=1)
    """Of both numbers, in images where only some classes are annotated."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which the trunk is computed; the maps are kept in float16 either way. bfloat16 takes half
    the time on a processor that multiplies it in hardware.
    """
    seed: Seed = 0
