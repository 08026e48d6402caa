"""Settings of `inception-rcnn data check --weights`, as --set names them."""

from typing import Literal

from pydantic import Field, PositiveInt

from detector.settings import Settings


class WrongLabelSettings(Settings):
    """A detector that looks for wrong labels; thresholds of suppression are the bundle's."""

    ensemble: PositiveInt | Literal["all"] = 1
    """Members of the bundle in use."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: str = "auto"
    """auto, float32, bfloat16 or int8."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; null is all cores."""
    pictures: int = Field(100, ge=0, le=2000)
    """Suspects on the page; the JSON and the CSV hold all."""
