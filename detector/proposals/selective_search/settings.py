"""The settings of selective search, each with its source and its range."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from detector.proposals.selective_search.filters import SMOOTH_BITS
from detector.proposals.selective_search.strategies import (
    ParsedStrategy,
    PresetName,
    Strategy,
    preset,
)
from detector.seeds import Seed
from detector.settings import Settings

RankingName = Literal["paper", "area", "learned"]


class SelectiveSearchSettings(Settings):
    """Settings that determine the proposals; the number of threads is not one of them."""

    engine: Literal["selective-search"] = "selective-search"
    preset: PresetName = "fast"
    """`single`, `fast` or `quality`: 1, 8 or 80 strategies (section 5.1 of the paper)."""
    strategies: tuple[ParsedStrategy, ...] | None = Field(None, min_length=1, max_length=1000)
    """A free choice instead of a preset: Strategy values or texts such as "HSV-100-CTSF"."""
    superpixel_scale: float = Field(2.0, ge=0.01, le=100)
    """Multiplies k and min_size. GoogLeNet section 8 doubles the superpixel size; 1 is the paper's
    own.
    """
    min_size: int | None = Field(None, ge=1, le=1_000_000)
    """Pixels below which a superpixel joins a neighbour, before scaling; None is k, as in the
    authors' code.
    """
    sigma: float = Field(0.8, ge=0, le=10)
    """Smoothing before the segmentation, in pixels; 0 is none, and nothing is below 0.01."""
    longest_side: int | None = Field(500, ge=16, le=100_000)
    """Larger images are shrunk to this longer side (R-CNN's width-500 mode); None is full
    resolution.
    """
    min_box_side: int = Field(20, ge=1, le=100_000)
    """Narrower boxes are dropped, in pixels of the computation (the authors' code: 20)."""
    max_area_fraction: float = Field(1.0, gt=0, le=1)
    """Boxes above this share of the image are dropped; the whole image itself always stays."""
    max_boxes: int | None = Field(None, ge=1, le=10_000_000)
    """Keep the first so many in rank order; None keeps all."""
    stop_at: int | None = Field(None, ge=1, le=10_000_000)
    """Begin no further colour space once so many distinct boxes are found; None runs every
    strategy.
    """
    ranking: RankingName = "paper"
    """`paper`: position times chance; `area`: share of the image times chance; `learned`: by
    learned_ranking.py, without chance.
    """
    seed: Seed = 0

    @field_validator("sigma")
    @classmethod
    def _wide_or_none(cls, sigma: float) -> float:
        if 0 < sigma < 0.01:
            raise ValueError("it is 0, or at least 0.01")
        return sigma

    @field_validator("strategies")
    @classmethod
    def _distinct(cls, chosen: tuple[Strategy, ...] | None) -> tuple[Strategy, ...] | None:
        if chosen and len(set(chosen)) < len(chosen):
            raise ValueError("the same strategy is given twice")
        return chosen

    @model_validator(mode="after")
    def _one_choice(self) -> SelectiveSearchSettings:
        if self.strategies is not None and "preset" in self.model_fields_set:
            raise ValueError("give preset or strategies, not both")
        return self

    def chosen(self) -> tuple[Strategy, ...]:
        """Strategies to run, in the order of the preset or of the list."""
        return self.strategies if self.strategies is not None else preset(self.preset)

    def scaled_k(self, strategy: Strategy) -> int:
        """Scaled k of a strategy, in the 1/128 grey levels of the edge weights."""
        return max(1, round(strategy.k * self.superpixel_scale * (1 << SMOOTH_BITS)))

    def least_pixels(self, strategy: Strategy) -> int:
        """Scaled min_size of a strategy, in pixels."""
        base = strategy.k if self.min_size is None else self.min_size
        return max(1, round(base * self.superpixel_scale))
