"""Heads at the end of a training, on the maps that it kept."""

from __future__ import annotations

import typer
from region_training.inputs import Places

from detector.bundle import load_bundle, save_heads
from detector.models.inference import fastest_precision
from detector.training.region_settings import RegionTrainingConfig
from head_fitting.bank_features import BankFeatures
from head_fitting.fitting import fit_all, thresholds_with


def fit_heads_of_run(settings: RegionTrainingConfig, places: Places) -> None:
    """Fit what `settings.heads` asks for, and put it to use in the bundle of the run."""
    how, bundle = settings.heads, places.out / "bundle"
    if not (how.svm or how.regression):
        return
    loaded = load_bundle(bundle)
    fast = fastest_precision(places.device)
    kept = BankFeatures(loaded, places, "bfloat16" if fast == "bfloat16" else "float32")
    recipe = {"data": f"{len(kept.dataset)} images, the bank of the training", "seed": how.seed}
    fitted = fit_all(kept, kept.classes, how.svm, how.regression, how.seed, recipe)
    save_heads(bundle, bundle, fitted, thresholds_with(loaded.manifest, fitted, True))
    if not places.quiet:
        typer.echo(f"fitted {', '.join(sorted({head.kind for head, _ in fitted}))}", err=True)
