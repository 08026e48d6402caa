"""What a training says and leaves: an early report, a journal, its settings, the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from detector.models.weights.classifier_file import save_classifier
from detector.training.classifier.report import describe_images

if TYPE_CHECKING:
    from detector.training.classifier.inputs import Learning

CLASSIFIER = "classifier.safetensors"


def report(learning: Learning) -> None:
    """What will be learnt from and for how long, before hours are spent on it."""
    settings, how = learning.settings, learning.settings.optimiser
    for line in (
        *describe_images("learn", learning.images), *describe_images("judge", learning.judged)
    ):  # fmt: skip
        typer.echo(line, err=True)
    typer.echo(
        f"{settings.network.architecture} at {settings.network.input_size} pixels; recipe"
        f" {settings.recipe}, {learning.last} steps of {how.batch} images",
        err=True,
    )
    if how.warmup >= how.epochs:
        typer.echo(
            f"  warning: the rate only rises: its warm-up has {how.warmup:g} epochs, the training"
            f" {how.epochs:g}; set optimiser.warmup",
            err=True,
        )


def say_what_to_try(folders: Sequence[Path], unfinished: str = "") -> None:
    """Where the classifiers are, and how they are judged: the members together.

    unfinished  how far a training came that was stopped
    """
    files = [folder / CLASSIFIER for folder in folders]
    given = " ".join(f"--weights {file}" for file in files)
    wrote = str(files[0]) if len(files) == 1 else f"{len(files)} members"
    at = f" of {unfinished}" if unfinished else ""
    typer.echo(
        f"wrote {wrote}{at}; try: inception-rcnn evaluate classifier {given} --data VAL", err=True
    )


def write_classifier(out: Path, learning: Learning, state: Any, network: Any, reached: int) -> None:
    """The averaged weights with what they are; so many steps are done."""
    seen = learning.settings.network
    unfinished = f"step {reached} of {learning.last}" if reached < learning.last else ""
    save_classifier(
        out / CLASSIFIER, state, architecture=seen.architecture, options=seen.options,
        input_size=seen.input_size, classes=learning.images.classes,
        normalisation=network.normalisation, pixel_scale=seen.pixel_scale, unfinished=unfinished,
    )  # fmt: skip
