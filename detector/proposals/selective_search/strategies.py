"""Strategies (section 3.2) and the published presets.

A strategy is a colour space, a threshold k and a set of similarities.
"""

from itertools import product
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from detector.proposals.selective_search.colour import COLOURS, ColourName
from detector.settings import Settings

PresetName = Literal["single", "fast", "quality"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)
TERMS = "CTSF"  # colour, texture, size, fill


class Strategy(Settings):
    """One hierarchy: `Strategy(colour="HSV", k=100, terms="CTSF")`, in short "HSV-100-CTSF"."""

    colour: ColourName
    k: float = Field(ge=1, le=100_000)
    """Felzenszwalb-Huttenlocher's k, for grey levels 0..255: larger means larger superpixels."""
    terms: str = Field(min_length=1, pattern="^C?T?S?F?$")
    """The similarities that are added up, letters of CTSF in that order."""

    def __str__(self) -> str:
        return f"{self.colour}-{self.k:g}-{self.terms}"


def parse(text: object) -> object:
    """Parse "HSV-100-CTSF" into the fields of a Strategy; other types are returned as they are."""
    if not isinstance(text, str):
        return text
    parts = text.split("-")
    if len(parts) != 3:
        raise ValueError(
            f"{text!r} is not COLOUR-K-TERMS, such as HSV-100-CTSF; colours: {', '.join(COLOURS)}"
        )
    return dict(zip(("colour", "k", "terms"), parts, strict=True))


ParsedStrategy = Annotated[Strategy, BeforeValidator(parse)]


# Colour spaces, k and similarities of the paper's three versions, all of which are combined.
_PUBLISHED: dict[PresetName, tuple[tuple[ColourName, ...], tuple[int, ...], tuple[str, ...]]] = {
    "single": (("HSV",), (100,), ("CTSF",)),
    "fast": (("HSV", "Lab"), (50, 100), ("CTSF", "TSF")),
    "quality": (("HSV", "Lab", "rgI", "H", "I"), (50, 100, 150, 300), ("CTSF", "TSF", "F", "S")),
}


def preset(name: PresetName) -> tuple[Strategy, ...]:
    """Strategies of a published preset: 1, 8 or 80 (section 5.1)."""
    colours, ks, terms = _PUBLISHED[name]
    return tuple(Strategy(colour=c, k=k, terms=t) for c, k, t in product(colours, ks, terms))
