"""Training and fitting from Python, as the commands `train` and `fit` do them; imported on first
use.

    from detector.training import RunContext, train_regions
    train_regions(settings, RunContext(Path("runs/mine")))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # checkers cannot follow __getattr__
    from detector.training.engine.context import RunContext as RunContext
    from detector.training.heads.fit_classes import fit as fit
    from detector.training.heads.fit_classes import fit_classes as fit_classes
    from detector.training.heads.fit_heads import fit_heads as fit_heads
    from detector.training.heads.fit_heads import fit_heads_on_bank as fit_heads_on_bank
    from detector.training.heads.temperature import fit_temperature as fit_temperature
    from detector.training.regions.auto_settings import choose_settings as choose_settings
    from detector.training.regions.run import train_regions as train_regions
    from detector.training.regions.settings import RegionTrainingConfig as RegionTrainingConfig

_HOME = {
    "RegionTrainingConfig": "regions.settings",
    "RunContext": "engine.context",
    "choose_settings": "regions.auto_settings",
    "fit": "heads.fit_classes",
    "fit_classes": "heads.fit_classes",
    "fit_heads": "heads.fit_heads",
    "fit_heads_on_bank": "heads.fit_heads",
    "fit_temperature": "heads.temperature",
    "train_regions": "regions.run",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {[*_HOME]}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
