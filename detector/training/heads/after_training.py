"""Fitting of heads at the end of a training, on the maps of its bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from detector.detection.bundle import load_bundle, save_heads
from detector.errors import TrainingError
from detector.models.inference.prepare import Precision, fastest_precision
from detector.training.heads.bank_features import BankFeatures
from detector.training.heads.fitting import fit_all, thresholds_with

if TYPE_CHECKING:
    from detector.datasets import Dataset
    from detector.training.engine.context import RunContext
    from detector.training.regions.bank import RegionBank
    from detector.training.regions.settings import RegionTrainingConfig


def fit_heads_of_run(
    settings: RegionTrainingConfig, dataset: Dataset, bank: RegionBank, context: RunContext
) -> bool:
    """Fit the heads that `settings.heads` requests and enable them in the run's bundle. Returns
    False, after a sentence on stderr, where there is too little to fit on; the bundle then stays
    without them.
    """
    requested, bundle = settings.heads, context.out / "bundle"
    if settings.bank is None or not (requested.svm or requested.regression):
        return True
    loaded = load_bundle(bundle)
    precision: Precision = (
        "bfloat16" if fastest_precision(context.device) == "bfloat16" else "float32"
    )
    features = BankFeatures(dataset, bank, loaded.models, settings.bank.after, context, precision)
    data = f"{len(dataset)} images, the bank of the training"
    try:
        fitted = fit_all(features, dataset.classes, requested, data)
    except TrainingError as error:
        typer.echo(f"{bundle} is without heads: {error}", err=True)
        return False
    save_heads(bundle, bundle, fitted, thresholds_with(loaded.manifest, fitted, True))
    if not context.quiet:
        typer.echo(f"fitted {', '.join(sorted({head.kind for head, _ in fitted}))}", err=True)
    return True
