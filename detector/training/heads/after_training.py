"""Heads at the end of a training, on the maps that it kept."""

from __future__ import annotations

import typer

from detector.detection.bundle import load_bundle, save_heads
from detector.errors import TrainingError
from detector.models.inference.prepare import fastest_precision
from detector.training.engine.context import RunContext
from detector.training.heads.bank_features import BankFeatures
from detector.training.heads.fitting import fit_all, thresholds_with
from detector.training.regions.settings import RegionTrainingConfig


def fit_heads_of_run(settings: RegionTrainingConfig, context: RunContext) -> bool:
    """Fit what `settings.heads` asks for, and put it to use in the bundle of the run. False, and a
    sentence on stderr, where there is too little to fit on; the bundle is then without them.
    """
    how, bundle = settings.heads, context.out / "bundle"
    if not (how.svm or how.regression):
        return True
    loaded = load_bundle(bundle)
    fast = fastest_precision(context.device)
    kept = BankFeatures(loaded, context, "bfloat16" if fast == "bfloat16" else "float32")
    recipe = {"data": f"{len(kept.dataset)} images, the bank of the training", "seed": how.seed}
    try:
        fitted = fit_all(kept, kept.classes, how.svm, how.regression, how.seed, recipe)
    except TrainingError as error:
        typer.echo(f"{bundle} is without heads: {error}", err=True)
        return False
    save_heads(bundle, bundle, fitted, thresholds_with(loaded.manifest, fitted, True))
    if not context.quiet:
        typer.echo(f"fitted {', '.join(sorted({head.kind for head, _ in fitted}))}", err=True)
    return True
