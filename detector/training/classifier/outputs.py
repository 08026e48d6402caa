"""Outputs of a classifier's training: an early report, and the classifier's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from detector.models.weights.classifier_file import save_classifier
from detector.training.classifier.report import describe_images

if TYPE_CHECKING:
    from detector.training.classifier.inputs import TrainingSetup

CLASSIFIER = "classifier.safetensors"


def report(setup: TrainingSetup) -> None:
    """Say on stderr what will be learnt from and for how long, before hours are spent on it."""
    settings, optimiser = setup.settings, setup.settings.optimiser
    for line in (
        *describe_images("learn", setup.images), *describe_images("judge", setup.validation)
    ):  # fmt: skip
        typer.echo(line, err=True)
    typer.echo(
        f"{settings.network.architecture} at {settings.network.input_size} pixels; recipe"
        f" {settings.recipe}, {setup.last} steps of {optimiser.batch} images",
        err=True,
    )
    if optimiser.warmup >= optimiser.epochs:
        typer.echo(
            f"  warning: the rate only rises: its warm-up has {optimiser.warmup:g} epochs, the"
            f" training {optimiser.epochs:g}; set optimiser.warmup",
            err=True,
        )


def say_what_to_try(folders: Sequence[Path], unfinished: str = "") -> None:
    """Name the finished classifiers, and the command that evaluates them together.

    unfinished  how far a training came that was stopped
    """
    files = [folder / CLASSIFIER for folder in folders]
    given = " ".join(f"--weights {file}" for file in files)
    wrote = str(files[0]) if len(files) == 1 else f"{len(files)} members"
    at = f" of {unfinished}" if unfinished else ""
    typer.echo(
        f"wrote {wrote}{at}; try: inception-rcnn evaluate classifier {given} --data VAL", err=True
    )


def write_classifier(
    out: Path, setup: TrainingSetup, state: Any, network: Any, reached: int
) -> None:
    """Write the averaged weights with their description."""
    chosen = setup.settings.network
    unfinished = f"step {reached} of {setup.last}" if reached < setup.last else ""
    save_classifier(
        out / CLASSIFIER, state, architecture=chosen.architecture, options=chosen.options,
        input_size=chosen.input_size, classes=setup.images.classes,
        normalisation=network.normalisation, pixel_scale=chosen.pixel_scale, unfinished=unfinished,
    )  # fmt: skip
